package engine_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// leaving is a store whose caller goes away while a commit is made: the commit is made all
// the same, and the caller's context has ended first, as store.Store says.
type leaving struct {
	store.Store
	leave func(what string) // has the caller of that method go away, or not
}

func (l *leaving) end(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fault.Wrap("write", "", context.Cause(ctx))
	}
	return err
}

func (l *leaving) Register(ctx context.Context, r lifecycle.Record, events ...lifecycle.Event) (lifecycle.Record, bool, error) {
	l.leave("register")
	kept, made, err := l.Store.Register(context.WithoutCancel(ctx), r, events...)
	if err = l.end(ctx, err); err != nil {
		return r, false, err
	}
	return kept, made, nil
}

func (l *leaving) Apply(ctx context.Context, ref store.Ref, now time.Time, events ...lifecycle.Event) (lifecycle.Record, error) {
	if slices.ContainsFunc(events, func(e lifecycle.Event) bool { _, ok := e.(lifecycle.Recover); return ok }) {
		l.leave("recover")
	}
	r, err := l.Store.Apply(context.WithoutCancel(ctx), ref, now, events...)
	return r, l.end(ctx, err)
}

func (l *leaving) Drop(ctx context.Context, ref store.Ref, before time.Time) (bool, error) {
	l.leave("drop")
	dropped, err := l.Store.Drop(context.WithoutCancel(ctx), ref, before)
	return dropped, l.end(ctx, err)
}

// leavers are two nodes, of which the callers of a's store go away as leave says.
func leavers(t *testing.T, leave func(what string)) *pair {
	return newPair(t, func(n *node) {
		if n.name == "a" {
			n.wrap = func(s store.Store) store.Store { return &leaving{Store: s, leave: leave} }
		}
	})
}

// TestSubmitterGone: a request that is kept is carried out, though whoever has submitted it
// went away meanwhile, and also if it is submitted again.
func TestSubmitterGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone, leave := context.WithCancel(t.Context())
		p := leavers(t, func(string) { leave() })
		content := p.file("a", "x", 1000)
		order := engine.Order{ID: lifecycle.ID{1}, Partner: "b", Rule: "push", Source: path(t, "x"), Target: path(t, "y"), NotAt: time.Now().Add(time.Second)}
		_, _, _ = p.nodes["a"].engine.Submit(gone, order)
		r, _, err := p.nodes["a"].engine.Submit(t.Context(), order)
		if err != nil {
			t.Fatal(err)
		}
		p.end(store.RefOf(&r), lifecycle.Done)
		p.has("b", "y", content)
	})
}

// TestOperatorGone: what a full store has held up goes on, though an operator has asked for a
// pause while it was taken up again, and did not stay to see it.
func TestOperatorGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p *pair
		var ref store.Ref
		took := 0
		p = leavers(t, func(what string) {
			if what != "recover" {
				return
			}
			took++
			gone, leave := context.WithCancel(t.Context())
			go func() { _, _ = p.nodes["a"].engine.Pause(gone, ref) }()
			synctest.Wait() // it has left its word with whoever has the record
			leave()
			synctest.Wait()
		})
		content := p.file("a", "x", 2<<20)
		ref = p.submit("push", "x", "y")
		p.nodes["a"].gate.Fill(2)
		p.end(ref, lifecycle.Done)
		p.has("b", "y", content)
		if took != 1 {
			t.Errorf("taken up %d times", took)
		}
	})
}

// TestPurgerGone: a record that is dropped is purged, with all that follows, though whoever wanted
// that went away meanwhile.
func TestPurgerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone, leave := context.WithCancel(t.Context())
		p := leavers(t, func(what string) {
			if what == "drop" {
				leave()
			}
		})
		a := p.nodes["a"]
		ask := asked(t, "b", 1, lifecycle.Prepare)
		serve(t, a, ask, nil)
		ask.Move, ask.Why = lifecycle.Mismatch, lifecycle.Failure{Kind: fault.Lost, Cause: "no connection"}
		serve(t, a, ask, nil)
		time.Sleep(2 * time.Hour)
		if n, err := a.engine.PurgeFailed(gone, time.Now()); n != 1 || err != nil {
			t.Errorf("%d purged: %v", n, err)
		}
	})
}
