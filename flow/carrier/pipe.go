package carrier

import (
	"context"
	"net"
	"sync"

	"github.com/pannier/pannier/spec/fault"
)

// Pipe is a place in memory where one end dials and the other accepts: a
// Dialer with Single() true and a net.Listener in one. One connection can be
// open at a time. It works inside testing/synctest.
type Pipe struct {
	offered chan *pipeConn // unbuffered: the accepting end of a Dial
	closed  chan struct{}
	close   sync.Once

	open chan struct{} // one token: held while a connection is open at either end
}

// NewPipe makes a Pipe. Use it directly, or as Options.Pipe with the address "pipe:".
func NewPipe() *Pipe {
	return &Pipe{offered: make(chan *pipeConn), closed: make(chan struct{}), open: make(chan struct{}, 1)}
}

// Dial makes the connection; it returns when Accept has taken it. It fails with
// Overloaded while neither end of an earlier connection is closed, and with Lost
// after Close.
func (p *Pipe) Dial(ctx context.Context) (net.Conn, error) {
	select {
	case p.open <- struct{}{}:
	default:
		return nil, fault.New("dial pipe", fault.Overloaded, "a pipe has one connection at a time")
	}
	near, far := newPair(sync.OnceFunc(func() { <-p.open }))
	select {
	case p.offered <- far:
		return near, nil
	case <-p.closed:
		_ = near.Close()
		return nil, fault.New("dial pipe", fault.Lost, "the pipe is closed")
	case <-ctx.Done():
		_ = near.Close()
		return nil, fault.Wrap("dial pipe", "", ctx.Err())
	}
}

// Single is true.
func (p *Pipe) Single() bool { return true }

// Accept waits for the next connection. After Close it fails with net.ErrClosed.
func (p *Pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.offered:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Addr is the address "pipe:".
func (p *Pipe) Addr() net.Addr { return pipeAddr{} }

// Close makes Dial and Accept fail. Connections live on.
func (p *Pipe) Close() error {
	p.close.Do(func() { close(p.closed) })
	return nil
}

// NewPair makes the two ends of one buffered connection in memory.
func NewPair() (a, b Conn) {
	x, y := newPair(func() {})
	return x, y
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return InMemory }
func (pipeAddr) String() string  { return "pipe:" }
