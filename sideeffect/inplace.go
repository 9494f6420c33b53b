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
	place   *place // nil: the file has no name here
	append  bool
	created bool // by this sink: Abort removes it
	over    bool
	closed  bool
}

func openInPlace(dir Dir, base string, spec SinkSpec) (*inPlace, error) {
	for range lockTries {
		s := &inPlace{dir: dir, base: base, append: spec.Mode == Append}
		s.name, s.noSync = base, spec.NoSync
		if err := s.openFile(); err != nil {
			return nil, err
		}
		err := s.prepare(spec)
		if err != nil {
			err = errors.Join(err, s.undo())
		}
		if err == nil {
			var gone bool
			if gone, err = s.gone(); err == nil && !gone {
				return s, nil
			}
		}
		if err = errors.Join(err, s.release()); err != nil {
			return nil, err
		}
	}
	return nil, fault.New("open sink", fault.Overloaded, "other transfers to %q keep removing it; try again", base)
}

// openFile opens the existing file or creates it, and knows which. One that was there may have lost its name since: who
// made it has given up.
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
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s.file, s.place = f, inPlaces.enter(fi)
	return nil
}

// release gives the file back.
func (s *inPlace) release() error {
	err := s.file.Close()
	if s.place != nil {
		inPlaces.leave(s.place)
	}
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
				s.created = false // another has taken it over
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
	if s.place != nil {
		inPlaces.commit(s.place)
	}
	if s.dir == nil || s.noSync {
		return nil
	}
	// Also of a file that was there: who made it may not have come to that.
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
		return inPlaces.unmake(s.place, func() error {
			if same, err := s.stillNamed(); err != nil || !same { // another has put its own file there
				return err
			}
			return fault.Wrap("remove file", s.name, s.dir.Remove(s.base))
		})
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

// gone reports whether the name the file was opened by is another's now, or nobody's. A link may lead to it.
func (s *inPlace) gone() (bool, error) {
	named, err := s.stillNamed()
	if err != nil || named {
		return false, err
	}
	there, err := s.dir.Lstat(s.base)
	return err != nil || there.Mode()&fs.ModeSymlink == 0, nil
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
	err := errors.Join(s.Abort(false), s.release())
	if s.dir != nil {
		err = errors.Join(err, s.dir.Close())
	}
	return err
}
