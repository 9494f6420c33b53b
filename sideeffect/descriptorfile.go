package sideeffect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pannier/pannier/spec/fault"
)

// openFile is a file that is open already.
type openFile struct{ f *os.File }

// FD is an open file. A regular one is read and written at positions of its
// own, counted from its beginning, without moving the cursor of f; it has no name to put
// content under in one step, so sinks need Truncate, Append or AtOffset. Anything
// else (pipe, socket, terminal) is used as by Reader and Writer, and by a pipe
// as both. f stays the caller's and is not closed.
func FD(f *os.File) Identity { return openFile{f} }

func (o openFile) String() string {
	if o.f == nil {
		return "no file"
	}
	return fmt.Sprintf("open file %q", o.f.Name())
}

// regular tells which way the file is used.
func (o openFile) regular(op string) (bool, error) {
	if o.f == nil {
		return false, fault.NewLocal(op, fault.Invalid, "FD of a nil file")
	}
	fi, err := o.f.Stat()
	if errors.Is(err, fs.ErrClosed) {
		return false, errUsedClosed(op, o.f.Name(), "the file is closed: keep it open until the call is over")
	}
	if err != nil {
		return false, fault.Wrap(op, o.f.Name(), err)
	}
	if fi.IsDir() {
		return false, mustBeRegular(op, o.f.Name(), fi)
	}
	return fi.Mode().IsRegular(), nil
}

func (o openFile) OpenSource(spec SourceSpec) (Source, error) {
	regular, err := o.regular("open source")
	switch {
	case err != nil:
		return nil, err
	case !regular:
		return Reader(o.f, -1).OpenSource(spec)
	}
	return newFileSource(o.f, o.f.Name(), spec.Offset)
}

func (o openFile) OpenSink(spec SinkSpec) (Sink, error) {
	regular, err := o.regular("open sink")
	switch {
	case err != nil:
		return nil, err
	case !regular:
		return Writer(unsyncable{o.f}).OpenSink(spec)
	}
	return newOpenSink(borrowed{osFile{o.f}}, o.f.Name(), spec)
}

// newOpenSink is an in-place sink of a file without a name.
func newOpenSink(f LayerFile, name string, spec SinkSpec) (*inPlace, error) {
	if err := checkUnkept(spec); err != nil {
		return nil, err
	}
	s := &inPlace{append: spec.Mode == Append}
	s.file, s.name, s.noSync = f, name, spec.NoSync
	if err := s.prepare(spec); err != nil {
		return nil, fault.Wrap("open sink", name, err)
	}
	return s, nil
}

// borrowed is a file whose owner closes it.
type borrowed struct{ LayerFile }

func (borrowed) Close() error { return nil }

// unsyncable hides Sync, which fails on pipes and sockets, and keeps the
// deadline.
type unsyncable struct{ *os.File }

// Sync has nothing to do: what a pipe or socket took is as durable as it gets.
func (unsyncable) Sync() error { return nil }
