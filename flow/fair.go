package flow

import "container/heap"

// Who sends next where frames wait for one another: the shares of a session divide it by
// their weights, the streams of a share divide that evenly, both by bytes. This is
// start-time fair queueing (Goyal, Vin and Cheng, 1996) on two levels: a share's frame starts when
// its last one would have been over at the share's rate, or now, and the earliest start
// goes first. So who has sent little does not wait behind those who send much. A share that
// is idle saves nothing up.

// MaxWeight is the largest weight of a Share.
const MaxWeight = 100

// A Share is what streams have together of sessions that are the bottleneck. It is of
// this end's sending only; the peer divides its own. A stream without one has a share of weight 1 to
// itself.
type Share struct{ weight int64 }

// NewShare makes a share of a weight from 1 to MaxWeight; others become the nearest.
func NewShare(weight int) *Share { return &Share{int64(min(max(weight, 1), MaxWeight))} }

// costScale is what a byte costs at weight 1. It has every divisor up to 10, so that
// rounding favours nobody.
const costScale = 2520

// seat is a stream's place in a fair.
type seat struct {
	share *Share // nil: none with others
	of    *fair  // with which the rest is meant; another one begins anew
	group *group
	due   int64 // when, in the group's time, what was sent is over
}

// group is a share in one fair.
type group struct {
	weight  int64
	now     int64  // the group's time: the start of its frame that was granted last
	start   int64  // of its next frame, while some wait
	due     int64  // when, in the fair's time, what was sent is over
	came    uint64 // when that frame was the next: of equal starts, the first to come goes first
	waiting turnHeap
	index   int // in fair.waiting
	era     int // of the fair, in which due is meant
}

// fair is the frames that wait for lanes of one purpose. turns.mu guards it.
type fair struct {
	now     int64 // the start of the group that was granted last
	groups  map[*Share]*group
	came    uint64    // frames that have begun to wait, and groups that have
	waiting groupHeap // those with frames that wait, the earliest start first
	era     int       // how often its time has begun anew
}

// endOfTime is when a fair's time begins anew, after 900 TB at weight 1.
const endOfTime = 1 << 61

// enter finds the group of a seat.
func (f *fair) enter(s *seat) *group {
	g := s.group
	switch {
	case s.share != nil:
		if g = f.groups[s.share]; g == nil {
			g = f.found(s.share)
		}
	case s.of != f:
		g = &group{weight: 1}
	}
	if s.of != f || s.group != g {
		s.of, s.group, s.due = f, g, 0
	}
	if g.era != f.era { // it has been idle since
		g.era, g.due = f.era, 0
	}
	return g
}

// found makes a share's group, and forgets those that are as good as new.
func (f *fair) found(s *Share) *group {
	for other, g := range f.groups {
		if len(g.waiting) == 0 && g.due <= f.now {
			delete(f.groups, other)
		}
	}
	if f.groups == nil {
		f.groups = map[*Share]*group{}
	}
	g := &group{weight: s.weight}
	f.groups[s] = g
	return g
}

// straight books a frame that does not wait, and for which no other does.
func (f *fair) straight(s *seat, cost int64) {
	g := f.enter(s)
	g.start = max(f.now, g.due)
	f.book(g, s, max(g.now, s.due), cost)
}

// book puts a frame on the account of its group, whose start is set, and of its stream.
func (f *fair) book(g *group, s *seat, start, cost int64) {
	f.now, g.now = g.start, start
	s.due = start + cost
	g.due = g.start + cost*costScale/g.weight
	if f.now > endOfTime {
		f.beginAnew()
	}
}

// beginAnew sets the fair's time back to 0, and those with it who wait or may be ahead of it.
func (f *fair) beginAnew() {
	f.era++
	by := f.now
	f.now = 0
	shift := func(g *group) {
		if g.era != f.era {
			g.era, g.start, g.due = f.era, g.start-by, g.due-by
		}
	}
	for _, g := range f.groups {
		shift(g)
	}
	for _, g := range f.waiting {
		shift(g)
	}
}

// push lets a frame wait.
func (f *fair) push(w *turn) {
	g := f.enter(w.seat)
	f.came++
	w.start, w.came = max(g.now, w.seat.due), f.came
	heap.Push(&g.waiting, w)
	if len(g.waiting) == 1 {
		g.start, g.came = max(f.now, g.due), f.came
		heap.Push(&f.waiting, g)
	}
}

// pop takes the frame whose turn it is; there is one.
func (f *fair) pop() *turn {
	g := f.waiting[0]
	w := heap.Pop(&g.waiting).(*turn)
	f.book(g, w.seat, w.start, w.cost)
	if len(g.waiting) == 0 {
		heap.Pop(&f.waiting)
	} else {
		f.came++
		g.start, g.came = g.due, f.came
		heap.Fix(&f.waiting, 0)
	}
	return w
}

// remove takes a frame back that waits.
func (f *fair) remove(w *turn) {
	g := w.seat.group
	heap.Remove(&g.waiting, w.index)
	if len(g.waiting) == 0 {
		heap.Remove(&f.waiting, g.index)
	}
}

// before is the order of both heaps. Without the second part a frame could wait as long as new
// streams come, which begin at the same time as it: the time passes when its turn has come.
func before(start, other int64, came, otherCame uint64) bool {
	return start < other || start == other && came < otherCame
}

// turnHeap and groupHeap are heaps by start.
type turnHeap []*turn

func (h turnHeap) Len() int           { return len(h) }
func (h turnHeap) Less(i, j int) bool { return before(h[i].start, h[j].start, h[i].came, h[j].came) }
func (h turnHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }
func (h *turnHeap) Push(x any)        { w := x.(*turn); w.index = len(*h); *h = append(*h, w) }
func (h *turnHeap) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	w.index = gone
	return w
}

// gone is the index of what is in no heap.
const gone = -1

type groupHeap []*group

func (h groupHeap) Len() int           { return len(h) }
func (h groupHeap) Less(i, j int) bool { return before(h[i].start, h[j].start, h[i].came, h[j].came) }
func (h groupHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }
func (h *groupHeap) Push(x any)        { g := x.(*group); g.index = len(*h); *h = append(*h, g) }
func (h *groupHeap) Pop() any {
	last := len(*h) - 1
	g := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return g
}
