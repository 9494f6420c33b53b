package engine

import (
	"context"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
)

// How many records a partner has made here, and may make.

// DefaultOpen is how many requests of a partner's may be open at the node that it
// asks.
const DefaultOpen = 10_000

// failedToOpen: so many times as many may have failed and be kept.
const failedToOpen = 10

// class is what a record counts as.
type class uint8

const (
	classNone       class = iota // this node's own, or DONE: retention bounds it
	classOpen                    // it is not over
	classFailed                  // INERROR
	classMade                    // made for the partner, and not over
	classMadeFailed              // made for the partner, and INERROR
)

func classOf(r *lifecycle.Record) class {
	switch {
	case r.Role != lifecycle.Requested && r.Spec.By == "" || r.State == lifecycle.Done:
		return classNone
	case r.Role != lifecycle.Requested && r.State == lifecycle.InError:
		return classMadeFailed
	case r.Role != lifecycle.Requested:
		return classMade
	case r.State == lifecycle.InError:
		return classFailed
	}
	return classOpen
}

// countsFor is the partner for whose sake there is the record.
func countsFor(r *lifecycle.Record) string {
	if r.Role == lifecycle.Requested {
		return r.Spec.Partner
	}
	return r.Spec.By
}

// tally is how many records there are for a partner's sake, by what they count as.
type tally [5]int

// count notes that a record of the partner's counts as another thing now. e.mu is held.
func (e *Engine) count(partner string, from, to class) {
	if from == to {
		return
	}
	t := e.records[partner]
	t[from]--
	t[to]++
	t[classNone] = 0
	if e.records[partner] = t; t == (tally{}) {
		delete(e.records, partner)
	}
}

// counted notes what the run's record counts as now.
func (x *run) counted() {
	to := classOf(&x.r)
	x.engine.mu.Lock()
	x.engine.count(countsFor(&x.r), x.class, to)
	x.engine.mu.Unlock()
	x.class = to
}

// room reserves a record for a new request, or has the answer.
func (x *run) room(partner string) (_ Answer, ok bool) {
	e := x.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if busy, ok := e.mayOpen(partner); !ok {
		return busy, false
	}
	if failed := e.records[partner][classFailed]; failed >= failedToOpen*e.mostOpen(partner) {
		return busyFor(crowdedWait, false, "%d requests of this partner have failed here, as many as are kept: an operator has to retry or purge them first", failed), false
	}
	e.count(partner, classNone, classOpen)
	x.class = classOpen
	return Answer{}, true
}

// roomAgain reports whether a request of the partner's that has failed may be open again, or has the answer.
func (x *run) roomAgain(partner string) (_ Answer, ok bool) {
	x.engine.mu.Lock()
	defer x.engine.mu.Unlock()
	return x.engine.mayOpen(partner)
}

// mayOpen reports whether one more request of the partner's may be open. e.mu is held.
func (e *Engine) mayOpen(partner string) (_ Answer, ok bool) {
	if open := e.records[partner][classOpen]; open >= e.mostOpen(partner) {
		return busyFor(crowdedWait, false, "%d requests of this partner are open here, as many as may: those have to end first", open), false
	}
	return Answer{}, true
}

// mostOpen is how many requests of the partner's may be open, and as many again that are made for it. e.mu is held.
func (e *Engine) mostOpen(partner string) int {
	if p := e.book.Partners[partner]; p != nil && p.Open > 0 {
		return p.Open
	}
	return DefaultOpen
}

// PurgeFailed forgets requests that are INERROR, failed or cancelled, and were changed
// before that time, but none younger than lifecycle.MinRetention. What a receiver
// has kept of their bytes is removed.
func (e *Engine) PurgeFailed(ctx context.Context, before time.Time) (int, error) {
	before = e.purgeable(before)
	var old []store.Ref
	for r, err := range e.cfg.Store.Find(ctx, store.Query{States: []lifecycle.State{lifecycle.InError}}) {
		if err != nil {
			return 0, err
		}
		if r.Changed.Before(before) {
			old = append(old, store.RefOf(&r))
		}
	}
	total := 0
	for _, ref := range old {
		dropped, err := e.drop(ctx, ref, before)
		if err != nil {
			return total, err
		}
		if dropped {
			total++
		}
	}
	return total, nil
}

// drop forgets one of them, unless somebody has it.
func (e *Engine) drop(ctx context.Context, ref store.Ref, before time.Time) (bool, error) {
	e.mu.Lock()
	x := e.hold(ref)
	e.mu.Unlock()
	if x == nil {
		return false, nil
	}
	defer e.release(x)
	defer x.end()
	r, err := e.cfg.Store.Get(ctx, ref)
	if err != nil {
		return false, err
	}
	dropped, err := e.cfg.Store.Drop(context.WithoutCancel(ctx), ref, before) // what depends on it has to follow
	if err != nil || !dropped {
		return false, e.storeFailed(err)
	}
	x.r = r
	x.begin()
	x.discard()
	e.mu.Lock()
	e.count(countsFor(&r), classOf(&r), classNone)
	e.mu.Unlock()
	return true, nil
}

// purgeable is the latest time before which a record must have been changed to be
// forgotten.
func (e *Engine) purgeable(before time.Time) time.Time {
	if youngest := e.sure().Add(-lifecycle.MinRetention); before.After(youngest) {
		return youngest
	}
	return before
}
