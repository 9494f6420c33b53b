package peer

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/spec/fault"
)

// reachTime bounds one attempt to reach a partner: dialling, the handshakes, and
// the question who it is.
const reachTime = 30 * time.Second

// A road leads to one partner: a client connection whose session is there and
// whose other end has said its name, or the attempt to get one. It is as old as
// its session: a dead one is given up, so that nothing dials behind the engine's
// back.
type road struct {
	partner string
	built   chan struct{} // closed when the fields below are set
	cancel  context.CancelFunc
	cc      *rpc.ClientConn // nil: err says why
	session *flow.Session
	err     error
	closed  sync.Once
	pins    atomic.Pointer[carrier.Pins] // the keys that its other end may prove; nil: it proves none

	users     int  // guarded by Line.mu: calls on it, and those who wait for it
	off       bool // guarded by Line.mu: no longer in the map
	forgotten bool // guarded by Line.mu: by Forget or Close
}

// done reports whether new calls need another road. One whose gRPC connection is
// gone is done too, though its session may come back: gRPC would pause, and dial
// by itself; but see spared. Calls may go on for a while on a road that is done, when the partner
// is going away in order.
func (r *road) done() bool {
	select {
	case <-r.built:
		if r.err != nil || r.session.Draining() {
			return true
		}
		state := r.cc.GRPC().GetState()
		return state != connectivity.Ready && (state != connectivity.Idle || !r.spared())
	default:
		return false
	}
}

// leadsTo reports whether the road has been built and its other end has proved one of these keys,
// which it holds the sessions to from then on that gRPC dials by itself.
func (r *road) leadsTo(pins carrier.Pins) bool {
	select {
	case <-r.built:
	default:
		return false
	}
	if r.session == nil || !pins.Has(r.session.Peer().Key) {
		return false
	}
	r.pins.Store(&pins)
	return true
}

// authorize refuses a key that the road was built with and that has been taken out since.
func (r *road) authorize(p flow.Peer) error {
	if pins := r.pins.Load(); pins != nil && p.Key != "" && !pins.Has(p.Key) {
		return fault.New("reach partner", fault.Unauthenticated, "key %s is partner %s's no more", fault.Shown(p.Key), fault.Shown(r.partner))
	}
	return nil
}

// spared reports whether a session whose gRPC connection is gone takes the next one:
// where the carrier has one connection at a time, another session would be the end of this one, and of
// streams that have outlived its connections.
func (r *road) spared() bool {
	if !r.session.Single() {
		return false
	}
	s := r.session.Stats()
	return s.Lanes > 0 || s.Streams > 0
}

// shut closes the connection; calls on it fail. The road has been built.
func (r *road) shut() {
	if r.cc != nil {
		r.closed.Do(func() { r.cc.Close() })
	}
}

// take is the road to a partner, built when there is none. All who ask meanwhile
// share one attempt and its error. leave has to follow unless err is not nil.
func (l *Line) take(ctx context.Context, partner string) (*road, error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, fault.New("reach partner", fault.Draining, "this node is going away")
	}
	r := l.roads[partner]
	if r != nil && r.done() {
		l.detach(r)
		r = nil
	}
	if r == nil {
		build, cancel := context.WithTimeout(l.ctx, reachTime)
		r = &road{partner: partner, built: make(chan struct{}), cancel: cancel}
		l.roads[partner] = r
		l.wg.Go(func() { l.build(build, r) })
	}
	r.users++
	l.mu.Unlock()
	err := ended(ctx)
	if err == nil {
		select {
		case <-r.built:
			err = r.err
		case <-ctx.Done():
			err = ended(ctx)
		}
	}
	if err != nil {
		l.leave(r)
		return nil, err
	}
	return r, nil
}

// leave ends a use of the road. The last user of one that is over closes it.
func (l *Line) leave(r *road) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.users--
	switch {
	case r.forgotten:
	case r.off && r.users == 0:
		l.retire(r)
	case !r.off && r.done():
		l.detach(r)
	}
}

// detach takes a road that is done from the map; it is closed when nobody is on
// it. l.mu is held.
func (l *Line) detach(r *road) {
	delete(l.roads, r.partner)
	r.off = true
	l.old[r], l.last[r.partner] = true, r
	if r.users == 0 {
		l.retire(r)
	}
}

// retire closes a road that nobody is on, when nothing else uses its session: streams
// of relays may go on there though the gRPC connection is gone, and need others, as
// listeners do. l.mu is held.
func (l *Line) retire(r *road) {
	if l.closed { // Close does it
		return
	}
	l.wg.Go(func() {
		if r.session != nil && !r.session.Single() {
			_ = r.session.AwaitIdle(l.ctx)
		}
		r.shut()
		l.mu.Lock()
		delete(l.old, r)
		l.mu.Unlock()
	})
}

// build makes the one attempt.
func (l *Line) build(ctx context.Context, r *road) {
	defer r.cancel()
	l.mu.Lock()
	last := l.last[r.partner]
	delete(l.last, r.partner)
	forgotten := last != nil && last.forgotten
	wait := forgotten || last != nil && last.users == 0
	l.mu.Unlock()
	if wait {
		<-last.built
		if forgotten || last.session == nil || last.session.Single() { // which has one connection at a time
			last.shut()
		}
	}
	cc, session, err := l.connect(ctx, r)
	l.mu.Lock()
	defer l.mu.Unlock()
	r.cc, r.session, r.err = cc, session, err
	if r.forgotten { // who has forgotten it closes it
		r.err = errForgotten(r.partner)
	}
	close(r.built)
	if err != nil && !r.forgotten {
		l.detach(r)
	}
}

// drop ends a road and the calls on it.
func (l *Line) drop(r *road) {
	r.cancel()
	<-r.built
	r.shut()
}

func errForgotten(partner string) *fault.Error {
	return fault.Concluded("call partner", fault.Lost, "the session with %s was closed: its address or keys have changed, or this node goes away", fault.Shown(partner))
}

// ended is why ctx is over, nil while it is not.
func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return fault.Wrap("call partner", "", context.Cause(ctx))
}
