package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/spec/quantity"
)

// TestShareGivenUp: who gives up waiting is no burden on those who stay.
func TestShareGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare(quantity.Always(1<<20), time.Now)
		began := time.Now()
		if err := s.wait(t.Context(), "b", 2<<20, func() { t.Error("it waits, and need not") }); err != nil { // a second is owed
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() { gone <- s.wait(ctx, "b", 8<<20, func() {}) }()
		synctest.Wait()
		cancel()
		if err := <-gone; err != context.Canceled {
			t.Error(err)
		}
		waited := false
		if err := s.wait(t.Context(), "c", 1, func() { waited = true }); err != nil || !waited {
			t.Error(err, waited)
		}
		if took := time.Since(began); took < time.Second || took > time.Second+time.Millisecond {
			t.Errorf("it took %v, want 1 s", took)
		}
		time.Sleep(time.Minute) // long enough for all there ever can be
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.fill(); s.left != s.burst || s.waits != 0 {
			t.Errorf("%v left of %v, %d wait", s.left, s.burst, s.waits)
		}
	})
}
