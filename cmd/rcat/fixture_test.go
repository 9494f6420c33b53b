package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/pannier/pannier/sideeffect"
)

// halting is a file whose reader stops in the middle: it calls halt and fails.
type halting struct {
	sideeffect.Identity
	halt func()
}

func (h halting) OpenSource(spec sideeffect.SourceSpec) (sideeffect.Source, error) {
	s, err := h.Identity.OpenSource(spec)
	return haltingSource{s, h.halt}, err
}

type haltingSource struct {
	sideeffect.Source
	halt func()
}

func (s haltingSource) ReadBlock(p []byte, off int64) (int, error) {
	if off >= s.Size()/2 {
		s.halt()
		return 0, context.Canceled
	}
	return s.Source.ReadBlock(p, off)
}

// awaitFile waits until a file whose name matches has size bytes. The limit is
// for tests that would hang.
func awaitFile(fatal func(string, ...any), pattern string, size int64) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for {
		names, _ := filepath.Glob(pattern)
		for _, n := range names {
			if info, err := os.Stat(n); err == nil && info.Size() >= size {
				return
			}
		}
		select {
		case <-tick.C:
		case <-limit.C:
			fatal("no %s of %d bytes", pattern, size)
			return
		}
	}
}

// awaitGone waits until no file's name matches.
func awaitGone(fatal func(string, ...any), pattern string) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for {
		names, _ := filepath.Glob(pattern)
		if len(names) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-limit.C:
			fatal("%q stay", names)
			return
		}
	}
}
