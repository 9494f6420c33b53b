package rpc

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// retireTime is how long a session that the peer is draining may go on with
// the streams it has.
const retireTime = 10 * time.Minute

// link is the way to a session: it makes one when there is none, one attempt at
// a time, and a new one when the old one is over.
type link struct {
	dialer flow.Dialer
	cfg    flow.Config
	serve  func(*flow.Session) // called once for each session, on a goroutine that close awaits

	turn chan struct{} // capacity 1: held by who is dialing

	ctx    context.Context // ends with close
	cancel context.CancelFunc

	mu      sync.Mutex
	session *flow.Session // the newest; nil: none yet
	closed  bool
	wg      sync.WaitGroup
}

func newLink(d flow.Dialer, cfg flow.Config, serve func(*flow.Session)) *link {
	l := &link{dialer: d, cfg: cfg, serve: serve, turn: make(chan struct{}, 1)}
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
	first, err := l.dialer.Dial(ctx)
	if err != nil {
		return nil, nil, fault.Wrap("connect", "", err)
	}
	if p, ok := first.(interface{ Protocol() string }); ok && p.Protocol() == carrier.ProtocolHTTP2 {
		return nil, first, nil
	}
	s, err = flow.Connect(ctx, &primed{Dialer: l.dialer, first: first}, l.cfg)
	if isOther(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fault.Wrap("connect", "", err)
	}
	return s, nil, l.adopt(s)
}

// adopt makes s the session in use.
func (l *link) adopt(s *flow.Session) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		s.Close()
		return fault.New("connect", fault.Canceled, "the client connection is closed")
	}
	old := l.session
	l.session = s
	l.wg.Go(func() { l.serve(s) })
	if old != nil { // over or draining: its calls may still be running
		l.wg.Go(func() { l.retire(old) })
	}
	l.mu.Unlock()
	return nil
}

// retire closes a session whose peer wants no new streams, once the present
// ones are done.
func (l *link) retire(s *flow.Session) {
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

// primed is a dialer whose first connection exists already.
type primed struct {
	flow.Dialer
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
