package sideeffect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// fileIdentity is a file by name, confined to a root.
type fileIdentity struct {
	layer Layer
	root  *os.Root
	name  string
}

// File is the file called name below root, which stays the caller's and must be
// open whenever a source or sink is opened. The name follows the grammar of
// relpath.Parse; symbolic links are followed as long as they stay below root.
// Anything but a regular file is fault.Invalid, and so is a name that IsOwn. A
// sink does not make directories: where the file's is missing, that is
// fault.NotFound.
func File(root *os.Root, name string) Identity { return FileOn(osLayer{}, root, name) }

// FileOn is File with the sink's operations going through layer.
func FileOn(layer Layer, root *os.Root, name string) Identity {
	return fileIdentity{layer: layer, root: root, name: name}
}

func (f fileIdentity) String() string { return fmt.Sprintf("file %q", f.name) }

func (f fileIdentity) path(op string) (relpath.Path, error) {
	if f.root == nil {
		return relpath.Path{}, fault.NewLocal(op, fault.Invalid, "file without a root").Advise("open one with os.OpenRoot")
	}
	p, err := relpath.Parse(f.name)
	if err != nil {
		return p, fault.Wrap(op, "", err)
	}
	return p, RefuseOwn(op, p)
}

func (f fileIdentity) OpenSource(spec SourceSpec) (Source, error) {
	const op = "open source"
	p, err := f.path(op)
	if err != nil {
		return nil, err
	}
	// O_NONBLOCK: opening a FIFO must not wait for its other end.
	file, err := f.root.OpenFile(p.String(), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, f.refused(op, err)
	}
	s, err := newFileSource(file, f.name, spec.Offset)
	if err != nil {
		file.Close()
		return nil, err
	}
	if l, ok := f.layer.(ReadLayer); ok {
		s.reads = l.Reads(file)
	}
	s.owned = true
	return s, nil
}

func (f fileIdentity) OpenSink(spec SinkSpec) (Sink, error) {
	const op = "open sink"
	p, err := f.path(op)
	if err != nil {
		return nil, err
	}
	if err := checkSinkSpec(spec); err != nil {
		return nil, err
	}
	dir, err := f.layer.Dir(f.root, p.Dir())
	if err != nil {
		return nil, f.refused(op, err)
	}
	var s Sink
	if spec.Mode == Replace || spec.Mode == CreateNew {
		s, err = openStaged(dir, p.Base(), spec)
	} else {
		s, err = openInPlace(dir, p.Base(), spec)
	}
	if err != nil {
		dir.Close()
		return nil, f.refused(op, err)
	}
	return s, nil
}

// refused is err with a kind for what the system says only about names: a
// root's own refusal, which has no number, and links that go round; and for a root that is closed, which nobody has cancelled.
func (f fileIdentity) refused(op string, err error) error {
	if errors.Is(err, fs.ErrClosed) {
		return errUsedClosed(op, f.name, "its root is closed: keep it open until the call is over")
	}
	var pe *fs.PathError
	if errors.As(err, &pe) && fault.KindOf(err) == fault.Internal {
		e := fault.New(op, fault.Permission, "the name leads out of its root (%w)", err)
		e.Subject = f.name
		return e
	}
	if errors.Is(err, unix.ELOOP) {
		return &fault.Error{Op: op, Kind: fault.Invalid, Subject: f.name, Err: err}
	}
	return fault.Wrap(op, f.name, err)
}

func (f fileIdentity) ResumePoint(ctx context.Context, spec SinkSpec) (ResumePoint, error) {
	const op = "read resume state"
	p, err := f.path(op)
	if err != nil {
		return ResumePoint{}, nil
	}
	partial := partialName(p.Base(), spec.Key)
	if _, err := f.root.Lstat(path.Join(p.Dir().String(), partial)); errors.Is(err, fs.ErrNotExist) { // mostly, and that is soon said
		return ResumePoint{}, nil
	}
	var point ResumePoint
	dir, err := f.layer.Dir(f.root, p.Dir())
	if err == nil {
		defer dir.Close()
		point, err = loadPoint(ctx, dir, partial, spec.Check)
	}
	switch {
	case err == nil:
		return point, nil
	case ctx.Err() != nil:
		return ResumePoint{}, fault.Wrap(op, f.name, context.Cause(ctx))
	case fault.KindOf(err) == fault.Overloaded:
		return ResumePoint{}, fault.Wrap(op, f.name, err)
	}
	return ResumePoint{}, nil
}

// errUsedClosed is an identity that its owner has closed too early.
func errUsedClosed(op, subject, what string) error {
	e := fault.NewLocal(op, fault.Invalid, "%s", what)
	e.Subject = subject
	return e
}

// checkSinkSpec refuses what no file sink can do.
func checkSinkSpec(spec SinkSpec) error {
	switch {
	case spec.Mode > AtOffset:
		return fault.NewLocal("open sink", fault.Invalid, "mode %d is not known", spec.Mode)
	case spec.Offset < 0:
		return fault.NewLocal("open sink", fault.Invalid, "offset is %d", spec.Offset).Advise("set Offset to 0 or more")
	case spec.Offset > 0 && spec.Mode != AtOffset:
		return fault.NewLocal("open sink", fault.Invalid,
			"offset %d with mode %v", spec.Offset, spec.Mode).Advise("set Mode to AtOffset, or Offset to 0")
	case spec.Keep && spec.Mode != Replace && spec.Mode != CreateNew:
		return fault.NewLocal("open sink", fault.Invalid, "resume with mode %v", spec.Mode).Advise("set Mode to Replace or CreateNew")
	}
	return nil
}

// mustBeRegular refuses directories, FIFOs, sockets and devices.
func mustBeRegular(op, subject string, fi fs.FileInfo) error {
	if fi.Mode().IsRegular() {
		return nil
	}
	e := fault.New(op, fault.Invalid, "it is not a regular file (mode %s)", fi.Mode().String()) // as a string it stays here
	e.Subject = subject
	return e
}
