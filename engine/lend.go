package engine

import (
	"container/heap"
	"time"

	"github.com/pannier/pannier/engine/store"
)

// The places of runs: each partner has some, and the node has. A run whose task waits for
// another request of this node lends it its place. Otherwise those that wait could have all
// places, and what they wait for none.

// occupy takes a place for a run, or that of the run that waits for it. e.mu is held.
func (e *Engine) occupy(x *run, l *line) {
	x.line, x.guest = l, e.queue.lent[x.ref]
	if !x.guest {
		l.running++
		e.queue.running++
	}
}

// vacate gives the place back. e.mu is held.
func (e *Engine) vacate(x *run) {
	if !x.guest {
		x.line.running--
		e.queue.running--
	}
	x.line, x.guest = nil, false
}

// lend lends the run's place, if it has one, to a request until it is taken back.
func (x *run) lend(to store.Ref) (back func()) {
	e := x.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if x.line == nil || e.queue.lent[to] {
		return func() {}
	}
	e.queue.lent[to] = true
	e.kick()
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.queue.lent, to)
		if guest := e.runs[to]; guest != nil && guest.guest { // it goes on in a place of its own, beyond the limits for a while
			e.occupy(guest, guest.line)
		}
	}
}

// startLent starts what has a place lent and is ready. e.mu is held.
func (e *Engine) startLent(now, date time.Time, next *time.Time) {
	q := &e.queue
	for ref := range q.lent {
		w := q.all[ref]
		if w == nil || w.ready < 0 || q.alone(now) {
			continue
		}
		if l := q.line(w.partner); e.open(l, now, next) {
			heap.Remove(&l.ready, w.ready)
			delete(q.all, ref)
			e.startIn(w, l, date)
		}
	}
}
