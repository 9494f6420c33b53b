package rpc

import (
	"context"
	"crypto/x509"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// ClientConfig is how a client reaches a server. The zero value of every field
// is the documented default; it is checked once and not changed after.
type ClientConfig struct {
	// Identity is this node's certificate; tls addresses and those of one pipe need one.
	Identity *carrier.Identity
	// Pins are the keys the server may have. The same addresses need Pins or RootCAs.
	Pins carrier.Pins
	// RootCAs verify the server's certificate for ServerName.
	RootCAs *x509.CertPool
	// ServerName is the name in the server's certificate. Default: the host of the address.
	ServerName string
	// Pipe is where the address "pipe:" leads.
	Pipe *carrier.Pipe

	// HTTP2 says that an HTTP/2 proxy or an ordinary gRPC server is at the
	// address. Default: a session is tried, and HTTP/2 taken when the server
	// offers only that. Side effects then ride inside messages or on a gRPC stream.
	HTTP2 bool
	// Flow tunes the session; Features is completed.
	Flow flow.Config
	// Streams takes what the server opens on the session beside side effects.
	// Default: it is refused. Sessions over gRPC have none of it.
	Streams Streams
	// DialOptions are gRPC's; transport credentials and context dialer are
	// replaced. Interceptors, stats handlers and per-RPC credentials see
	// ordinary calls. Options of grpc.WithDefaultCallOptions count for calls with side
	// effects too; of a service config's waitForReady only gRPC's own part knows.
	DialOptions []grpc.DialOption
}

// ClientConn is a client's connection for generated stubs, like a
// grpc.ClientConn whose calls may carry side effects. It connects when the
// first call needs it and again when the connection is lost. All methods may
// be called at the same time.
type ClientConn struct {
	grpc    *grpc.ClientConn
	dialer  flow.Dialer
	link    *link // to a session over the carrier
	carried *link // to a session over gRPC
	carry   *carryDialer
	kinds   sideeffect.Kinds
	memory  *carryPool // of inline contents
	calls   *callTable
	options []grpc.CallOption // of every call, before its own; gRPC adds them itself
	closing context.Context
	close   context.CancelFunc
	wg      crew

	mu     sync.Mutex
	direct bool // gRPC runs over HTTP/2 without a session
}

var _ grpc.ClientConnInterface = (*ClientConn)(nil)

// Dial makes a connection to an address: "tls://host:port", "tcp://host:port",
// "unix:///path", "pipe:", or one of one pipe, as "exec:[...]" (flow/carrier). tcp and
// "plain+" are neither encrypted nor authenticated, to whatever host they lead; Pins and RootCAs are refused with it, and so are per-RPC
// credentials that require security. Dial does not wait for the server. Errors
// are *fault.Error of kind Invalid and say what to change.
func Dial(address string, cfg ClientConfig) (*ClientConn, error) {
	o := carrier.Options{
		Identity: cfg.Identity, Pins: cfg.Pins, RootCAs: cfg.RootCAs, ServerName: cfg.ServerName, Pipe: cfg.Pipe,
		Protocols: []string{carrier.ProtocolLane, carrier.ProtocolHTTP2}, Logger: cfg.Flow.Logger,
	}
	if cfg.HTTP2 {
		o.Protocols = []string{carrier.ProtocolHTTP2}
	}
	d, err := carrier.NewDialer(address, o)
	if err != nil {
		return nil, fault.Wrap("dial", address, err)
	}
	a := d.Address()
	authority := cfg.ServerName
	if authority == "" && a.Host != "" {
		authority = net.JoinHostPort(a.Host, a.Port)
	}
	return newClientConn(d, secrecy(a), authority, cfg)
}

// secrecy is the carrier that the address is as private as.
func secrecy(a carrier.Address) string {
	switch {
	case a.Proves():
		return carrier.TLS
	case a.Plain:
		return carrier.TCP
	}
	return a.Scheme
}

// DialOver makes a connection over connections of the caller's making: a FIFO
// pair, a command's stdin and stdout. Of cfg it uses HTTP2, Flow, Streams and
// DialOptions. Nothing is known of the carrier's privacy, so per-RPC
// credentials that require it are refused.
func DialOver(d flow.Dialer, cfg ClientConfig) (*ClientConn, error) {
	return newClientConn(d, carrier.TCP, "", cfg)
}

func newClientConn(d flow.Dialer, scheme, authority string, cfg ClientConfig) (*ClientConn, error) {
	if err := cfg.Flow.Check(); err != nil {
		return nil, fault.Wrap("dial", authority, err)
	}
	if authority == "" {
		authority = "localhost"
	}
	cc := &ClientConn{dialer: d, kinds: sideeffect.StandardKinds(), memory: newCarryPool(), direct: cfg.HTTP2}
	cc.calls = newCallTable(cfg.Flow.MaxStreams)
	cc.closing, cc.close = context.WithCancel(context.Background())
	session := withFeature(cfg.Flow)
	streams := orRefusing(cfg.Streams)
	cc.link = newLink(d, d.Single(), session, func(s *flow.Session) { cc.serve(s, streams) })
	defaults := []grpc.DialOption{
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: leastPing, Timeout: pingPatience}),
		grpc.WithStaticStreamWindowSize(messageWindow), grpc.WithStaticConnWindowSize(connWindow),
		grpc.WithWriteBufferSize(writeBuffer),
	}
	options := append(append(defaults, cfg.DialOptions...),
		grpc.WithTransportCredentials(passThrough{scheme: scheme}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return cc.dialGRPC(ctx, cfg.HTTP2, true) }))
	var err error
	if cc.grpc, err = grpc.NewClient("passthrough:///"+authority, options...); err != nil {
		cc.close()
		return nil, fault.New("dial", fault.Invalid, "gRPC options: %v", err)
	}
	if cc.options, err = defaultOptions(cfg.DialOptions); err != nil {
		cc.close()
		cc.grpc.Close()
		return nil, fault.New("dial", fault.Invalid, "gRPC options: %v", err)
	}
	cc.carry = &carryDialer{cc: cc.grpc}
	cc.carried = newLink(cc.carry, false, session, func(s *flow.Session) { cc.serve(s, refusing{}) })
	return cc, nil
}

