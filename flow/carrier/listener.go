package carrier

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Back-off after a failed accept, as when descriptors have run out (EMFILE):
// doubled from least to most, back to least after a success.
const (
	leastBackoff = 5 * time.Millisecond
	mostBackoff  = time.Second
)

// How long and for how many bytes a refused tls client is listened to.
const (
	lingerTime  = time.Second
	lingerBytes = 64 << 10
)

// Listener accepts connections on one address. Its goroutines, one for each
// connection not yet handed on, are started by Serve and awaited by Close.
type Listener struct {
	addr      Address
	opts      Options
	ln        net.Listener
	tls       *tls.Config // nil unless peers prove keys
	budget    *budget
	strangers strangers

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	close  sync.Once
	serve  chan struct{} // one token: taken by Serve for good
	served chan struct{} // closed when Serve has returned
	wg     sync.WaitGroup

	accepted, refused, failed, lanes, http2 atomic.Int64
}

// Listen opens the address. Nothing is accepted before Serve, and nothing of an
// address of one pipe is opened. An address whose peers prove keys
// needs an Identity, and Pins or AuthorizeKey unless Protocols leaves lanes out; a
// tcp address that is not of the loopback device needs ExposePlaintext, and so does
// one of one pipe with "plain+" unless it is a pair of FIFOs that only this user may open. A unix
// socket that is already served gives fault.Exists.
func Listen(address string, o Options) (*Listener, error) {
	a, err := ParseAddress(address)
	if err != nil {
		return nil, err
	}
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	if len(o.Protocols) == 0 {
		o.Protocols = []string{ProtocolLane, ProtocolHTTP2}
	}
	l := &Listener{addr: a, opts: o, serve: make(chan struct{}, 1), served: make(chan struct{})}
	if err = o.checkFor(a); err == nil && a.Proves() {
		l.tls, err = o.serverConfig()
	}
	if err != nil {
		return nil, fault.Wrap("listen", address, err)
	}
	if l.ln, err = listen(a, o); err != nil {
		return nil, failure("listen", address, err)
	}
	if t, ok := l.ln.Addr().(*net.TCPAddr); ok {
		_, l.addr.Port, _ = net.SplitHostPort(t.String())
	}
	l.budget = newBudget(o.MaxPending, o.MaxPerSource, rand.Float64)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l, nil
}

func listen(a Address, o Options) (net.Listener, error) {
	switch {
	case a.Scheme == Unix:
		return listenUnix(a.Path, o.Mode)
	case a.Scheme == InMemory && o.Pipe == nil:
		return nil, fault.New("pipe options", fault.Invalid, `"pipe:" leads nowhere: set Pipe to one made by NewPipe`)
	case a.Scheme == InMemory:
		return o.Pipe, nil
	case a.onePipe():
		return listenOnePipe(a, o)
	case a.Scheme == TCP && !o.ExposePlaintext:
		return listenLoopback(a, o.HandshakeTimeout)
	}
	network, address := a.target()
	return listenTCP(network, address, o.HandshakeTimeout)
}

// listenLoopback listens on a tcp address if that is of the loopback device. A
// name is resolved once and the result bound, so that what was checked is what is open.
func listenLoopback(a Address, silent time.Duration) (net.Listener, error) {
	network, address := a.target()
	resolved, err := net.ResolveTCPAddr(network, address)
	if err != nil {
		return nil, err
	}
	if !resolved.AddrPort().Addr().Unmap().IsLoopback() { // nor is the wildcard, whose IP is empty
		return nil, fault.New("check address", fault.Invalid,
			"tcp encrypts nothing and proves no peer, and %s is not of the loopback device: listen on tcp://127.0.0.1:%s, or with tls:// on any", cmp.Or(a.Host, "an address without a host"), a.Port).
			Advise("set ExposePlaintext if everyone who reaches the port may call and listen in")
	}
	return listenTCP(network, resolved.String(), silent)
}

// Addr is where the listener listens, with the port the system chose for 0.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Address is the address listened on, with the port the system chose for 0, in
// the form that NewDialer takes.
func (l *Listener) Address() Address { return l.addr }

// ListenerStats count connections since Listen.
type ListenerStats struct {
	Accepted int64 // by the operating system
	Refused  int64 // closed at once: a limit on pending ones
	Failed   int64 // closed for not showing a known protocol and an allowed peer
	Lanes    int64 // handed on as lanes
	HTTP2    int64 // handed on as HTTP/2
	Pending  int64 // now
}

// Stats are the counts so far.
func (l *Listener) Stats() ListenerStats {
	l.budget.mu.Lock()
	pending := int64(l.budget.pending)
	l.budget.mu.Unlock()
	return ListenerStats{Accepted: l.accepted.Load(), Refused: l.refused.Load(), Failed: l.failed.Load(),
		Lanes: l.lanes.Load(), HTTP2: l.http2.Load(), Pending: pending}
}

