package rpc

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/spec/fault"
)

// The stream road: a session whose only connection is one gRPC stream of raw
// bytes, so that it goes wherever gRPC goes, HTTP/2 proxies included.
const (
	carryService = "pannier.rpc.v1.Effects"
	carryMethod  = "/" + carryService + "/Carry"

	// carryFarewell is how long closing waits for the other end to take what
	// was written.
	carryFarewell = time.Second
)

// carryDesc is the stream of Carry as gRPC knows it; the messages are bytes, so
// there is nothing to generate.
var carryDesc = grpc.StreamDesc{StreamName: "Carry", ClientStreams: true, ServerStreams: true}

// gRPCStream is what both ends' streams have in common.
type gRPCStream interface {
	Context() context.Context
	SendMsg(m any) error
	RecvMsg(m any) error
}

// carryConn is a gRPC stream as a net.Conn. One goroutine may read while
// another writes. A deadline that passes breaks the connection for good,
// because a gRPC call cannot be interrupted and go on.
type carryConn struct {
	stream gRPCStream
	abort  func()       // ends the stream at once; idempotent
	finish func() error // says that nothing more will come

	refused func(error) // told what RecvMsg failed with; may be nil
	limited bool        // by the server's options; a client's are set for each call

	reading chan struct{} // capacity 1: held by who calls RecvMsg
	writing chan struct{} // capacity 1: held by who calls SendMsg
	msg     mem.BufferSlice
	rest    []byte // of msg's first buffer; guarded by reading
	readErr error  // guarded by reading

	closed chan struct{} // closed by Close
	over   chan struct{} // closed when Close has done all it will
	once   sync.Once
	rd, wr carryDeadline
}

func newCarryConn(s gRPCStream, abort func(), finish func() error) *carryConn {
	return &carryConn{
		stream: s, abort: abort, finish: finish,
		reading: make(chan struct{}, 1), writing: make(chan struct{}, 1),
		closed: make(chan struct{}), over: make(chan struct{}),
	}
}

// dialCarry opens the stream. ctx bounds opening only; an unaware server shows
// when the first bytes are awaited.
func dialCarry(ctx context.Context, cc grpc.ClientConnInterface) (*carryConn, error) {
	sctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	st, err := cc.NewStream(sctx, &carryDesc, carryMethod, grpc.ForceCodecV2(rawCodec{pool: newCarryPool()}),
		grpc.MaxCallRecvMsgSize(carryLarge), grpc.MaxCallSendMsgSize(carryLarge))
	if !stop() && err == nil {
		err = cause("carry", ctx)
	}
	if err != nil {
		cancel()
		return nil, asFault("carry", err)
	}
	return newCarryConn(st, cancel, st.CloseSend), nil
}

// Divides tells package flow that a large write holds no call up: gRPC sends it in
// frames of 16 KiB, in turn with those of other streams.
func (c *carryConn) Divides() bool { return true }

// Read implements net.Conn.
func (c *carryConn) Read(p []byte) (int, error) {
	select {
	case c.reading <- struct{}{}:
	case <-c.closed:
		return 0, net.ErrClosed
	}
	defer func() { <-c.reading }()
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.rest) == 0 && c.readErr == nil {
		c.readErr = c.next()
	}
	if len(c.rest) == 0 {
		return 0, c.rd.explain(c.readErr)
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// next makes rest the next piece of content. The caller holds reading.
func (c *carryConn) next() error {
	if len(c.msg) > 0 {
		c.msg[0].Free()
		c.msg = c.msg[1:]
	}
	if len(c.msg) == 0 {
		c.msg = nil
		if err := c.stream.RecvMsg(&c.msg); err != nil {
			if err == io.EOF {
				return io.EOF
			}
			if c.refused != nil {
				c.refused(err)
			}
			if c.limited && status.Code(err) == codes.ResourceExhausted {
				return errSmallMessages(err)
			}
			return asFault("carry", fromCall("carry", err))
		}
	}
	if len(c.msg) > 0 {
		c.rest = c.msg[0].ReadOnlyData()
	}
	return nil
}

// errSmallMessages ends the session: on the next connection the same would happen.
func errSmallMessages(err error) error {
	return &fault.Error{Op: "carry", Kind: fault.TooLong, Session: true, Err: fault.New("receive message", fault.TooLong,
		"the stream road needs messages of %d bytes: give rpc.NewServer no grpc.MaxRecvMsgSize, or one of that or more: %w", carryLarge, err)}
}

// Write implements net.Conn; p is sent in messages of at most carryLarge.
func (c *carryConn) Write(p []byte) (n int, err error) {
	select {
	case c.writing <- struct{}{}:
	case <-c.closed:
		return 0, net.ErrClosed
	}
	defer func() { <-c.writing }()
	for len(p) > 0 {
		select {
		case <-c.closed:
			return n, net.ErrClosed
		default:
		}
		piece := p[:min(len(p), carryLarge)]
		if err := c.stream.SendMsg(piece); err != nil {
			return n, c.wr.explain(c.why(err))
		}
		n, p = n+len(piece), p[len(piece):]
	}
	return n, nil
}

// why is the reason of a failed SendMsg. gRPC says only io.EOF there and keeps
// the status for RecvMsg; a goroutine that is reading gets it itself.
func (c *carryConn) why(err error) error {
	if err != io.EOF {
		return asFault("carry", err)
	}
	select {
	case c.reading <- struct{}{}:
		for len(c.rest) == 0 && c.readErr == nil {
			c.readErr = c.next()
		}
		err = c.readErr
		<-c.reading
	default:
	}
	if err == nil || err == io.EOF {
		err = fault.New("carry", fault.Lost, "the other end has ended the stream")
	}
	return err
}

// Close ends both directions and returns at once. What was written is delivered
// if the other end takes it within carryFarewell; over is closed after that.
func (c *carryConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		go c.farewell()
	})
	return nil
}

