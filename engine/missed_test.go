package engine

import (
	"testing"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
)

// TestDueWhileHeld: a request that comes due while an operator's word that is refused
// has its record, or a second submission, is not forgotten.
func TestDueWhileHeld(t *testing.T) {
	e := &Engine{runs: map[store.Ref]*run{}, kicks: make(chan struct{}, 1), ctx: t.Context()}
	e.cfg.Concurrent = 1
	e.queue.init()
	ref := store.Ref{Key: lifecycle.Key{Requester: "a"}, Role: lifecycle.Requester}
	e.queue.line("b").up = true
	now := time.Now()
	e.queue.put(&waiter{ref: ref, version: 1, partner: "b", due: now, wake: now})
	x := e.hold(ref)
	e.dispatch(now, now)
	e.release(x)
	if e.queue.all[ref] == nil {
		t.Fatal("nobody starts the request any more")
	}
	select {
	case <-e.kicks:
	default:
		t.Error("the commander does not look again")
	}
}
