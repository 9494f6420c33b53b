package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// halting is a file whose reader stops in the middle: it calls halt and fails.
type halting struct {
	sideeffect.Identity
	halt func() error
}

func (h halting) OpenSource(spec sideeffect.SourceSpec) (sideeffect.Source, error) {
	s, err := h.Identity.OpenSource(spec)
	return haltingSource{s, h.halt}, err
}

type haltingSource struct {
	sideeffect.Source
	halt func() error
}

func (s haltingSource) ReadBlock(p []byte, off int64) (int, error) {
	if off < s.Size()/2 {
		return s.Source.ReadBlock(p, off)
	}
	if err := s.halt(); err != nil {
		return 0, err
	}
	return 0, context.Canceled
}

// patience is for tests that would hang; nothing is concluded from times.
const patience = 20 * time.Second

// await waits until something that others do is done.
func await(what string, done func() bool) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-limit.C:
			return fault.New("await", fault.Deadline, "%s: not yet", what)
		}
	}
	return nil
}

// awaitBytes waits for a file of at least size bytes whose name matches.
func awaitBytes(pattern string, size int64) error {
	return await(pattern, func() bool {
		names, _ := filepath.Glob(pattern)
		for _, n := range names {
			if info, err := os.Stat(n); err == nil && info.Size() >= size {
				return true
			}
		}
		return false
	})
}

// awaitGone waits until no file's name matches.
func awaitGone(pattern string) error {
	return await("no "+pattern, func() bool {
		names, _ := filepath.Glob(pattern)
		return len(names) == 0
	})
}
