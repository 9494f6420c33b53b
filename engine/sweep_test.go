package engine_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// slow is a store whose first Get after a start takes ten seconds, and whose Register
// takes four.
type slow struct {
	store.Store
	seen  atomic.Bool
	first chan store.Ref
}

func (s *slow) Get(ctx context.Context, ref store.Ref) (lifecycle.Record, error) {
	if !s.seen.Swap(true) {
		s.first <- ref
		time.Sleep(10 * time.Second)
	}
	return s.Store.Get(ctx, ref)
}

func (s *slow) Register(ctx context.Context, r lifecycle.Record, events ...lifecycle.Event) (lifecycle.Record, bool, error) {
	time.Sleep(4 * time.Second)
	return s.Store.Register(ctx, r, events...)
}

// TestSweepWaits: what a process that died has left of a cancelled request is removed
// though somebody registers the same request again just then, and so has it for a moment.
func TestSweepWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, nil)
		a := p.nodes["a"]
		p.stop("a")
		names := map[lifecycle.ID]string{{1}: "y1", {2}: "y2"}
		for id, name := range names {
			key := lifecycle.Key{Requester: "a", ID: id}
			r, err := lifecycle.Register(key, lifecycle.Receiver, lifecycle.Spec{Partner: "b", Rule: "pull", Source: path(t, "x"), Target: path(t, name), Follow: id}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range []lifecycle.Event{lifecycle.Claim{Epoch: 1}, lifecycle.Advance{Epoch: 1, To: lifecycle.Pre}, lifecycle.Advance{Epoch: 1, To: lifecycle.Ready},
				lifecycle.Advance{Epoch: 1, To: lifecycle.Moving}, lifecycle.Cancel{Epoch: 1, Cause: "by alice"}} {
				if err := r.Apply(e, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			if r.Failure.Kind != fault.Canceled {
				t.Fatalf("%+v", r)
			}
			p.register("a", r)
			partial, err := sideeffect.PartialName(path(t, name), engine.PartialKey(key))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(a.root, partial.String()), []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := &slow{first: make(chan store.Ref, 1)}
		p.file("a", "x", 10)
		a.wrap = func(under store.Store) store.Store { s.Store = under; return s }
		p.start("a")
		swept := (<-s.first).Key.ID
		p.submit("push", "x", "x")
		time.Sleep(time.Second) // the partner is there: registering can be the first claim
		for id, name := range names {
			if id != swept {
				time.Sleep(3 * time.Second)
				if _, made, err := a.engine.Submit(t.Context(), engine.Order{ID: id, Partner: "b", Rule: "pull", Source: path(t, "x"), Target: path(t, name)}); made || err != nil {
					t.Fatal(made, err)
				}
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		p.nothingKept(a)
	})
}
