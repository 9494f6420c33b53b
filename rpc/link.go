package rpc

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// retireTime is how long a session that the peer is draining may go on with
// the streams it has when the last call that uses it is over.
const retireTime = 10 * time.Minute

// link is the way to a session: it makes one when there is none, one attempt at
// a time, and a new one when the old one is over.
type link struct {
	dialer flow.Dialer
	cfg    flow.Config
	single bool                // another connection would be the end of the first
	serve  func(*flow.Session) // called once for each session, on a goroutine that close awaits

	turn chan struct{} // capacity 1: held by who is dialing

	ctx    context.Context // ends with close
	cancel context.CancelFunc

	mu      sync.Mutex
	session *flow.Session // the newest; nil: none yet
	uses    *uses         // of session
	closed  bool
	wg      sync.WaitGroup
}

// uses counts the calls that use one session of a link. Guarded by link.mu.
type uses struct {
	n       int
	retired bool          // there is a newer session
	none    chan struct{} // closed when retired and n is 0
}

func newLink(d flow.Dialer, single bool, cfg flow.Config, serve func(*flow.Session)) *link {
	l := &link{dialer: d, single: single, cfg: cfg, serve: serve, turn: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// current is the session in use; nil if there is none or it is over or
// draining.
func (l *link) current() *flow.Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == nil || l.session.Draining() {
		return nil
	}
	return l.session
}

// use is get for a call that uses the session until release, which is nil without
// one. A session that the peer is draining is left only when no call uses it.
func (l *link) use(ctx context.Context) (s *flow.Session, http2 net.Conn, release func(), err error) {
	for {
		s, http2, err = l.get(ctx)
		if s == nil || err != nil {
			return nil, http2, nil, err
		}
		if release := l.hold(s); release != nil {
			return s, nil, release, nil
		}
	}
}

// hold counts a use of s; nil: there is a newer session.
func (l *link) hold(s *flow.Session) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session != s {
		return nil
	}
	u := l.uses
	u.n++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		u.n--
		u.settle()
	})
}

func (u *uses) settle() {
	if u.retired && u.n == 0 {
		close(u.none)
	}
}

// get returns the session, making one if need be. A peer that speaks HTTP/2
// instead is no error: then the session is nil, and http2 is the connection if
// the peer has agreed to HTTP/2 on it.
func (l *link) get(ctx context.Context) (s *flow.Session, http2 net.Conn, err error) {
	if s := l.current(); s != nil {
		return s, nil, nil
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, nil, cause("connect", ctx)
	}
	if s := l.current(); s != nil {
		return s, nil, nil
	}
	if l.single {
		if err := l.vacate(ctx); err != nil {
			return nil, nil, err
		}
	}
	first, err := l.dialer.Dial(ctx)
	if err != nil && passes(err) && l.busy() {
		return nil, nil, fault.Concluded("connect", fault.Draining, "the server is going away, and nobody has taken its place: %w", err)
	}
	if err != nil {
		return nil, nil, fault.Wrap("connect", "", err)
	}
	if p, ok := first.(interface{ Protocol() string }); ok && p.Protocol() == carrier.ProtocolHTTP2 {
		return nil, first, nil
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	s, err = flow.Connect(ctx, &primed{Dialer: l.dialer, first: first, md: md}, l.cfg)
	if isOther(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fault.Wrap("connect", "", err)
	}
	return s, nil, l.adopt(s)
}

// vacate waits until the connection of a session that is over is closed, and refuses while it is not over.
func (l *link) vacate(ctx context.Context) error {
	if l.busy() {
		return fault.Concluded("connect", fault.Draining, "the server is going away; its only connection is in use until the calls that run are over")
	}
	closed := make(chan struct{})
	l.mu.Lock()
	s := l.session
	if s == nil || l.closed { // then adopt refuses
		l.mu.Unlock()
		return nil
	}
	l.wg.Go(func() { s.Close(); close(closed) })
	l.mu.Unlock()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return cause("connect", ctx)
	}
}

// busy: the session is there, though it takes nothing new.
func (l *link) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session != nil && l.session.Err() == nil
}

// adopt makes s the session in use.
func (l *link) adopt(s *flow.Session) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		s.Close()
		return errClosed()
	}
	old, u := l.session, l.uses
	l.session, l.uses = s, &uses{none: make(chan struct{})}
	l.wg.Go(func() { l.serve(s) })
	if old != nil { // over or draining: its calls may still be running
		u.retired = true
		u.settle()
		l.wg.Go(func() { l.retire(old, u) })
	}
	l.mu.Unlock()
	return nil
}

// retire closes a session whose peer wants no new streams, once the calls that use it and then
// the streams are done. Until then the peer opens streams for those calls, so it is not told
// before to open nothing.
func (l *link) retire(s *flow.Session, u *uses) {
	select {
	case <-u.none:
	case <-s.Done():
	case <-l.ctx.Done():
	}
	ctx, cancel := context.WithTimeout(l.ctx, retireTime)
	defer cancel()
	_ = s.Drain(ctx)
	s.Close()
}

// close ends the sessions and waits for what serves them.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	s := l.session
	l.mu.Unlock()
	l.cancel()
	if s != nil {
		s.Close()
	}
	l.wg.Wait()
}

// isOther: the peer answered the handshake with something that is not Pannier,
// as HTTP/2 servers do with their SETTINGS.
func isOther(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Kind == fault.Unsupported && f.Side == fault.Inferred
}

// primed is a dialer whose first connection exists already. On the stream road later ones
// need the metadata of the first, by which a proxy or an interceptor may have let it in.
type primed struct {
	flow.Dialer
	md    metadata.MD
	mu    sync.Mutex
	first net.Conn
}

func (p *primed) Dial(ctx context.Context) (net.Conn, error) {
	p.mu.Lock()
	first := p.first
	p.first = nil
	p.mu.Unlock()
	if first != nil {
		return first, nil
	}
	if p.md != nil {
		ctx = metadata.NewOutgoingContext(ctx, p.md)
	}
	c, err := p.Dialer.Dial(ctx)
	if err != nil {
		return nil, err
	}
	if h, ok := c.(interface{ Protocol() string }); ok && h.Protocol() == carrier.ProtocolHTTP2 {
		c.Close()
		return nil, fault.New("dial", fault.Unsupported, "the server speaks only HTTP/2 now")
	}
	return c, nil
}
