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

// TestSuspectKeepsNobody: one that is suspected to end the process lets the others of
// its partner pass while it waits to run alone, does not wait for ever, and is alone
// no longer than it has to.
func TestSuspectKeepsNobody(t *testing.T) {
	e := &Engine{runs: map[store.Ref]*run{}, kicks: make(chan struct{}, 1), ctx: t.Context()}
	e.cfg.Concurrent = 9
	e.queue.init()
	now := time.Now()
	ref := func(id byte) store.Ref {
		return store.Ref{Key: lifecycle.Key{Requester: "a", ID: lifecycle.ID{id}}, Role: lifecycle.Requester}
	}
	started := func(id byte) bool { return e.runs[ref(id)].missed != nil } // somebody holds it, so no run begins
	add := func(id byte, suspect bool) {
		e.hold(ref(id))
		e.queue.put(&waiter{ref: ref(id), version: 1, partner: "b", due: now, wake: now, suspect: suspect})
	}
	e.queue.line("b").up = true
	e.queue.running = 1 // another partner's, always
	add(1, true)
	add(2, false)
	e.dispatch(now, now)
	if started(1) || !started(2) {
		t.Errorf("beside others: the suspect has started: %v, the other one: %v", started(1), started(2))
	}
	e.dispatch(now.Add(suspectPatience), now)
	if !started(1) {
		t.Error("the suspect waits for ever")
	}
	e.queue.running, e.queue.suspected = 0, nil
	add(3, true)
	e.dispatch(now, now)
	runs := &run{}
	e.queue.suspected = runs // as if it ran
	add(4, false)
	e.queue.aloneUntil = now.Add(suspectPatience)
	e.dispatch(now, now)
	if !started(3) || started(4) {
		t.Errorf("the suspect has started: %v, another one beside it: %v", started(3), started(4))
	}
	if e.dispatch(now.Add(suspectPatience), now); !started(4) {
		t.Error("a suspect keeps the others out for ever")
	}
	add(5, true)
	if e.dispatch(now.Add(suspectPatience), now); started(5) {
		t.Error("a suspect runs beside another")
	}
	e.aside(runs, true)
	if e.dispatch(now.Add(2*suspectPatience), now); !started(5) {
		t.Error("a suspect that is in a file system that does not answer keeps the others out")
	}
}

// TestSuspectInItsWindow: a suspect that could run after its window has shut waits for
// the next one.
func TestSuspectInItsWindow(t *testing.T) {
	e := &Engine{runs: map[store.Ref]*run{}, kicks: make(chan struct{}, 1), ctx: t.Context()}
	e.cfg.Concurrent = 1
	e.queue.init()
	e.queue.line("b").up = true
	w, err := ParseWindow("Mon 20:00-21:00")
	if err != nil {
		t.Fatal(err)
	}
	e.book.Rules = map[string]*Rule{"r": {Name: "r", Retry: Retry{Windows: Windows{w}}}}
	now, tuesday := time.Now(), time.Date(2026, 1, 6, 12, 0, 0, 0, time.UTC)
	ref := store.Ref{Key: lifecycle.Key{Requester: "a"}, Role: lifecycle.Requester}
	e.hold(ref)
	e.queue.put(&waiter{ref: ref, version: 1, partner: "b", rule: "r", asked: tuesday, wake: now, suspect: true})
	e.dispatch(now, tuesday)
	if at := e.queue.all[ref]; e.runs[ref].missed != nil || at == nil || at.due.Weekday() != time.Monday {
		t.Errorf("started outside of its window: %v, %+v", e.runs[ref].missed != nil, at)
	}
}
