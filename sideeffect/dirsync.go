package sideeffect

import (
	"io/fs"
	"os"
	"sync"
	"syscall"
)

// dirSyncs lets transfers into one directory share its syncs: whoever comes
// while one is under way waits for the next, which begins after all of them have
// renamed. A sync is of the directory, not of who asks for it.
var dirSyncs = sharedSyncs{rounds: map[dirKey]*rounds{}}

type sharedSyncs struct {
	mu     sync.Mutex
	rounds map[dirKey]*rounds
}

// dirKey is the identity of a directory while somebody has it open.
type dirKey struct{ dev, ino uint64 }

// rounds are the syncs of one directory: the one that runs and the one after it.
type rounds struct {
	now, next *round
}

type round struct {
	over chan struct{} // closed when err is there
	err  error
}

// sync makes the names of the open directory durable that were there before the call.
func (s *sharedSyncs) sync(d *os.File) error {
	fi, err := d.Stat()
	if err != nil {
		return err
	}
	key, ok := dirKeyOf(fi)
	if !ok {
		return d.Sync()
	}
	s.mu.Lock()
	rs := s.rounds[key]
	if rs == nil { // nobody is at it
		mine := &round{over: make(chan struct{})}
		s.rounds[key] = &rounds{now: mine}
		s.mu.Unlock()
		return s.lead(key, mine, d)
	}
	if rs.next != nil {
		joined := rs.next
		s.mu.Unlock()
		<-joined.over
		return joined.err
	}
	mine, before := &round{over: make(chan struct{})}, rs.now
	rs.next = mine
	s.mu.Unlock()
	<-before.over
	return s.lead(key, mine, d)
}

// lead makes the sync of a round, and lets the next one begin.
func (s *sharedSyncs) lead(key dirKey, mine *round, d *os.File) error {
	s.mu.Lock()
	if rs := s.rounds[key]; rs.next == mine { // from here on who comes is too late for it
		rs.now, rs.next = mine, nil
	}
	s.mu.Unlock()
	mine.err = d.Sync()
	s.mu.Lock()
	if rs := s.rounds[key]; rs.next == nil {
		delete(s.rounds, key)
	}
	s.mu.Unlock()
	close(mine.over)
	return mine.err
}

// dirKeyOf is false where the system does not tell.
func dirKeyOf(fi fs.FileInfo) (dirKey, bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return dirKey{}, false
	}
	return dirKey{uint64(st.Dev), st.Ino}, true
}
