package sideeffect

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/pannier/pannier/spec/fault"
)

// lockTries is how often the partial file may be renamed away under us by a
// transfer that just finished.
const lockTries = 3

// openPartial takes the partial file of an earlier run, or starts one.
func (s *staged) openPartial(spec SinkSpec) error {
	s.temp = partialName(s.base, spec.Key)
	for range lockTries {
		f, err := createNew(s.dir, s.temp, os.O_RDWR, s.filePerm()) // first, because mostly there is none
		fresh := !errors.Is(err, fs.ErrExist)
		if !fresh {
			f, err = openRegular(s.dir, s.temp, os.O_RDWR)
		}
		if !fresh && errors.Is(err, fs.ErrNotExist) { // it has just got its final name, or it is a link to nothing
			continue
		}
		if err != nil {
			return err
		}
		same, err := lockNamed(s.dir, s.temp, f)
		if err == nil && same && !fresh && published(f) {
			s.stated = true
			s.dropState()
			if err = s.dir.Remove(s.temp); err == nil {
				f.Close()
				continue
			}
		}
		if err == nil && same && s.old && !fresh { // the target may have become more secret since the last run
			err = f.Chmod(s.filePerm())
		}
		if err == nil && same {
			s.file = f
			err = s.takeOver(spec.From, fresh)
		}
		if err == nil && same {
			return nil
		}
		if same && fresh { // nobody has use for it
			_ = s.dir.Remove(s.temp)
		}
		f.Close()
		if err != nil {
			return err
		}
	}
	return fault.New("open sink", fault.Overloaded, "other transfers to %q keep finishing; try again", s.base)
}

// published reports whether a partial file has its final name, too: a run before has died between giving it that and
// taking this one away. What is written here would be written there.
func published(f LayerFile) bool {
	fi, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Nlink > 1
}

// lockNamed locks f and tells whether name still is f: the holder of the lock
// before us may have renamed it to its final name.
func lockNamed(dir Dir, name string, f LayerFile) (bool, error) {
	if err := f.Lock(); err != nil {
		return false, err
	}
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := dir.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(mine, named), err
}

// takeOver brings the locked partial file to from: cut to its offset, or
// empty and without state. A fresh one is empty.
func (s *staged) takeOver(from ResumePoint, fresh bool) error {
	if from.Offset == 0 {
		s.stated = !fresh
		s.dropState()
		if s.stated = false; fresh {
			return nil
		}
		return s.file.Truncate(0)
	}
	st, err := readState(s.dir, s.temp)
	if err != nil && fault.KindOf(err) == fault.Overloaded { // it may be what was offered: no descriptors to look
		return err
	}
	if err != nil || !st.same(from) {
		return fault.New("resume file", fault.Stale, "the state of %q is no longer what was offered; start again", s.base)
	}
	if err := st.checkLast(s.file); err != nil {
		return fault.NewLocal("resume file", fault.Stale, "%q: %w", s.base, err)
	}
	if err := s.file.Truncate(st.Start + st.Offset); err != nil {
		return err
	}
	s.from, s.kept, s.stated = st.ResumePoint, st.Offset, true
	s.start, s.end, s.synced = st.Start, st.Offset, st.Offset
	s.lastLen, s.lastSum = st.lastLen, st.lastSum
	s.marked = s.mark()
	return nil
}

func (s *staged) Resumed() ResumePoint { return s.from }

// Keep is the only way into a state file, and takes only what Sync returned.
func (s *staged) Keep(p ResumePoint) error {
	switch {
	case s.syncErr != nil:
		return s.syncErr
	case !s.keep:
		return nil
	case p.Offset != s.synced || p.Offset != s.marked.end:
		return fault.NewLocal("write resume state", fault.Internal, "offset %d, but %d of %d bytes are synced", p.Offset, s.synced, s.end)
	case p.Offset == s.kept:
		return nil
	}
	p.Start = s.start
	st := state{ResumePoint: p, lastLen: s.marked.lastLen, lastSum: s.marked.lastSum}
	if err := st.check(); err != nil {
		return fault.NewLocal("write resume state", fault.Internal, "%w", err)
	}
	s.stated = true
	if err := writeState(s.dir, s.temp, st); err != nil {
		return err
	}
	s.kept = p.Offset
	return nil
}

// dropState removes the state file first, so that it never outlives its
// partial file. What cannot be removed is found not to match later.
func (s *staged) dropState() {
	if _, err := s.dir.Lstat(stateName(s.temp)); errors.Is(err, fs.ErrNotExist) && !s.stated {
		return // a look is cheaper than a try to remove it, which waits for all who make files beside it
	}
	if err := s.dir.Remove(stateName(s.temp)); errors.Is(err, fs.ErrNotExist) && !s.stated {
		return // then there is no new one beside it
	}
	_ = s.dir.Remove(stateName(s.temp) + newSuffix)
}
