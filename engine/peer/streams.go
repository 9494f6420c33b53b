package peer

import (
	"sync"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

// RelayFeature is announced in the handshake by nodes that have Streams: a partner
// may open streams to them whenever there is a session, whichever end has dialled it.
const RelayFeature = "relay/1"

// Streams takes what partners open beside calls; *relay.Hub is one. The partner's
// name is proven. No method waits for anything.
type Streams interface {
	// Attach is told of a session with a partner that takes streams, too.
	Attach(partner string, s *flow.Session)
	// Detach is told that the other end of a session is that partner no more.
	Detach(partner string, s *flow.Session)
	// Handle accepts or refuses a stream, at once or later.
	Handle(partner string, s *flow.Session, in *flow.Incoming)
}

// none is Streams by default.
type none struct{}

func (none) Attach(string, *flow.Session) {}
func (none) Detach(string, *flow.Session) {}
func (none) Handle(_ string, _ *flow.Session, in *flow.Incoming) {
	in.Refuse(fault.New("accept stream", fault.Unsupported, "this node takes no streams but those of calls"))
}

func orNone(s Streams) Streams {
	if s == nil {
		return none{}
	}
	return s
}

// attach tells of a session, unless its other end takes no streams.
func attach(to Streams, partner string, s *flow.Session) {
	if s.Peer().Has(RelayFeature) {
		to.Attach(partner, s)
	}
}

// accepted implements rpc.Streams for the sessions that partners have dialled.
type accepted struct {
	s       *Server
	streams Streams

	mu sync.Mutex
	of map[*flow.Session]string // sessions that are not over, nor about to be: whose
}

func (a *accepted) Attach(s *flow.Session) {
	if err := a.enter(s); err != nil { // the book has changed since the handshake
		_ = s.CloseWithError(err)
	}
}

func (a *accepted) enter(s *flow.Session) error {
	a.mu.Lock()
	defer a.mu.Unlock() // review comes before, or sees it
	name, err := a.s.partner(s.Peer())
	if err != nil {
		return err
	}
	a.of[s] = name
	attach(a.streams, name, s)
	return nil
}

func (a *accepted) Over(s *flow.Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.of, s)
}

// Handle asks for each stream who its opener is: the book may have changed.
func (a *accepted) Handle(s *flow.Session, in *flow.Incoming) {
	a.mu.Lock()
	defer a.mu.Unlock() // review comes before, or its Detach after
	name, err := a.s.partner(s.Peer())
	if err == nil && name != a.of[s] {
		err = errNobody()
	}
	if err != nil {
		in.Refuse(err)
		return
	}
	a.streams.Handle(name, s, in)
}

// review ends the sessions that are not of who they were.
func (a *accepted) review() {
	var ending sync.WaitGroup
	for s, was := range a.changed() {
		why := fault.Concluded("session", fault.Unauthenticated, "partner %s has another key or user now, or is none any more", fault.Shown(was))
		ending.Go(func() { _ = s.CloseWithError(why) })
	}
	ending.Wait()
}

// changed detaches the sessions that are not of who they were, and says of whom.
func (a *accepted) changed() map[*flow.Session]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	gone := map[*flow.Session]string{}
	for s, was := range a.of {
		if name, err := a.s.partner(s.Peer()); err == nil && name == was {
			continue
		}
		delete(a.of, s)
		gone[s] = was
		a.streams.Detach(was, s)
	}
	return gone
}

// dialled implements rpc.Streams for the sessions of one road. What the partner opens
// before it has said its name waits until it has.
type dialled struct {
	partner string
	streams Streams
	known   chan struct{} // closed by settle
	session *flow.Session // then: the road's first; nil: there is none
}

func newDialled(partner string, s Streams) *dialled {
	return &dialled{partner: partner, streams: orNone(s), known: make(chan struct{})}
}

// settle says that the partner is at the end of a session, or, with nil, that it is not.
func (d *dialled) settle(s *flow.Session) {
	if d.session = s; s != nil {
		attach(d.streams, d.partner, s)
	}
	close(d.known)
}

// Attach is for sessions that gRPC has dialled by itself on a road that was built.
func (d *dialled) Attach(s *flow.Session) {
	select {
	case <-d.known:
		if d.session != nil {
			attach(d.streams, d.partner, s)
		}
	default:
	}
}

func (d *dialled) Over(*flow.Session) {}

func (d *dialled) Handle(s *flow.Session, in *flow.Incoming) {
	select {
	case <-d.known:
	case <-s.Done():
	}
	if s.Err() != nil || d.session == nil {
		in.Refuse(errNobody())
		return
	}
	d.streams.Handle(d.partner, s, in)
}
