package task

import (
	"context"
	"io/fs"
	"strconv"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// chmodTask changes who may do what with a file or directory.
type chmodTask struct {
	pathTask
	mode fs.FileMode
}

func newChmod(t *Table) (Task, error) {
	n, err := strconv.ParseUint(t.Mode, 8, 32)
	if mode := fs.FileMode(n); err != nil || mode != mode.Perm() {
		return nil, invalid("mode is %q: write octal permissions, as \"0640\"", t.Mode)
	}
	p, err := newPath(t)
	return chmodTask{p, fs.FileMode(n)}, err
}

// Run implements Task. A symbolic link is not followed, because a file of somebody else's
// may be at its end.
func (c chmodTask) Run(_ context.Context, on *On) (Result, error) {
	name, err := c.name(on)
	if err != nil {
		return Result{}, err
	}
	fi, err := on.Root.Lstat(name.String())
	if err != nil {
		return Result{}, err
	}
	if !fi.Mode().IsRegular() && !fi.IsDir() {
		return Result{}, fault.New("change mode", fault.Invalid, "it is neither a file nor a directory")
	}
	return Result{}, on.Root.Chmod(name.String(), c.mode)
}

// name is what the task works on: path, or the request's file.
func (p pathTask) name(on *On) (relpath.Path, error) {
	if p.own {
		return on.File, NeedFile(on)
	}
	return p.path.Path(on.Vars)
}
