package flowtest

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pair is one connection: two ends and the stream each end writes. Everything
// in it is guarded by the link's mu; changed says that any of it changed.
type pair struct {
	link      *Link
	index     int
	changed   sync.Cond
	connected chan struct{} // closed when Dial may return
	isUp      bool
	dead      bool // reset, or closed at both ends: events do nothing any more
	ends      [2]*end
	streams   [2]*stream // by Direction
}

func newPair(l *Link, index int) *pair {
	p := &pair{link: l, index: index, connected: make(chan struct{})}
	p.changed.L = &l.mu
	for _, d := range []Direction{FromDialer, FromAcceptor} {
		p.ends[d] = &end{pair: p, side: d}
		p.streams[d] = newStream(p, d)
	}
	return p
}

func (p *pair) connect() {
	if !p.isUp {
		p.isUp = true
		close(p.connected)
	}
}

// refusal is why a connection that Dial waited for is over before it began.
func (p *pair) refusal() error {
	p.link.mu.Lock()
	defer p.link.mu.Unlock()
	if err := p.ends[FromDialer].err; err != nil {
		return p.ends[FromDialer].opError("dial", err)
	}
	return nil
}

// reset ends the connection at both ends at once.
func (p *pair) reset(err error) {
	for _, e := range p.ends {
		e.fail(err)
	}
	p.bury()
}

func (p *pair) bury() {
	p.dead = true
	delete(p.link.live, p)
	p.connect()
	p.changed.Broadcast()
}

// end is one end of a connection, a net.Conn with CloseWrite.
type end struct {
	pair            *pair
	side            Direction // what it writes
	closed          bool
	err             error // why it was reset
	readBy, writeBy deadline
}

type deadline struct {
	t     time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.t.IsZero() && !time.Now().Before(d.t) }

func (e *end) in() *stream  { return e.pair.streams[1-e.side] }
func (e *end) out() *stream { return e.pair.streams[e.side] }

func (e *end) fail(err error) {
	if e.err == nil {
		e.err = err
	}
	e.pair.changed.Broadcast()
}

func (e *end) Read(p []byte) (int, error) {
	l := e.pair.link
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		now := l.advance()
		in := e.in()
		switch {
		case e.closed:
			return 0, e.opError("read", net.ErrClosed)
		case e.readBy.passed():
			return 0, e.opError("read", os.ErrDeadlineExceeded)
		case len(p) == 0:
			return 0, nil
		case len(in.ready) > 0:
			n := in.take(p, now)
			l.advance()
			return n, nil
		case in.ended:
			return 0, io.EOF
		case e.err != nil:
			return 0, e.opError("read", e.err)
		}
		e.pair.changed.Wait()
	}
}

func (e *end) Write(p []byte) (int, error) {
	l := e.pair.link
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := 0; ; {
		now := l.advance()
		switch {
		case e.closed:
			return n, e.opError("write", net.ErrClosed)
		case e.err != nil:
			return n, e.opError("write", e.err)
		case e.out().finished:
			return n, e.opError("write", syscall.EPIPE)
		case e.writeBy.passed():
			return n, e.opError("write", os.ErrDeadlineExceeded)
		}
		n += e.out().put(p[n:], now)
		l.advance()
		if n == len(p) {
			return n, nil
		}
		if e.out().room() == 0 {
			e.pair.changed.Wait()
		}
	}
}

// CloseWrite lets the peer read what was written and then io.EOF.
func (e *end) CloseWrite() error {
	l := e.pair.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.closed {
		return e.opError("close", net.ErrClosed)
	}
	e.out().finish(l.advance())
	l.advance()
	return nil
}

// Close lets the peer read what was written and then io.EOF. As with TCP, bytes not
// read here, or arriving later, reset the connection instead.
func (e *end) Close() error {
	l := e.pair.link
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.advance()
	if e.closed {
		return nil
	}
	e.closed = true
	for _, d := range []*deadline{&e.readBy, &e.writeBy} {
		if d.timer != nil {
			d.timer.Stop()
		}
	}
	p := e.pair
	switch {
	case p.dead:
	case p.ends[1-e.side].closed:
		p.bury()
	case len(e.in().ready) > 0:
		e.in().abort(now)
	default:
		e.out().finish(now)
	}
	p.changed.Broadcast()
	l.advance()
	return nil
}

func (e *end) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "flowtest", Source: e.LocalAddr(), Addr: e.RemoteAddr(), Err: err}
}

func (e *end) LocalAddr() net.Addr  { return e.name(e.side) }
func (e *end) RemoteAddr() net.Addr { return e.name(1 - e.side) }

func (e *end) name(d Direction) net.Addr {
	return addr(fmt.Sprintf("%s-%d", [...]string{"dialer", "acceptor"}[d], e.pair.index))
}

func (e *end) SetDeadline(t time.Time) error {
	_ = e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

func (e *end) SetReadDeadline(t time.Time) error  { return e.setDeadline(&e.readBy, t) }
func (e *end) SetWriteDeadline(t time.Time) error { return e.setDeadline(&e.writeBy, t) }

func (e *end) setDeadline(d *deadline, t time.Time) error {
	l := e.pair.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	*d = deadline{t: t}
	if e.closed {
		return e.opError("set", net.ErrClosed)
	}
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			e.pair.changed.Broadcast()
		})
	}
	e.pair.changed.Broadcast()
	return nil
}
