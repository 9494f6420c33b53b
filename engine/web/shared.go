package web

import (
	"sync"
	"time"
)

// Bounds of what is read of the node for all who look.
const (
	freshFor = 900 * time.Millisecond // what was read is good for so long, or longer
	share    = 40                     // reading takes at most one part in so many of the time
)

// seen is what is read for all who see the same; the node tells those who may only read less.
type seen struct {
	board   *board
	folders folders
}

// seen is what those see who see what the visitor does.
func (v *visit) seen() *seen { return v.p.seen[v.caller.Operate] }

// stale says that somebody wants to see what they have changed.
func (p *Page) stale() {
	for _, s := range p.seen {
		s.board.stale()
	}
}

// shared is what is read for all who look, when somebody does, as rarely as freshFor and share
// say, whoever many they are.
type shared[T any] struct {
	mu    sync.Mutex // held while reading: those who look together share it
	value T
	read  time.Time // zero: never, or it is stale
	took  time.Duration
}

// look is the value, read if it is old. It must not be changed.
func (s *shared[T]) look(read func() (T, error)) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.read.IsZero() && now.Sub(s.read) < max(freshFor, s.took*share) {
		return s.value, nil
	}
	value, err := read()
	if err != nil {
		return value, err
	}
	s.value, s.read = value, time.Now()
	s.took = s.read.Sub(now)
	return value, nil
}

// stale says that something was changed by somebody who wants to see it.
func (s *shared[T]) stale() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = time.Time{}
}
