package store

import (
	"context"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
)

// Seen is a store that tells of each commit of a record. Told is called, when the commit
// has succeeded and before whoever made it hears of it, by many goroutines at a time; it
// must not wait.
type Seen struct {
	Store
	// Told gets the record as it is, what has changed it, and how long the commit took.
	// A record that was there already when it was registered is not told.
	Told func(r *lifecycle.Record, events []lifecycle.Event, made bool, took time.Duration)
	// Failed gets the error of a commit that did not succeed, with the same promise; nil: nobody asks.
	Failed func(error)
}

func (s *Seen) failed(err error) {
	if err != nil && s.Failed != nil {
		s.Failed(err)
	}
}

// Register implements Store.
func (s *Seen) Register(ctx context.Context, r lifecycle.Record, events ...lifecycle.Event) (kept lifecycle.Record, made bool, err error) {
	began := time.Now()
	kept, made, err = s.Store.Register(ctx, r, events...)
	if err == nil && made {
		s.tell(kept, events, true, time.Since(began))
	}
	s.failed(err)
	return kept, made, err
}

// Apply implements Store.
func (s *Seen) Apply(ctx context.Context, ref Ref, now time.Time, events ...lifecycle.Event) (kept lifecycle.Record, err error) {
	began := time.Now()
	kept, err = s.Store.Apply(ctx, ref, now, events...)
	if err == nil {
		s.tell(kept, events, false, time.Since(began))
	}
	s.failed(err)
	return kept, err
}

// tell has a copy for Told: what callers wait on while a commit is made should be shallow.
//
//go:noinline
func (s *Seen) tell(r lifecycle.Record, events []lifecycle.Event, made bool, took time.Duration) {
	s.Told(&r, events, made, took)
}
