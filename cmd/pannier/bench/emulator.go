package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/spec/fault"
)

// linkSocket bounds what the kernel holds of its own sockets, in
// bytes, so that the link's queue is the queue and not the loopback's.
const linkSocket = 256 << 10

// openWindow is the first window of a link without slow start, in bytes.
const openWindow = 1 << 20

// linkSeed makes the losses of a link the same in every run.
const linkSeed = 1

// emulator puts an emulated link between two processes: it accepts connections of
// the client, carries each over a connection of the link, and connects to the
// server at the far end. The processes talk TCP to it and know nothing of it.
// A connection of the client exists before that of the link, so the round trip
// of connecting shows up as a later first byte.
type emulator struct {
	listener net.Listener
	link     *flowtest.Link
	target   string // host:port of the server
	ctx      context.Context
	cancel   context.CancelFunc
	conns    sync.WaitGroup // all goroutines; close waits for them
}

// startEmulator returns the address to connect to instead of addr. Only TCP
// addresses can be carried: others are fault.Unsupported.
func startEmulator(link Link, addr string) (*emulator, string, error) {
	scheme, target := splitScheme(addr)
	if _, _, err := net.SplitHostPort(target); err != nil {
		return nil, "", fault.New("emulate link", fault.Unsupported, "%s is not an address with a port; leave this case out with --cases", addr)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", fault.Wrap("emulate link", "", err)
	}
	emulated := flowtest.LinkConfig{RTT: link.RTT, Rate: link.Rate, Loss: link.Loss, Seed: linkSeed}
	if link.Open {
		emulated.FirstWindow = openWindow
	}
	r := &emulator{listener: l, target: target, link: flowtest.NewLink(emulated)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.conns.Go(func() { r.accept(l, r.enter) })
	r.conns.Go(func() { r.accept(r.link, r.leave) })
	return r, scheme + l.Addr().String(), nil
}

// splitScheme splits "tls://host:port" after the slashes.
func splitScheme(addr string) (scheme, rest string) {
	if i := strings.Index(addr, "://"); i >= 0 {
		return addr[:i+3], addr[i+3:]
	}
	return "", addr
}

// accept hands each connection to carry until l is closed.
func (r *emulator) accept(l net.Listener, carry func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		r.conns.Go(func() { carry(conn) })
	}
}

// enter carries a client's connection into the link.
func (r *emulator) enter(conn net.Conn) {
	far, err := r.link.Dial(r.ctx)
	if err != nil {
		conn.Close()
		return
	}
	r.splice(conn, far)
}

// leave carries a connection out of the link to the server.
func (r *emulator) leave(conn net.Conn) {
	far, err := new(net.Dialer).DialContext(r.ctx, "tcp", r.target)
	if err != nil {
		conn.Close()
		return
	}
	r.splice(far, conn)
}

// splice copies both ways until both have ended, then closes both.
func (r *emulator) splice(socket, linked net.Conn) {
	defer context.AfterFunc(r.ctx, func() { socket.Close(); linked.Close() })()
	if tcp, ok := socket.(*net.TCPConn); ok {
		// Without these the emulation is less exact, not wrong.
		_ = tcp.SetReadBuffer(linkSocket)
		_ = tcp.SetWriteBuffer(linkSocket)
	}
	var both sync.WaitGroup
	both.Go(func() { forward(linked, socket) })
	both.Go(func() { forward(socket, linked) })
	both.Wait()
	socket.Close()
	linked.Close()
}

// forward copies until src ends and passes the end on. A failure, or an end
// that dst cannot show by half-closing, closes dst.
func forward(dst, src net.Conn) {
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, linkSocket))
	half, ok := dst.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		dst.Close()
	}
}

// close ends every connection and waits for the goroutines.
func (r *emulator) close() error {
	r.cancel()
	err := errors.Join(r.listener.Close(), r.link.Close())
	r.conns.Wait()
	return fault.Wrap("end emulated link", "", err)
}
