package sideeffect

import (
	"errors"
	"io/fs"
	"os"

	"github.com/pannier/pannier/spec/fault"
)

// allocateFrom is the announced size, in bytes, from which room is reserved
// before the first byte, so that a full disk is found out early.
const allocateFrom = 1 << 20

// staged is the sink of Replace and CreateNew: content goes to a temporary in
// the target's directory and gets the target's name when it is complete.
//
//	open -> Commit: sync file -> rename (or link) -> sync directory
//	     -> Abort: remove, or leave partial and state
type staged struct {
	writer
	dir    Dir
	base   string
	temp   string
	create bool        // CreateNew
	old    bool        // there is a target to replace
	perm   fs.FileMode // of it
	keep   bool
	from   ResumePoint
	kept   int64 // offset in the state file
	stated bool  // this sink has found or written a state file
	over   bool  // committed or aborted
	closed bool
	room   int64 // bytes reserved for the file before the first write
}

func openStaged(dir Dir, base string, spec SinkSpec) (*staged, error) {
	s := &staged{dir: dir, base: base, create: spec.Mode == CreateNew, keep: spec.Keep}
	s.name, s.noSync, s.track = base, spec.NoSync, spec.Keep
	if err := s.lookAtTarget(); err != nil {
		return nil, err
	}
	var err error
	if s.keep {
		err = s.openPartial(spec)
	} else {
		s.temp = tempName(base)
		s.file, err = dir.OpenFile(s.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, s.filePerm())
	}
	if err != nil {
		return nil, err
	}
	if spec.Size >= allocateFrom && spec.Size > s.end {
		s.room = spec.Size
		if err := s.file.Allocate(spec.Size); err != nil {
			return nil, errors.Join(fault.Wrap("reserve room", base, err), s.discard(true), s.file.Close())
		}
	}
	return s, nil
}

// lookAtTarget refuses what must not be replaced. The check is for the
// caller's sake; what decides is the rename or link at the end.
func (s *staged) lookAtTarget() error {
	fi, err := s.dir.Lstat(s.base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case s.create:
		e := fault.New("open sink", fault.Exists, "a file has that name, and none is to be replaced")
		e.Subject = s.base
		return e
	}
	s.old, s.perm = true, fi.Mode().Perm()
	return mustBeRegular("replace file", s.base, fi)
}

// filePerm keeps what is secret in the old file secret in the temporary; the
// owner has to come back to a partial one.
func (s *staged) filePerm() fs.FileMode {
	if s.old {
		return s.perm | 0o600
	}
	return 0o666
}

func (s *staged) Commit() error { return s.CommitNoted(nil) }

// CommitNoted implements Namer. note may be nil.
func (s *staged) CommitNoted(note func(Version) error) error {
	if s.over {
		return fault.NewLocal("commit file", fault.Internal, "%q is committed or aborted already", s.base)
	}
	if s.old {
		if err := s.file.Chmod(s.perm); err != nil {
			return fault.Wrap("commit file", s.base, err)
		}
	}
	if err := s.trim(); err != nil {
		return fault.Wrap("commit file", s.base, err)
	}
	if err := s.syncAll(); err != nil {
		return err
	}
	if note != nil {
		fi, err := s.file.Stat()
		if err == nil {
			err = note(VersionOf(fi))
		}
		if err != nil {
			return fault.Wrap("commit file", s.base, err)
		}
	}
	if err := s.publish(); err != nil {
		return fault.Wrap("commit file", s.base, err)
	}
	s.over = true
	if s.stated {
		s.dropState()
	}
	if s.noSync {
		return nil
	}
	return fault.Wrap("sync directory", s.base, s.dir.Sync())
}

// trim gives back what was reserved and not used, which the file system keeps otherwise.
func (s *staged) trim() error {
	if s.room <= s.start+s.end {
		return nil
	}
	return fault.Wrap("give room back", s.base, s.file.Truncate(s.start+s.end))
}

// publish gives the content its name in one step.
func (s *staged) publish() error {
	if err := s.stillNamed(); err != nil {
		return err
	}
	if !s.create {
		return s.dir.Rename(s.temp, s.base)
	}
	// A link, unlike a rename, cannot take the place of a file that came meanwhile.
	if err := s.dir.Link(s.temp, s.base); err != nil {
		return err
	}
	_ = s.dir.Remove(s.temp) // it has its name; the other one is only in the way, and openPartial knows it
	return nil
}

// stillNamed refuses to give the name to another file than the one that was written:
// whoever removes or replaces files here does not know of locks.
func (s *staged) stillNamed() error {
	mine, err := s.file.Stat()
	if err != nil {
		return err
	}
	named, err := s.dir.Lstat(s.temp)
	if err == nil && !os.SameFile(mine, named) {
		err = fault.New("name file", fault.Stale, "what was written to has been replaced by another file")
	}
	return err
}

func (s *staged) Abort(keep bool) error {
	if s.over {
		return nil
	}
	return s.discard(keep && s.keep)
}

// discard ends the sink without publishing; keep leaves partial and state.
func (s *staged) discard(keep bool) error {
	s.over = true
	if keep && s.kept > 0 {
		return s.trim()
	}
	if errors.Is(s.stillNamed(), fault.Stale) { // the name, and the state, are somebody else's by now
		return nil
	}
	if s.keep {
		s.dropState()
	}
	return fault.Wrap("remove temporary", s.base, s.dir.Remove(s.temp))
}

func (s *staged) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(s.Abort(false), s.file.Close(), s.dir.Close())
}
