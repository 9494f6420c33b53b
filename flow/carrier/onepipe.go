package carrier

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

// openOnePipe makes a connection over one pipe, ready for a handshake of which the
// dialer says the first word. It is closed when ctx ends meanwhile.
//
// A listener returns when a peer has begun to speak. A dialer tries again when the other
// end of a FIFO goes away meanwhile: that was an earlier connection's.
func openOnePipe(ctx context.Context, a Address, o Options, listening bool) (*fileConn, error) {
	for pause := leastKnock; ; pause = min(2*pause, mostKnock) {
		c, err := openOnce(ctx, a, o, listening)
		gone := errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE)
		if !gone || listening || a.Scheme != FIFO || !rest(ctx, pause) {
			return c, err
		}
	}
}

// rest waits for d, and reports whether ctx has not ended.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func openOnce(ctx context.Context, a Address, o Options, listening bool) (*fileConn, error) {
	var c *fileConn
	var err error
	switch a.Scheme {
	case FIFO:
		c, err = openFIFO(ctx, a, listening, o.HandshakeTimeout)
	case TTY:
		c, err = openTTY(a)
	case Exec:
		c, err = openExec(a, o.Logger)
	default:
		c, err = openStdio(a, o.Stdio)
	}
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	err = begin(ctx, c, a, o, listening)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// begin sees to it that what is read next is of this connection.
func begin(ctx context.Context, c *fileConn, a Address, o Options, listening bool) error {
	shared := a.Scheme == FIFO || a.Scheme == TTY
	switch {
	case shared && listening:
		return (&greeter{c: c}).answer(o.HandshakeTimeout)
	case shared:
		return (&greeter{c: c}).call(ctx)
	case listening:
		return c.await()
	}
	return nil // prologue does it
}

// withTurn gives a turn back when the connection is closed.
func withTurn(c *fileConn, turn chan struct{}) {
	finish := c.finish
	c.finish = func() error {
		defer func() { <-turn }()
		if finish != nil {
			return finish()
		}
		return nil
	}
}

// errOver: there will be no further connection.
var errOver = errors.New("stdin and stdout have been used")

// onePipeListener accepts one connection at a time over one pipe, and the
// next when that is closed.
type onePipeListener struct {
	addr   Address
	opts   Options
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	turn   chan struct{} // one token: held while a connection is open
	spent  bool          // stdio has been used; guarded by turn
}

func listenOnePipe(a Address, o Options) (net.Listener, error) {
	if err := o.mayExpose(a); err != nil {
		return nil, err
	}
	l := &onePipeListener{addr: a, opts: o, turn: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l, nil
}

// mayExpose refuses to listen on a pipe without tls that somebody else may be
// at the other end of. The only one that the system keeps to this user is a pair
// of FIFOs of this user's that nobody else may open.
func (o Options) mayExpose(a Address) error {
	if !a.Plain || o.ExposePlaintext || a.Scheme == FIFO && a.Out != "" && ownFIFOs(a) {
		return nil
	}
	secure := a
	secure.Plain = false
	return fault.New("check address", fault.Invalid,
		"nothing proves who is at the other end of %s: listen on %s, which asks for a key", a.String(), secure.String()).
		Advise("set ExposePlaintext if everyone who reaches the other end may call; a pair of FIFOs of your own with mode 0600 needs no leave")
}

func (l *onePipeListener) Accept() (net.Conn, error) {
	select {
	case l.turn <- struct{}{}:
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
	c, err := l.open()
	if err != nil {
		<-l.turn
		return nil, err
	}
	withTurn(c, l.turn)
	return c, nil
}

func (l *onePipeListener) open() (*fileConn, error) {
	if l.spent {
		return nil, errOver
	}
	c, err := openOnePipe(l.ctx, l.addr, l.opts, true)
	switch {
	case l.addr.Scheme == Stdio:
		l.spent = true
		if err != nil {
			err = errors.Join(err, errOver)
		}
	case l.ctx.Err() != nil && err != nil:
		err = net.ErrClosed
	}
	return c, err
}

func (l *onePipeListener) Addr() net.Addr { return onePipeAddr(l.addr) }

// Close makes Accept fail. The connection lives on.
func (l *onePipeListener) Close() error {
	l.cancel()
	return nil
}