// defaultOptions are the call options in dial options, as of grpc.WithDefaultCallOptions. gRPC shows them to
// interceptors only, so one gets them, of a connection that is never made.
func defaultOptions(dial []grpc.DialOption) (options []grpc.CallOption, err error) {
	show := func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, all ...grpc.CallOption) error {
		options = all
		return nil
	}
	cc, err := grpc.NewClient("passthrough:///", append(slices.Clone(dial),
		grpc.WithTransportCredentials(passThrough{scheme: carrier.TLS}), grpc.WithUnaryInterceptor(show))...)
	if err != nil {
		return nil, err
	}
	defer cc.Close()
	return options, cc.Invoke(context.Background(), "/", nil, nil)
}

// withFeature announces that this node understands side effects.
func withFeature(cfg flow.Config) flow.Config {
	if !slices.Contains(cfg.Features, Feature) {
		cfg.Features = append(slices.Clone(cfg.Features), Feature)
	}
	return cfg
}

// GRPC is the underlying gRPC connection, for its state and for tools that want
// one. Calls made on it directly carry no side effects.
func (cc *ClientConn) GRPC() *grpc.ClientConn { return cc.grpc }

// Connect makes sure that the connection's session is there, whatever gRPC's pause
// between attempts is, and returns it; nil, and nothing is made sure of, where
// HTTP/2 is spoken without one. It makes one attempt. Errors are *fault.Error with
// the kind of what failed, where a call would fail with a status.
func (cc *ClientConn) Connect(ctx context.Context) (*flow.Session, error) {
	cc.mu.Lock()
	direct := cc.direct
	cc.mu.Unlock()
	if direct {
		return nil, nil
	}
	s, conn, err := cc.link.get(ctx)
	if err != nil {
		return nil, err
	}
	if conn != nil {
		conn.Close()
	}
	if s == nil {
		return nil, nil
	}
	cc.grpc.ResetConnectBackoff()
	cc.grpc.Connect()
	wait, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-s.Done():
			cancel()
		case <-wait.Done():
		}
	}()
	defer func() { cancel(); <-watched }()
	for state := cc.grpc.GetState(); state != connectivity.Ready; state = cc.grpc.GetState() {
		if state == connectivity.Shutdown {
			return nil, errClosed()
		}
		if !cc.grpc.WaitForStateChange(wait, state) && ctx.Err() != nil {
			return nil, cause("connect", ctx)
		}
		if err := s.Err(); err != nil {
			return nil, fault.Wrap("connect", "", err)
		}
	}
	return s, nil
}

