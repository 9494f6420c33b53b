package engine_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
)

// TestSenderDisowns: a sender that hears that the receiver has given the request up speaks of no bytes that are
// safe there any more.
func TestSenderDisowns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(n *node) {
			n.limits.SyncEvery = 64 << 10
			if n.name == "b" {
				n.limits.Patience = 10 * time.Minute
			}
		})
		a := p.nodes["a"]
		content := p.file("a", "x", 2<<20) // too much for an offer
		reached, open := gateOn(p)
		ref := p.submit("push", "x", "y")
		<-reached
		go func() { time.Sleep(time.Second); close(open) }()
		if r, err := a.engine.Pause(t.Context(), ref); err != nil || r.Rank == 0 || r.Rank == r.Size {
			t.Fatalf("rank %d of %d, %v", r.Rank, r.Size, err)
		}
		time.Sleep(time.Hour)
		if _, err := a.engine.Resume(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		s, r := p.end(ref, lifecycle.InError)
		if s.Failure.Kind != fault.Deadline || s.Failure.Side != fault.Peer || s.Rank != 0 || r.Rank != 0 {
			t.Errorf("%+v, ranks %d and %d", s.Failure, s.Rank, r.Rank)
		}
		if _, err := a.engine.Retry(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		p.end(ref, lifecycle.Done)
		p.has("b", "y", content)
	})
}

// TestSenderDisownsForgotten: so does one that is called, when the receiver gives the request up because its operator has forgotten it.
func TestSenderDisownsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(n *node) {
			n.limits.SyncEvery = 64 << 10
			if n.name == "a" {
				n.limits.Patience = 10 * time.Minute
			}
		})
		a, b := p.nodes["a"], p.nodes["b"]
		content := p.file("b", "x", 2<<20)
		reached, open := gateOn(p)
		ref := p.submit("pull", "x", "y")
		<-reached
		go func() { time.Sleep(time.Second); close(open) }()
		if r, err := a.engine.Pause(t.Context(), ref); err != nil || r.Rank == 0 || r.Rank == r.Size {
			t.Fatalf("rank %d of %d, %v", r.Rank, r.Size, err)
		}
		time.Sleep(time.Minute)
		if s, err := b.engine.Get(t.Context(), other(ref)); err != nil || s.Rank == 0 {
			t.Fatalf("the sender speaks of %d safe bytes, %v", s.Rank, err)
		}
		r, s := p.endWithin(ref, lifecycle.InError, time.Hour)
		if s.Failure.Kind != fault.Deadline || s.Failure.Side != fault.Peer || s.Rank != 0 || r.Rank != 0 {
			t.Errorf("%+v, ranks %d and %d", s.Failure, s.Rank, r.Rank)
		}
		if _, err := a.engine.Retry(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		p.end(ref, lifecycle.Done)
		p.has("a", "y", content)
	})
}
