package task

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Tasks that change names. Each of them looks first whether an earlier run, which a
// crash has ended, has done its work already.

// toTask is the part of tasks that have a target.
type toTask struct{ to Template }

func newTo(t *Table) (toTask, error) {
	if t.To == "" {
		return toTask{}, invalid("set to, a name below the rule's root, as \"archive/{date}/{name}\"")
	}
	to, err := ParseOther(t.To)
	return toTask{to}, err
}

// target is the name to make, with its directory there.
func (t toTask) target(on *On) (relpath.Path, error) {
	to, err := t.to.Path(on.Vars)
	if err != nil {
		return to, err
	}
	return to, sideeffect.MakeDirs(on.Root, to.Dir())
}

type moveTask struct{ toTask }

func newMove(t *Table) (Task, error) {
	to, err := newTo(t)
	return moveTask{to}, err
}

// Run renames the file, replacing what has the name, and makes that durable.
func (m moveTask) Run(_ context.Context, on *On) (Result, error) {
	if err := NeedFile(on); err != nil {
		return Result{}, err
	}
	to, err := m.target(on)
	if err != nil {
		return Result{}, err
	}
	res := Result{Moved: true, File: to}
	if to == on.File {
		return res, nil
	}
	err = on.Root.Rename(on.File.String(), to.String())
	if errors.Is(err, fs.ErrNotExist) && on.Again && isFile(on.Root, to) {
		return res, errors.Join(syncDir(on.Root, to), SyncLeft(on.Root, on.File)) // moved by an earlier run, which may not have come to that
	}
	if err != nil {
		return Result{}, err
	}
	return res, errors.Join(syncDir(on.Root, to), syncDir(on.Root, on.File))
}

// renameTask changes the last element of the name only.
type renameTask struct{ to Template }

func newRename(t *Table) (Task, error) {
	if t.To == "{name}" || IsFile(t.To) {
		return nil, invalid("to is the name it has: write another one, as \"{name}.new\"")
	}
	to, err := newTo(t)
	return renameTask(to), err
}

func (r renameTask) Run(ctx context.Context, on *On) (Result, error) {
	name := r.to.Fill(on.Vars)
	if p, err := relpath.Parse(name); err != nil || path.Base(p.String()) != name {
		return Result{}, fault.New("make name", fault.Invalid, "%q is not one element: use move for another directory", name)
	}
	to := Template{parts: []part{{text: path.Join(path.Dir(on.File.String()), name)}}}
	return moveTask{toTask{to}}.Run(ctx, on)
}

type copyTask struct{ toTask }

func newCopy(t *Table) (Task, error) {
	to, err := newTo(t)
	return copyTask{to}, err
}

// Run copies the file beside its target, syncs it, and renames it over the
// name. The request's file stays the original.
func (c copyTask) Run(ctx context.Context, on *On) (Result, error) {
	if err := NeedFile(on); err != nil {
		return Result{}, err
	}
	to, err := c.target(on)
	if err != nil {
		return Result{}, err
	}
	src, err := OpenRegular(on.Root, on.File)
	if err != nil {
		return Result{}, err
	}
	defer src.Close()
	return Result{}, Write(ctx, on, to, func(w io.Writer) error {
		_, err := io.Copy(w, src)
		return err
	})
}

// copyName is the name of a copy until it is whole: one for each execution, so that
// the next removes what a crash has left.
func copyName(k lifecycle.TaskKey) string {
	requester := sha256.Sum256([]byte(k.Key.Requester)) // ids of different ones may be the same
	return fmt.Sprintf(".copy-%x-%v.pannier-c", requester[:8], k)
}

type linkTask struct{ toTask }

func newLink(t *Table) (Task, error) {
	to, err := newTo(t)
	return linkTask{to}, err
}

// Run gives the file one more name. A taken name is an error unless it is a name
// of this file already.
func (l linkTask) Run(_ context.Context, on *On) (Result, error) {
	if err := NeedFile(on); err != nil {
		return Result{}, err
	}
	to, err := l.target(on)
	if err != nil {
		return Result{}, err
	}
	err = on.Root.Link(on.File.String(), to.String())
	if errors.Is(err, fs.ErrExist) {
		a, errA := on.Root.Lstat(on.File.String())
		b, errB := on.Root.Lstat(to.String())
		if errA == nil && errB == nil && os.SameFile(a, b) {
			err = nil // by an earlier run, which may not have come to what follows
		}
	}
	if err != nil {
		return Result{}, err
	}
	return Result{}, syncDir(on.Root, to)
}

// pathTask is the part of tasks about a name that need not be the file's.
type pathTask struct {
	path Template
	own  bool // no path is set: the request's file
}

func newPath(t *Table) (pathTask, error) {
	if t.Path == "" {
		return pathTask{own: true}, nil
	}
	p, err := ParseName(t.Path)
	return pathTask{path: p}, err
}

type deleteTask struct{ pathTask }

func newDelete(t *Table) (Task, error) {
	p, err := newPath(t)
	return deleteTask{p}, err
}

// Run removes a file, or an empty directory. One that is not there is removed.
func (d deleteTask) Run(_ context.Context, on *On) (Result, error) {
	name := on.File
	if !d.own {
		var err error
		if name, err = d.path.Path(on.Vars); err != nil {
			return Result{}, err
		}
	}
	res := Result{Moved: name == on.File}
	if name == (relpath.Path{}) {
		return res, nil
	}
	err := on.Root.Remove(name.String())
	if errors.Is(err, fs.ErrNotExist) {
		return res, SyncLeft(on.Root, name) // by an earlier run, which may not have come to that
	}
	if err != nil {
		return Result{}, err
	}
	return res, syncDir(on.Root, name)
}

type mkdirTask struct{ pathTask }

func newMkdir(t *Table) (Task, error) {
	if t.Path == "" {
		return nil, invalid("set path, the directory to make, as \"in/{date}\"")
	}
	p, err := newPath(t)
	return mkdirTask{p}, err
}

func (m mkdirTask) Run(_ context.Context, on *On) (Result, error) {
	name, err := m.path.Path(on.Vars)
	if err != nil {
		return Result{}, err
	}
	return Result{}, sideeffect.MakeDirs(on.Root, name)
}

// syncDir makes a change of the name durable.
func syncDir(root *os.Root, name relpath.Path) error { return syncAt(root, path.Dir(name.String())) }

// SyncLeft is syncDir for a name that is gone, perhaps with its directory.
func SyncLeft(root *os.Root, name relpath.Path) error {
	err := syncDir(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

var syncFile = (*os.File).Sync // for tests

func syncAt(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(syncFile(d), d.Close())
}

// isFile reports whether there is a regular file of that name.
func isFile(root *os.Root, name relpath.Path) bool {
	fi, err := root.Stat(name.String())
	return err == nil && fi.Mode().IsRegular()
}