// Close ends calls, sessions and connections and waits for their goroutines.
func (cc *ClientConn) Close() error {
	cc.carried.close()
	cc.carry.open.wait()
	cc.close()
	err := cc.grpc.Close()
	cc.link.close()
	cc.wg.wait()
	return fault.Wrap("close", "", err)
}

func errClosed() error {
	return fault.New("connect", fault.Canceled, "the client connection is closed")
}

// dialGRPC gives gRPC a connection: one of the session, or the HTTP/2 one.
func (cc *ClientConn) dialGRPC(ctx context.Context, http2, again bool) (net.Conn, error) {
	if http2 {
		return cc.dialer.Dial(ctx)
	}
	s, conn, err := cc.link.get(ctx)
	if err != nil {
		return nil, err
	}
	cc.mu.Lock()
	cc.direct = s == nil
	cc.mu.Unlock()
	switch {
	case s != nil:
		opened, err := cc.openRPC(ctx, s)
		if err != nil && again && s.Draining() { // that was not known when it was chosen
			return cc.dialGRPC(ctx, http2, false)
		}
		return opened, err
	case conn != nil:
		return conn, nil
	}
	return cc.dialer.Dial(ctx) // plaintext: the probe has used up its connection
}

// openRPC makes a connection for gRPC that ends with its session.
func (cc *ClientConn) openRPC(ctx context.Context, s *flow.Session) (net.Conn, error) {
	conn, err := s.OpenRPC(ctx)
	if err != nil {
		return nil, fault.Wrap("connect", "", err)
	}
	ended, end := context.WithCancel(cc.closing)
	watched := cc.wg.Go(func() {
		select {
		case <-s.Done():
			if fault.KindOf(s.Err()) != fault.Draining { // then gRPC's GOAWAY ends it, after the last reply
				conn.Close()
			}
		case <-ended.Done():
		}
	})
	if !watched {
		end()
		conn.Close()
		return nil, errClosed()
	}
	return sessionConn{Conn: conn, session: s, closed: end}, nil
}

// serve answers the streams that the server opens on a session: those of side effects
// must belong to a call of this connection.
func (cc *ClientConn) serve(s *flow.Session, streams Streams) {
	ctx := context.Background() // ends with the session
	streams.Attach(s)
	defer streams.Over(s)
	for {
		in, err := s.AcceptStream(ctx)
		if err != nil {
			return
		}
		if in.Kind != streamKind {
			streams.Handle(s, in)
			continue
		}
		cc.calls.take(in)
	}
}

// way is how the effects of a call can go.
type way struct {
	session *flow.Session // known to understand effects; nil: it does not
	carried bool          // session runs over gRPC
	release func()        // of the session, when the call is over; nil without one
}

// leave ends the call's use of the session.
func (w way) leave() {
	if w.release != nil {
		w.release()
	}
}

// find makes sure that there is a session and that the server understands side
// effects. A server that does not is no error: the session is nil then.
func (cc *ClientConn) find(ctx context.Context, stream, wait bool) (way, error) {
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		w, err := cc.findOnce(ctx, stream)
		if err == nil || !wait || ctx.Err() != nil || !passes(err) {
			return w, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return way{}, cause("connect", ctx)
		}
	}
}

// passes reports whether a server may be reached later.
func passes(err error) bool {
	switch fault.KindOf(err) {
	case fault.Lost, fault.NotFound, fault.Draining:
		return true
	}
	return false
}

// Pauses between attempts to reach a server, for calls that wait for one.
const (
	firstPause = 100 * time.Millisecond
	mostPause  = 5 * time.Second
)

func (cc *ClientConn) findOnce(ctx context.Context, stream bool) (way, error) {
	cc.mu.Lock()
	direct := cc.direct
	cc.mu.Unlock()
	if !direct {
		s, conn, release, err := cc.link.use(ctx)
		if err != nil {
			return way{}, err
		}
		if conn != nil {
			conn.Close()
		}
		if s != nil && !stream && s.Peer().Has(Feature) {
			return way{session: s, release: release}, nil
		}
		if s != nil {
			release()
			if !s.Peer().Has(Feature) {
				return way{}, nil
			}
		}
	}
	s, _, release, err := cc.carried.use(ctx)
	switch {
	case err != nil && cc.carry.unaware.Load():
		return way{}, nil
	case err != nil:
		return way{}, err
	case s == nil:
		return way{}, nil
	case !s.Peer().Has(Feature):
		release()
		return way{}, nil
	}
	return way{session: s, carried: true, release: release}, nil
}
