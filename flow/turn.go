package flow

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// turns decides who writes next on which lane of a session's epoch. Whoever
// has the turn calls Write itself: no frame changes goroutines on its way out.
//
//	control frames   always next, on every lane
//	interactive      before relay and bulk, but at most burst in a row
//	relay, bulk      by their shares (fair), while the pipe window has room
type turns struct {
	mu     sync.Mutex
	lanes  []*lane
	urgent []*turn // interactive, in the order they came
	fair   [2]fair // relay and bulk: for the control lane, for bulk lanes
	row    int     // interactive frames granted in a row while others could have been
	over   bool
	quiet  chan struct{} // made by end, closed when nobody is writing any more
}

// burst is how many interactive frames may pass waiting bulk frames in a row.
const burst = 4

// turn is one goroutine's wish to write one frame.
type turn struct {
	seat  *seat      // of relay and bulk; nil: interactive
	ready chan *lane // gets the lane, or nil when the epoch is over; capacity 1

	cost, start int64 // fair's; cost is in bytes
	came        uint64
	index       int
}

// carries reports whether frames of a class may travel on l. Bytes of a byte
// stream need order and stay on the control lane; blocks have offsets and use
// bulk lanes as soon as there are any.
func (t *turns) carries(l *lane, class wire.Class) bool {
	if class == wire.ClassBulk {
		return l.purpose == wire.Bulk || len(t.lanes) == 1
	}
	return l.purpose == wire.Control
}

func (t *turns) fits(l *lane, class wire.Class) bool {
	return !l.busy && !l.dead && t.carries(l, class) && (class < wire.ClassRelay || l.pipe.room())
}

// line is where frames of a class wait: bulk ones for a bulk lane, as soon as there is one.
func (t *turns) line(class wire.Class) *fair {
	if class == wire.ClassBulk && len(t.lanes) > 1 {
		return &t.fair[1]
	}
	return &t.fair[0]
}

// lineOf is what waits for a lane.
func (t *turns) lineOf(l *lane) *fair {
	if l.purpose == wire.Bulk {
		return &t.fair[1]
	}
	return &t.fair[0]
}

// enter takes a lane for a frame of n bytes if one is free at once, or else a place in the
// queue. The lane, from here or from turn.ready, is the caller's until release. The seat is of
// the stream; interactive frames need none.
func (t *turns) enter(class wire.Class, s *seat, n int) (*lane, *turn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return nil, nil, errEpochOver
	}
	if class == wire.ClassInteractive {
		if len(t.urgent) == 0 {
			if l := t.idlest(class); l != nil {
				l.busy = true
				return l, nil, nil
			}
		}
		w := &turn{ready: make(chan *lane, 1)}
		t.urgent = append(t.urgent, w)
		return nil, w, nil
	}
	f := t.line(class)
	if len(f.waiting) == 0 {
		if l := t.idlest(class); l != nil {
			l.busy = true
			f.straight(s, int64(n))
			return l, nil, nil
		}
	}
	w := &turn{seat: s, cost: int64(n), ready: make(chan *lane, 1)}
	f.push(w)
	return nil, w, nil
}

// idlest is the free lane with the least under way. One writer that always took
// the first would fill that lane's buffers in the kernel, wait in Write for room
// in them and never come to use the others. Callers hold mu.
func (t *turns) idlest(class wire.Class) *lane {
	var best *lane
	for _, l := range t.lanes {
		if t.fits(l, class) && (best == nil || l.pipe.flight()*best.pipe.window < best.pipe.flight()*l.pipe.window) {
			best = l
		}
	}
	return best
}

// acquire waits for a turn. The returned lane is the caller's until release.
func (t *turns) acquire(ctx context.Context, class wire.Class, s *seat, n int) (*lane, error) {
	l, w, err := t.enter(class, s, n)
	if w == nil {
		return l, err
	}
	select {
	case l := <-w.ready:
		if l == nil {
			return nil, errEpochOver
		}
		return l, nil
	case <-ctx.Done():
		t.abandon(w)
		return nil, fault.Wrap("write", "", context.Cause(ctx))
	}
}

// errEpochOver tells a writer that the connections are gone; what follows is
// decided by the session's state.
var errEpochOver = fault.Concluded("write", fault.Lost, "the connections of this session are gone")

// abandon takes a wish back, also when it was granted in the same moment.
func (t *turns) abandon(w *turn) {
	t.mu.Lock()
	waited := t.withdraw(w)
	t.mu.Unlock()
	if waited {
		return
	}
	if l := <-w.ready; l != nil {
		t.release(l)
	}
}

// withdraw takes a wish out of its queue; false: it was in none any more. Callers hold mu.
func (t *turns) withdraw(w *turn) bool {
	if w.seat == nil {
		i := slices.Index(t.urgent, w)
		if i >= 0 {
			t.urgent = slices.Delete(t.urgent, i, i+1)
		}
		return i >= 0
	}
	if w.index == gone {
		return false
	}
	w.seat.of.remove(w)
	return true
}

// release gives the lane to the next in turn, or to nobody.
func (t *turns) release(l *lane) {
	t.mu.Lock()
	l.busy = false
	t.grant(l)
	t.settle()
	l.settle()
	kick := !l.busy && l.owes()
	t.mu.Unlock()
	if kick {
		l.kick()
	}
}

// grant hands an idle lane to a waiting writer, if one fits. Callers hold mu.
func (t *turns) grant(l *lane) {
	if l.busy || l.dead || t.over {
		return
	}
	f := t.lineOf(l)
	urgent := l.purpose == wire.Control && len(t.urgent) > 0
	others := len(f.waiting) > 0 && l.pipe.room()
	if urgent && others {
		if t.row++; t.row > burst {
			t.row, urgent = 0, false
		}
	}
	var w *turn
	switch {
	case urgent:
		w = t.urgent[0]
		t.urgent = t.urgent[1:]
	case others:
		w = f.pop()
	default:
		return
	}
	l.busy = true
	w.ready <- l
}

// add lets a new lane take part.
func (t *turns) add(l *lane) {
	t.mu.Lock()
	t.lanes = append(t.lanes, l)
	t.grant(l)
	t.mu.Unlock()
}

// end wakes everybody with the news that the epoch is over: no frame but
// control frames goes out any more. The channel is closed when those who were
// writing have finished.
func (t *turns) end() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.over, t.quiet = true, make(chan struct{})
		for _, w := range t.urgent {
			w.ready <- nil
		}
		t.urgent = nil
		for i := range t.fair {
			for f := &t.fair[i]; len(f.waiting) > 0; {
				f.pop().ready <- nil
			}
		}
		t.settle()
	}
	return t.quiet
}

// settle closes quiet as soon as it may. Callers hold mu.
func (t *turns) settle() {
	if !t.over {
		return
	}
	for _, l := range t.lanes {
		if l.busy && !l.dead {
			return
		}
	}
	select {
	case <-t.quiet:
	default:
		close(t.quiet)
	}
}

// bury is told that writing on l has failed: nobody needs to wait for it.
func (t *turns) bury(l *lane) {
	t.mu.Lock()
	l.dead = true
	t.settle()
	l.settle()
	t.mu.Unlock()
}

// acked books what the peer's reader has taken off lane l.
func (t *turns) acked(l *lane, total uint64, rtt time.Duration, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := l.pipe.acked
	if !l.pipe.ack(total, rtt, now) {
		return false
	}
	if total > before {
		l.piece.acked(total, now)
		l.moves()
	}
	if l.purpose == wire.Control {
		l.s.queues.carries.Store(l.pipe.trip)
	}
	t.grant(l)
	return true
}
