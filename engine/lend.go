package engine

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"github.com/pannier/pannier/engine/store"
)

// The places of runs: each partner has some, and the node has. A run whose task waits for
// another request of this node lends it its place at the node; at its partner it makes room for
// one that was lent a place, of whichever run. Otherwise those that wait could have all places,
// and what they wait for none.

// occupy takes a place for a run, at the node that of the run that waits for it. e.mu is held.
func (e *Engine) occupy(x *run, l *line) {
	x.line, x.guest = l, e.queue.lent[x.ref]
	l.running++
	if !x.guest {
		e.queue.running++
	}
}

// vacate gives the place back. e.mu is held.
func (e *Engine) vacate(x *run) {
	e.aside(x, false)
	x.line.running--
	if !x.guest {
		e.queue.running--
	}
	x.line, x.guest = nil, false
}

// lend lends the run's place, if it has one, to a request until it is taken back.
func (x *run) lend(to store.Ref) (back func()) {
	e := x.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	l := x.line
	if l == nil || e.queue.lent[to] {
		return func() {}
	}
	e.aside(x, false)
	e.queue.lent[to], x.lends = true, true
	l.lending++
	e.kick()
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.queue.lent, to)
		x.lends = false
		l.lending--
		if guest := e.runs[to]; guest != nil && guest.guest { // it goes on in a place of its own, beyond the limits for a while
			if guest.guest = false; !guest.aside {
				e.queue.running++
			}
		}
	}
}

// full reports whether a request that needs a place has to wait for one: at the node, or at its
// partner. Whose place at the node is lent waits only for those at its partner that wait for
// nobody. e.mu is held.
func (e *Engine) full(ref store.Ref, l *line) (node, partner bool) {
	if e.queue.lent[ref] {
		return false, l.running-l.lending >= l.most
	}
	return e.queue.running >= e.cfg.Concurrent, l.running >= l.most
}

// room reports whether it is full nowhere. e.mu is held.
func (e *Engine) room(ref store.Ref, l *line) bool {
	node, partner := e.full(ref, l)
	return !node && !partner
}

// startLent starts what has a place lent and is ready. e.mu is held.
func (e *Engine) startLent(now, date time.Time, next *time.Time) {
	q := &e.queue
	var all []*waiter
	for ref := range q.lent {
		if w := q.all[ref]; w != nil && w.ready >= 0 {
			all = append(all, w)
		}
	}
	slices.SortFunc(all, func(a, b *waiter) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.number, b.number))
	})
	for _, w := range all {
		if l := q.line(w.partner); !q.alone(now) && e.room(w.ref, l) && e.open(l, now, next) {
			heap.Remove(&l.ready, w.ready)
			delete(q.all, w.ref)
			e.startIn(w, l, date)
		}
	}
}
