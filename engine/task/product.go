package task

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// What tasks are written with that make a file.

// Product is the part of tasks that make another file of the request's, which then
// is the request's file.
type Product struct {
	to     Template
	named  bool
	remove bool // the file it was made of
}

// NewProduct reads to and remove. byDefault is the name unless to is set; "": it has
// to be.
func NewProduct(t *Table, byDefault string) (Product, error) {
	name := t.To
	if name == "" {
		name = byDefault
	}
	if name == "" {
		return Product{remove: t.Remove}, nil
	}
	to, err := ParseOther(name)
	return Product{to: to, named: true, remove: t.Remove}, err
}

// Named reports whether there is a name to make; without one, it is the caller's to
// tell Make.
func (p Product) Named() bool { return p.named }

// Make makes the file: fill gets the request's file, and where to write. other is the
// name where none is set. What a crash has left of it is replaced.
func (p Product) Make(ctx context.Context, on *On, other string, fill func(w io.Writer, src *os.File) error) (Result, error) {
	if err := NeedFile(on); err != nil {
		return Result{}, err
	}
	to, err := p.Target(on, other)
	if err != nil {
		return Result{}, err
	}
	src, err := OpenRegular(on.Root, on.File)
	if errors.Is(err, fs.ErrNotExist) && on.Again && p.remove && isFile(on.Root, to) {
		return Result{Moved: true, File: to}, SyncLeft(on.Root, on.File) // by an earlier run, which may not have come to that
	}
	if err != nil {
		return Result{}, err
	}
	defer src.Close()
	before, err := src.Stat()
	if err != nil {
		return Result{}, err
	}
	err = Write(ctx, on, to, func(w io.Writer) error {
		if err := fill(w, src); err != nil {
			return err
		}
		return unchanged(src, before)
	})
	if err != nil {
		return Result{}, err
	}
	return p.Done(on, to)
}

// Target is the name to make, with its directory there.
func (p Product) Target(on *On, other string) (relpath.Path, error) {
	name := other
	if p.named {
		name = p.to.Fill(on.Vars)
	}
	to, err := relpath.Parse(name)
	if err == nil {
		err = sideeffect.RefuseOwn("make name", to)
	}
	if err != nil {
		return to, err
	}
	if to == on.File {
		return to, fault.New("make name", fault.Invalid, "%q is the file itself, and a second run would begin with what the first has made: set to to another name", name)
	}
	return to, sideeffect.MakeDirs(on.Root, to.Dir())
}

// Done removes what the result was made of, if that is asked for.
func (p Product) Done(on *On, to relpath.Path) (Result, error) {
	res := Result{Moved: true, File: to}
	if !p.remove {
		return res, nil
	}
	if err := on.Root.Remove(on.File.String()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Result{}, err
	}
	return res, syncDir(on.Root, on.File)
}

// Write makes a file of what fill writes, replacing what has the name, when all of it
// is on disk. After an error there is nothing new under the name.
func Write(ctx context.Context, on *On, to relpath.Path, fill func(io.Writer) error) error {
	temp, err := TempName(on, to)
	if err != nil {
		return err
	}
	err = writeFile(ctx, on.Root, temp, fill)
	if err == nil {
		err = on.Root.Rename(temp.String(), to.String())
	}
	if err != nil {
		_ = on.Root.Remove(temp.String()) // the reason is another
		return err
	}
	return syncDir(on.Root, to)
}

// TempName is where a task makes what is to be called to: in its directory, the same
// name each time the task runs for this request.
func TempName(on *On, to relpath.Path) (relpath.Path, error) { return to.Dir().Join(copyName(on.Key)) }

// writeFile makes a file of what fill writes, on disk when it returns. Whatever else
// has the name is removed, and neither followed nor waited for.
func writeFile(ctx context.Context, root *os.Root, name relpath.Path, fill func(io.Writer) error) error {
	if err := root.Remove(name.String()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(name.String(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	err = fill(&whileWriter{ctx, f})
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// NeedFile is what tasks say that have nothing to work on.
func NeedFile(on *On) error {
	if on.File == (relpath.Path{}) {
		return fault.New("look for the file", fault.NotFound, "the request has no file any more: an earlier task has deleted it")
	}
	return nil
}

// OpenRegular opens a regular file, and nothing that could block.
func OpenRegular(root *os.Root, name relpath.Path) (*os.File, error) {
	f, err := root.OpenFile(name.String(), os.O_RDONLY|nonBlocking, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, errors.Join(fault.New("open file", fault.Invalid, "it is not a regular file"), err, f.Close())
	}
	return f, nil
}

// SyncAt makes changes of names in a directory durable.
func SyncAt(root *os.Root, dir relpath.Path) error {
	if dir.IsZero() {
		return syncAt(root, ".")
	}
	return syncAt(root, dir.String())
}

// While is a reader that ends with its context.
func While(ctx context.Context, r io.Reader) io.Reader { return &whileReader{ctx, r} }

type whileReader struct {
	ctx context.Context
	r   io.Reader
}

func (u *whileReader) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

type whileWriter struct {
	ctx context.Context
	w   io.Writer
}

func (u *whileWriter) Write(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.w.Write(p)
}