func (c *carryConn) farewell() {
	defer close(c.over)
	late := time.AfterFunc(carryFarewell, c.abort)
	c.writing <- struct{}{} // a writer that is blocked ends with the abort
	c.finish()
	c.reading <- struct{}{} // likewise a reader
	for c.readErr == nil {
		c.readErr = c.next()
	}
	c.msg.Free()
	c.msg, c.rest = nil, nil
	late.Stop()
	c.rd.stop()
	c.wr.stop()
	c.abort()
}

// SetDeadline implements net.Conn.
func (c *carryConn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *carryConn) SetReadDeadline(t time.Time) error { c.rd.set(t, c.abort); return nil }

// SetWriteDeadline implements net.Conn.
func (c *carryConn) SetWriteDeadline(t time.Time) error { c.wr.set(t, c.abort); return nil }

// LocalAddr implements net.Conn.
func (c *carryConn) LocalAddr() net.Addr { return carryAddr("carry") }

// RemoteAddr is the address of the gRPC connection underneath: of the proxy, if
// there is one.
func (c *carryConn) RemoteAddr() net.Addr {
	if p, ok := peer.FromContext(c.stream.Context()); ok && p.Addr != nil {
		return carryAddr(p.Addr.String())
	}
	return carryAddr("carry")
}

// PeerKey implements flow.Identified: who the gRPC connection proved to be.
func (c *carryConn) PeerKey() string {
	key, _ := identify(c.stream.Context())
	return key
}

// PeerUID implements flow.Identified.
func (c *carryConn) PeerUID() int {
	_, uid := identify(c.stream.Context())
	return uid
}

// carryAddr is an address of network "carry"; whatever is underneath, the
// session may not take it for local.
type carryAddr string

func (carryAddr) Network() string  { return "carry" }
func (a carryAddr) String() string { return string(a) }

// carryDialer makes the only connection of a carried session.
type carryDialer struct {
	cc      grpc.ClientConnInterface
	unaware atomic.Bool // the server answered UNIMPLEMENTED
	open    crew        // connections that have not said farewell
}

func (d *carryDialer) Single() bool { return true }

func (d *carryDialer) Dial(ctx context.Context) (net.Conn, error) {
	d.unaware.Store(false)
	c, err := dialCarry(ctx, d.cc)
	if err != nil {
		return nil, err // not c: a nil *carryConn is not a nil net.Conn
	}
	c.refused = func(err error) {
		if status.Code(err) == codes.Unimplemented {
			d.unaware.Store(true)
		}
	}
	if !d.open.Go(func() { <-c.over }) {
		c.Close()
		return nil, errClosed()
	}
	return c, nil
}

// serveCarry is the handler of Carry: it gives the stream to take and ends when
// the connection is closed.
func serveCarry(stream grpc.ServerStream, take func(net.Conn)) error {
	ended := make(chan struct{})
	abort := sync.OnceFunc(func() { close(ended) })
	c := newCarryConn(stream, abort, func() error { return nil })
	c.limited = true
	// The farewell of a server is returning from here: the transport sends
	// what was written before the status.
	c.finish = func() error { abort(); return nil }
	take(c)
	select {
	case <-ended:
		return nil
	case <-stream.Context().Done():
		abort()
		return fault.Wrap("carry", "", context.Cause(stream.Context()))
	}
}