// Serve accepts until Close, or until the connection over "stdio:" is closed, and then returns nil. It can be called once. Each lane goes to lane
// with wire.Preface still unread, each HTTP/2 connection to http2 with nothing
// read; nil refuses that protocol. Each is a Conn; over tls it also has
// ConnectionState() tls.ConnectionState.
//
// The functions own the connection, are called concurrently, each on a
// goroutine of the listener, and return when the connection is handed on: Close waits
// for them, and a peer that has proved no key counts as pending until then. For
// lanes flow.Acceptor.Handle fits as it is. They must not call Close.
func (l *Listener) Serve(lane, http2 func(net.Conn)) error {
	select {
	case l.serve <- struct{}{}:
	default:
		if l.ctx.Err() != nil {
			return nil
		}
		return fault.New("serve", fault.Invalid, "Serve was called before")
	}
	defer close(l.served)
	backoff := time.Duration(0)
	from := reserved()
	for {
		c, err := l.ln.Accept()
		if err == nil && uses(c, from) {
			_ = c.Close()
			err = fault.New("accept", fault.Overloaded, "descriptor %d is kept for files: raise the limit of open files", from)
		}
		switch {
		case l.ctx.Err() != nil:
			if err == nil {
				_ = c.Close()
			}
			return nil
		case err == errOver:
			return nil
		case errors.Is(err, net.ErrClosed), errors.Is(err, errOver):
			return failure("serve", l.addr.String(), err)
		case err != nil:
			backoff = min(max(2*backoff, leastBackoff), mostBackoff)
			l.opts.Logger.Warn("accept failed", "address", l.addr.String(), "error", err, "pause", backoff)
			l.pause(backoff)
		default:
			backoff = 0
			l.admit(c, lane, http2)
		}
	}
}

// pause waits for d or for Close.
func (l *Listener) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.ctx.Done():
	}
}

// admit gives a connection a place in the budget and a goroutine, or closes it.
func (l *Listener) admit(c net.Conn, lane, http2 func(net.Conn)) {
	l.accepted.Add(1)
	source := sourceOf(c.RemoteAddr())
	place := l.budget.enter(source, time.Now(), func() { _ = c.Close() })
	if place == nil {
		l.refused.Add(1)
		_ = c.Close()
		return
	}
	l.wg.Go(func() {
		defer l.budget.leave(place)
		conn, err := l.handshake(c.(HalfCloser))
		hand := map[string]func(net.Conn){ProtocolLane: lane, ProtocolHTTP2: http2}[protocolOf(conn)]
		if err != nil || hand == nil {
			l.failed.Add(1)
			l.report(c.RemoteAddr(), source, err)
			_ = c.Close()
			return
		}
		l.count(conn.Protocol())
		if conn.PeerKey() != "" {
			l.budget.leave(place)
			if conn.Protocol() == ProtocolLane { // only lanes' keys are held against Pins and AuthorizeKey here
				l.budget.prove(source)
			}
		}
		hand(conn)
	})
}

// report says who was refused. A key is for people to see: it may be one that was
// forgotten. In a flood, what nobody reads is not worth writing.
func (l *Listener) report(remote net.Addr, source netip.Prefix, err error) {
	var s stranger
	if errors.As(err, &s) {
		if more, ok := l.strangers.tell(source, time.Now()); ok {
			l.opts.Logger.Warn("unknown key refused", "remote", remote.String(), "key", s.key, "untold", more, "error", s.error)
			return
		}
	}
	if l.opts.Logger.Enabled(l.ctx, slog.LevelDebug) {
		l.opts.Logger.Debug("connection refused", "remote", remote.String(), "error", failure("handshake", remote.String(), err))
	}
}

func protocolOf(c Conn) string {
	if c == nil {
		return ""
	}
	return c.Protocol()
}

func (l *Listener) count(protocol string) {
	if protocol == ProtocolLane {
		l.lanes.Add(1)
	} else {
		l.http2.Add(1)
	}
}

// handshake finds out protocol and peer, within HandshakeTimeout and unless Close comes first.
func (l *Listener) handshake(c HalfCloser) (Conn, error) {
	if err := c.SetDeadline(time.Now().Add(l.opts.HandshakeTimeout)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(l.ctx, func() { _ = c.Close() })
	conn, err := l.identify(c)
	if err != nil && l.tls != nil {
		linger(c)
	}
	if !stop() {
		return nil, fault.New("handshake", fault.Canceled, "the listener is closed")
	}
	if err != nil {
		return nil, err
	}
	return conn, c.SetDeadline(time.Time{})
}

// linger lets a refused client read the alert that says why: closing while its
// first bytes are unread would reset the connection and take the alert with it.
func linger(c HalfCloser) {
	if c.CloseWrite() == nil && c.SetDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, c, lingerBytes)
	}
}

func (l *Listener) identify(c HalfCloser) (Conn, error) {
	plain := newPlain(c)
	if l.tls != nil {
		var err error
		if plain.peeked, err = firstRecord(c); err != nil {
			return nil, err
		}
		raw := newBatcher(plain)
		server := tls.Server(raw, l.tls)
		if err := server.Handshake(); err != nil {
			return nil, err
		}
		return newTLS(server, raw), nil
	}
	protocol, read, err := recognize(c)
	if err == nil && !l.opts.speaks(protocol) {
		err = fault.New("recognize", fault.Unsupported, "%s is not spoken here", protocol)
	}
	plain.protocol, plain.peeked = protocol, read
	return plain, err
}

// Close stops accepting, breaks off handshakes, removes the unix socket, and
// waits for the goroutines of Serve. Connections handed on live on.
func (l *Listener) Close() error {
	var err error
	l.close.Do(func() {
		l.cancel()
		err = l.ln.Close()
	})
	select {
	case l.serve <- struct{}{}: // never served
		close(l.served)
	default:
	}
	<-l.served
	l.wg.Wait()
	return failure("close listener", l.addr.String(), err)
}
