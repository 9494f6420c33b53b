package engine

import (
	"container/heap"
	"slices"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
)

// queue is which requests wait, for what, and who is next. It is pure memory,
// made anew from the store at each start; Engine.mu guards it.
//
//	sleeping, dated: until due ----> ready of its partner, of nobody, or suspects ----> taken
//
// How long something sleeps is counted from when it was put here, so that a clock
// that is set, or wrong, makes nothing early or late. Only start times and windows
// are dates.
type queue struct {
	all      map[store.Ref]*waiter
	sleeping sleepers         // by wake
	dated    sleepers         // by due
	lines    map[string]*line // by partner
	order    []*line          // the same, in turn
	turn     int
	running  int // runs that the commander has started
	arrivals uint64

	lent map[store.Ref]bool // requests that runs wait for, which lend them their places

	suspects   []*waiter // ready, and suspected to end the process, in the order of arrival
	suspected  *run      // the one of them that runs, and no other; nil: none does
	aloneUntil time.Time // until then nothing else is started beside it
}

// waiter is a request that waits.
type waiter struct {
	ref      store.Ref
	version  uint64       // of its record: an older word does not take the place of a newer one
	partner  string       // empty: it needs none
	rule     string       // its windows count if there is a partner
	follow   lifecycle.ID // for the log, should the record not be readable
	asked    time.Time    // when the record is due, on the engine's clock
	start    bool         // that is a date: its start time
	wake     time.Time    // not a start time: asked, on the process's
	due      time.Time    // asked, or when a window opens
	dated    bool         // due is a date
	since    time.Time    // a suspect: since when it is ready
	priority int8
	number   uint64 // order of arrival among equals
	suspect  bool   // it ran when processes died, more than once: it runs alone if that can be
	sleep    int    // index in sleeping or dated; -1: it is ready
	ready    int    // index in its line's heap; -1: not there
}

// line is what a node knows of one partner.
type line struct {
	name     string
	ready    readies
	running  int
	lending  int  // of those, how many wait for another request
	most     int  // requests at a time
	up       bool // there was a session when last heard
	refused  bool // a bridge whose server lets nobody in: its requests hear that, each for itself
	reaching bool
	tries    int       // failed ones in a row
	retryAt  time.Time // not before
	failure  lifecycle.Failure
	rtt      time.Duration
}

func (q *queue) init() {
	q.all, q.lines, q.lent = map[store.Ref]*waiter{}, map[string]*line{}, map[store.Ref]bool{}
	q.line("").up = true // of what needs no partner: what is overdue or has error tasks left
}

// line is what is known of a partner; there is one from the first mention on.
func (q *queue) line(name string) *line {
	l := q.lines[name]
	if l == nil {
		l = &line{name: name, most: DefaultConcurrent}
		q.lines[name] = l
		q.order = append(q.order, l)
	}
	return l
}

// rebook takes the limits of a new book.
func (q *queue) rebook(b Book) {
	for name, p := range b.Partners {
		l := q.line(name)
		l.most = p.Concurrent
		if l.most <= 0 {
			l.most = DefaultConcurrent
		}
		l.retryAt = time.Time{}
	}
}

// resettle has bedtime say anew when each sleeper gets up that a window may hold back.
func (q *queue) resettle(bedtime func(*waiter)) {
	for _, w := range q.all {
		if w.sleep >= 0 && w.partner != "" {
			heap.Remove(q.bed(w), w.sleep)
			bedtime(w)
			heap.Push(q.bed(w), w)
		}
	}
}

// put makes a request wait until due.
func (q *queue) put(w *waiter) {
	if old := q.all[w.ref]; old != nil {
		if old.version > w.version {
			return
		}
		w.number = old.number
		q.drop(old)
	}
	if w.number == 0 {
		q.arrivals++
		w.number = q.arrivals
	}
	w.sleep, w.ready = -1, -1
	q.all[w.ref] = w
	heap.Push(q.bed(w), w)
}

// bed is where a request sleeps.
func (q *queue) bed(w *waiter) *sleepers {
	if w.dated {
		return &q.dated
	}
	return &q.sleeping
}

// forget takes a request out that does not wait any more.
func (q *queue) forget(ref store.Ref, version uint64) {
	if w := q.all[ref]; w != nil && w.version <= version {
		q.drop(w)
	}
}

func (q *queue) drop(w *waiter) {
	delete(q.all, w.ref)
	switch {
	case w.sleep >= 0:
		heap.Remove(q.bed(w), w.sleep)
	case w.ready >= 0:
		heap.Remove(&q.line(w.partner).ready, w.ready)
	default:
		if i := slices.Index(q.suspects, w); i >= 0 {
			q.suspects = slices.Delete(q.suspects, i, i+1)
		}
	}
}

// wake moves what is due to where it waits for a place.
func (q *queue) wake(now, date time.Time) {
	for len(q.sleeping) > 0 && !q.sleeping[0].wake.After(now) {
		q.rouse(heap.Pop(&q.sleeping).(*waiter), now)
	}
	for len(q.dated) > 0 && !q.dated[0].due.After(date) {
		q.rouse(heap.Pop(&q.dated).(*waiter), now)
	}
}

func (q *queue) rouse(w *waiter, now time.Time) {
	if w.suspect {
		w.since = now
		q.suspects = append(q.suspects, w)
		return
	}
	heap.Push(&q.line(w.partner).ready, w)
}

// take takes the next request of a line.
func (q *queue) take(l *line) *waiter {
	w := heap.Pop(&l.ready).(*waiter)
	delete(q.all, w.ref)
	return w
}

// waiting is how many requests wait for each partner, or for their time: counted in one go, since
// nothing goes on meanwhile.
func (q *queue) waiting() map[string]int {
	n := map[string]int{}
	for name, l := range q.lines {
		n[name] = len(l.ready)
	}
	for _, waiters := range [][]*waiter{q.suspects, q.sleeping, q.dated} {
		for _, w := range waiters {
			n[w.partner]++
		}
	}
	return n
}

// sleepers is a heap by the time they get up.
type sleepers []*waiter

func (w *waiter) up() time.Time {
	if w.dated {
		return w.due
	}
	return w.wake
}

func (s sleepers) Len() int           { return len(s) }
func (s sleepers) Less(i, j int) bool { return s[i].up().Before(s[j].up()) }
func (s sleepers) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].sleep, s[j].sleep = i, j
}
func (s *sleepers) Push(x any) {
	w := x.(*waiter)
	w.sleep = len(*s)
	*s = append(*s, w)
}
func (s *sleepers) Pop() any {
	old := *s
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*s = old[:len(old)-1]
	w.sleep = -1
	return w
}

// readies is a heap by priority, then arrival.
type readies []*waiter

func (r readies) Len() int { return len(r) }
func (r readies) Less(i, j int) bool {
	if r[i].priority != r[j].priority {
		return r[i].priority > r[j].priority
	}
	return r[i].number < r[j].number
}
func (r readies) Swap(i, j int) {
	r[i], r[j] = r[j], r[i]
	r[i].ready, r[j].ready = i, j
}
func (r *readies) Push(x any) {
	w := x.(*waiter)
	w.ready = len(*r)
	*r = append(*r, w)
}
func (r *readies) Pop() any {
	old := *r
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*r = old[:len(old)-1]
	w.ready = -1
	return w
}
