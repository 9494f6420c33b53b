package sideeffect

import (
	"errors"
	"io/fs"
	"os"

	"github.com/pannier/pannier/spec/fault"
)

// inPlace is the sink of Truncate, Append and AtOffset: it writes into the file
// itself.
type inPlace struct {
	writer
	dir     Dir // nil: the file has no name here
	base    string
	append  bool
	created bool // by this sink: Abort removes it
	over    bool
	closed  bool
}

func openInPlace(dir Dir, base string, spec SinkSpec) (*inPlace, error) {
	s := &inPlace{dir: dir, base: base, append: spec.Mode == Append}
	s.name, s.noSync = base, spec.NoSync
	if err := s.openFile(); err != nil {
		return nil, err
	}
	if err := s.prepare(spec); err != nil {
		return nil, errors.Join(err, s.undo(), s.file.Close())
	}
	return s, nil
}

// openFile opens the existing file or creates it, and knows which.
func (s *inPlace) openFile() error {
	if fi, err := s.dir.Lstat(s.base); err == nil && fi.Mode()&fs.ModeSymlink == 0 {
		if err := mustBeRegular("open sink", s.base, fi); err != nil {
			return err
		}
	}
	f, err := openRegular(s.dir, s.base, os.O_WRONLY)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = s.dir.OpenFile(s.base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		s.created = err == nil
	}
	s.file = f
	return err
}

// prepare finds where writing starts.
func (s *inPlace) prepare(spec SinkSpec) error {
	switch spec.Mode {
	case Truncate:
		return s.file.Truncate(0)
	case AtOffset:
		s.start = spec.Offset
	case Append:
		if s.dir != nil { // two appenders would take the same offset
			if err := s.file.Lock(); err != nil {
				return err
			}
		}
		fi, err := s.file.Stat()
		if err != nil {
			return err
		}
		s.start = fi.Size()
	default:
		return fault.NewLocal("open sink", fault.Invalid,
			"it has no name to put content under in one step").Advise("set Mode to Truncate, Append or AtOffset")
	}
	return nil
}

func (s *inPlace) Commit() error {
	if s.over {
		return fault.NewLocal("commit file", fault.Internal, "%q is committed or aborted already", s.name)
	}
	if err := s.syncAll(); err != nil {
		return err
	}
	s.over = true
	if s.dir == nil || !s.created || s.noSync {
		return nil
	}
	return fault.Wrap("sync directory", s.name, s.dir.Sync())
}

func (s *inPlace) Abort(bool) error {
	if s.over {
		return nil
	}
	return s.undo()
}

// undo removes what this sink created and cuts off what it appended. Bytes
// overwritten in place are gone.
func (s *inPlace) undo() error {
	s.over = true
	switch {
	case s.created:
		if same, err := s.stillNamed(); err != nil || !same { // another has put its own file there
			return err
		}
		return fault.Wrap("remove file", s.name, s.dir.Remove(s.base))
	case s.append && s.end+s.writtenPast() > 0:
		return fault.Wrap("undo append", s.name, s.file.Truncate(s.start))
	}
	return nil
}

// stillNamed reports whether the name is still that of the open file.
func (s *inPlace) stillNamed() (bool, error) {
	mine, err := s.file.Stat()
	if err != nil {
		return false, fault.Wrap("look at file", s.name, err)
	}
	there, err := s.dir.Lstat(s.base)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(mine, there), fault.Wrap("look at file", s.name, err)
}

// writtenPast is 1 when a failed write may have left bytes behind end.
func (s *inPlace) writtenPast() int64 {
	if s.writeErr != nil {
		return 1
	}
	return 0
}

func (s *inPlace) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	err := errors.Join(s.Abort(false), s.file.Close())
	if s.dir != nil {
		err = errors.Join(err, s.dir.Close())
	}
	return err
}
