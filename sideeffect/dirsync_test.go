package sideeffect

import (
	"os"
	"sync"
	"testing"
	"testing/synctest"
)

// TestSharedSyncs has many come at once: each gets a sync that began after it came,
// none waits for ever, and nothing is remembered afterwards.
func TestSharedSyncs(t *testing.T) {
	s := sharedSyncs{rounds: map[dirKey]*rounds{}}
	dirs := []string{t.TempDir(), t.TempDir()}
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			for range 20 {
				d, err := os.Open(dirs[i%len(dirs)])
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.sync(d); err != nil {
					t.Error(err)
				}
				d.Close()
			}
		})
	}
	all.Wait()
	if len(s.rounds) != 0 {
		t.Errorf("%d directories are still known", len(s.rounds))
	}
}

// TestSharedSyncFails tells an error to all of its round, and to nobody else.
func TestSharedSyncFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sharedSyncs{rounds: map[dirKey]*rounds{}}
		d, err := os.Open(t.TempDir())
		noError(t, err)
		defer d.Close()
		fi, err := d.Stat()
		noError(t, err)
		key, _ := dirKeyOf(fi)
		running, next := &round{over: make(chan struct{})}, &round{over: make(chan struct{})}
		s.rounds[key] = &rounds{now: running, next: next} // one under way, one that has its leader
		told := make(chan error, 5)
		for range 5 {
			go func() { told <- s.sync(d) }()
		}
		synctest.Wait()
		if len(told) > 0 {
			t.Fatal("somebody did not wait for a sync that begins after it came")
		}
		closed, err := os.Open(t.TempDir())
		noError(t, err)
		noError(t, closed.Close())
		close(running.over)
		if s.lead(key, next, closed) == nil {
			t.Fatal("a closed directory was synced")
		}
		for range 5 {
			if <-told == nil {
				t.Error("not told of the failure of its round")
			}
		}
		noError(t, s.sync(d))
		if len(s.rounds) != 0 {
			t.Errorf("%d directories are still known", len(s.rounds))
		}
	})
}
