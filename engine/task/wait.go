package task

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// waitTask waits for a file of another name, as the one that says that all of a batch
// are there. Its timeout is the task's.
type waitTask struct {
	pathTask
	age time.Duration
}

func newWait(t *Table) (Task, error) {
	if t.Path == "" {
		return nil, invalid("set path, the name of the file to wait for, as \"{dir}/{stem}.ready\"")
	}
	p, err := newPath(t)
	return waitTask{p, time.Duration(t.MinAge)}, err
}

// waitEvery is how often a file that is not there is looked for.
const waitEvery = time.Second

// Run implements Task.
func (w waitTask) Run(ctx context.Context, on *On) (Result, error) {
	name, err := w.path.Path(on.Vars)
	if err != nil {
		return Result{}, err
	}
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	for {
		fi, err := on.Root.Stat(name.String())
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return Result{}, err
		case err == nil && !fi.Mode().IsRegular():
			return Result{}, fault.New("wait for file", fault.Invalid, "%s is not a regular file", name)
		case err == nil && time.Since(fi.ModTime()) >= w.age:
			return Result{}, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
	}
}
