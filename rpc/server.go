package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// Limits that NewServer sets, because gRPC's own defaults are open. Options
// given to NewServer override them.
const (
	maxCalls       = 1024             // calls at a time on one connection
	maxHeaderList  = 64 << 10         // bytes of metadata of one call
	connectTime    = 10 * time.Second // from accept to the first HTTP/2 settings
	leastPing      = 10 * time.Second // clients may ask for a sign of life this often
	lingerTime     = 5 * time.Minute  // for the peer's verdict after the handler has returned
	queuedConns    = 64               // accepted connections on their way to gRPC
	rememberedAsks = 4096             // call ids that are refused when they come again
)

// ServerConfig is who may reach a server and how. The zero value of every
// field is the documented default; it is checked once and not changed after.
type ServerConfig struct {
	// Identity is this node's certificate; tls addresses need one.
	Identity *carrier.Identity
	// Pins are the keys of clients that may connect over tls.
	Pins carrier.Pins
	// AuthorizeKey is asked about keys that are not among Pins; nil allows. A
	// tls address needs Pins or AuthorizeKey.
	AuthorizeKey func(key string) error

	// ClientCAs verify the certificates of ordinary gRPC clients over tls.
	// Default: their keys have to be among Pins or pleasing to AuthorizeKey, too.
	ClientCAs *x509.CertPool
	// AnonymousHTTP2 lets ordinary gRPC clients call over tls without any
	// certificate: per-RPC credentials, or nothing, protect the methods then.
	AnonymousHTTP2 bool
	// HTTP2Certificates are shown to ordinary gRPC clients instead of Identity.
	HTTP2Certificates []tls.Certificate

	// UnixMode is the mode of unix sockets. Default 0600.
	UnixMode fs.FileMode
	// Pipe is where the address "pipe:" leads.
	Pipe *carrier.Pipe
	// Flow tunes sessions; Features is completed.
	Flow flow.Config
}

// Server is a grpc.Server whose handlers may run side effects. Services
// registered on it see SideEffect in their contexts; register them on the
// Server itself, not on the embedded one. Ordinary gRPC clients are served on
// the same addresses.
type Server struct {
	*grpc.Server
	cfg      ServerConfig
	acceptor *flow.Acceptor
	kinds    sideeffect.Kinds
	memory   *carryPool // of inline contents
	conns    *handover
	recent   *recent

	begun sync.Once
	ended chan struct{} // closed when stopping begins
	over  sync.Once
	wg    sync.WaitGroup // accept loops and effects that outlive their handler

	mu        sync.Mutex
	listeners []*carrier.Listener
	serving   bool
	failed    error // of a listener
	stopping  bool
	asking    int           // calls with side effects that run
	idle      chan struct{} // closed when stopping and asking is 0
}

// NewServer makes a server; options are gRPC's. Transport credentials are
// replaced; interceptors, stats handlers and per-RPC credentials see ordinary
// calls. Errors are *fault.Error of kind Invalid and say what to change.
func NewServer(cfg ServerConfig, options ...grpc.ServerOption) (*Server, error) {
	cfg.Flow = withFeature(cfg.Flow)
	acceptor, err := flow.NewAcceptor(cfg.Flow)
	if err != nil {
		return nil, fault.Wrap("new server", "", err)
	}
	limits := []grpc.ServerOption{
		grpc.MaxConcurrentStreams(maxCalls), grpc.MaxHeaderListSize(maxHeaderList), grpc.ConnectionTimeout(connectTime),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: leastPing, PermitWithoutStream: true}),
	}
	options = slices.Concat(limits, options, []grpc.ServerOption{grpc.Creds(passThrough{})})
	s := &Server{
		Server: grpc.NewServer(options...), cfg: cfg, acceptor: acceptor, kinds: sideeffect.StandardKinds(), memory: newCarryPool(),
		conns: newHandover(), recent: newRecent(rememberedAsks), ended: make(chan struct{}), idle: make(chan struct{}),
	}
	carry := carryDesc
	carry.Handler = func(_ any, stream grpc.ServerStream) error { return serveCarry(stream, s.acceptor.Handle) }
	s.Server.RegisterService(&grpc.ServiceDesc{ServiceName: carryService, Streams: []grpc.StreamDesc{carry}}, nil)
	return s, nil
}

// Listen opens an address: "tls://host:port", "tcp://host:port",
// "unix:///path" or "pipe:". Nothing is accepted before Serve. The result is
// the address with the port that was chosen, as Dial takes it.
func (s *Server) Listen(address string) (string, error) {
	a, err := carrier.ParseAddress(address)
	if err != nil {
		return "", err
	}
	if a.Scheme == carrier.TCP && (len(s.cfg.Pins) > 0 || s.cfg.AuthorizeKey != nil) {
		return "", fault.New("listen", fault.Invalid, "tcp proves no keys, so Pins and AuthorizeKey would not hold on %s: use tls, or a server without them", address)
	}
	l, err := carrier.Listen(address, s.options())
	if err != nil {
		return "", fault.Wrap("listen", address, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		l.Close()
		return "", errStopped()
	}
	s.listeners = append(s.listeners, l)
	if s.serving {
		s.serve(l)
	}
	return l.Address().String(), nil
}

func errStopped() error { return fault.New("serve", fault.Draining, "the server is stopped") }

func (s *Server) options() carrier.Options {
	o := carrier.Options{
		Identity: s.cfg.Identity, Pins: s.cfg.Pins, AuthorizeKey: s.cfg.AuthorizeKey, Pipe: s.cfg.Pipe,
		ClientCAs: s.cfg.ClientCAs, GRPCCertificates: s.cfg.HTTP2Certificates, Mode: s.cfg.UnixMode, Logger: s.cfg.Flow.Logger,
	}
	switch {
	case s.cfg.AnonymousHTTP2 && s.cfg.ClientCAs != nil:
		o.GRPCClientAuth = tls.VerifyClientCertIfGiven
	case s.cfg.AnonymousHTTP2:
	case s.cfg.ClientCAs != nil:
		o.GRPCClientAuth = tls.RequireAndVerifyClientCert
	default:
		o.GRPCClientAuth = tls.RequireAnyClientCert
	}
	return o
}

// Serve accepts on all listened addresses until Stop, GracefulStop or Shutdown,
// then returns nil; or until a listener fails, whose error it returns.
func (s *Server) Serve() error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return errStopped()
	}
	if !s.serving {
		s.serving = true
		for _, l := range s.listeners {
			s.serve(l)
		}
	}
	s.mu.Unlock()
	s.begin()
	<-s.ended
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// ListenAndServe is Listen on every address, then Serve.
func (s *Server) ListenAndServe(addresses ...string) error {
	for _, a := range addresses {
		if _, err := s.Listen(a); err != nil {
			return err
		}
	}
	return s.Serve()
}

// ServeConn takes one connection of the caller's making, whose other end is
// that of DialOver: a FIFO pair, a command's stdin and stdout. It returns when
// the handshake is over.
func (s *Server) ServeConn(conn net.Conn) {
	s.begin()
	s.acceptor.Handle(conn)
}

// serve accepts on one listener. s.mu is held.
func (s *Server) serve(l *carrier.Listener) {
	s.wg.Go(func() {
		if err := l.Serve(s.acceptor.Handle, s.takeHTTP2); err != nil {
			s.mu.Lock()
			if s.failed == nil {
				s.failed = err
			}
			s.mu.Unlock()
			s.over.Do(func() { close(s.ended) })
		}
	})
}

// takeHTTP2 gives a connection of an ordinary gRPC client to gRPC.
func (s *Server) takeHTTP2(conn net.Conn) {
	if !s.admits(conn) {
		conn.Close()
		return
	}
	s.conns.push(conn)
}

// admits holds ordinary gRPC clients over tls to the same keys as sessions,
// unless the configuration says otherwise.
func (s *Server) admits(conn net.Conn) bool {
	c, ok := conn.(carrier.Conn)
	if _, tls := conn.(interface{ ConnectionState() tls.ConnectionState }); !ok || !tls || s.cfg.AnonymousHTTP2 || s.cfg.ClientCAs != nil {
		return true
	}
	key := c.PeerKey()
	return key != "" && (s.cfg.Pins.Has(key) || s.cfg.AuthorizeKey != nil && s.cfg.AuthorizeKey(key) == nil)
}

// begin starts what every connection needs, once.
func (s *Server) begin() {
	s.begun.Do(func() {
		s.wg.Go(func() { _ = s.Server.Serve(s.conns) })
		s.wg.Go(s.acceptSessions)
		s.wg.Go(s.acceptRPC)
	})
}

func (s *Server) acceptSessions() {
	for {
		session, err := s.acceptor.Accept(context.Background())
		if err != nil {
			return
		}
		s.wg.Go(func() { refuseStreams(session) })
	}
}

// refuseStreams answers the streams that a client opens: effects are started
// by the server.
func refuseStreams(session *flow.Session) {
	for {
		in, err := session.AcceptStream(context.Background())
		if err != nil {
			return
		}
		in.Refuse(fault.New("accept stream", fault.Unsupported, "this server opens the streams of side effects itself"))
	}
}

func (s *Server) acceptRPC() {
	for {
		conn, session, err := s.acceptor.AcceptRPC(context.Background())
		if err != nil {
			return
		}
		s.conns.push(sessionConn{Conn: conn, session: session})
	}
}

// Stop ends everything at once: calls, sessions, connections. It waits for
// their goroutines.
func (s *Server) Stop() {
	s.halt()
	_ = s.acceptor.Close()
	s.Server.Stop()
	s.conns.Close()
	s.wg.Wait()
}

// GracefulStop is Shutdown without a limit.
func (s *Server) GracefulStop() { _ = s.Shutdown(context.Background()) }

// Shutdown takes nothing new, waits for the calls and side effects that run,
// and stops. If ctx ends first they are cut off, and the error says so.
func (s *Server) Shutdown(ctx context.Context) error {
	s.halt()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.Server.GracefulStop()
	}()
	var err error
	select {
	case <-s.idle:
		err = s.acceptor.Drain(ctx) // ends Carry, for which GracefulStop waits
	case <-ctx.Done():
	}
	select {
	case <-drained:
	case <-ctx.Done():
		err = errors.Join(err, cause("shut down", ctx))
	}
	s.Stop()
	<-drained
	return fault.Wrap("shut down", "", err)
}

// halt closes the listeners and takes no new calls with side effects.
func (s *Server) halt() {
	s.mu.Lock()
	listeners := s.listeners
	s.listeners = nil
	if !s.stopping {
		s.stopping = true
		if s.asking == 0 {
			close(s.idle)
		}
	}
	s.mu.Unlock()
	for _, l := range listeners {
		_ = l.Close()
	}
	s.over.Do(func() { close(s.ended) })
}

// enter and leave count the calls that need their sessions.
func (s *Server) enter() {
	s.mu.Lock()
	s.asking++
	s.mu.Unlock()
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking--
	if s.stopping && s.asking == 0 {
		select {
		case <-s.idle:
		default:
			close(s.idle)
		}
	}
}

// handover is a listener whose connections are pushed.
type handover struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandover() *handover {
	return &handover{conns: make(chan net.Conn, queuedConns), closed: make(chan struct{})}
}

func (h *handover) push(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		c.Close()
	}
}

// Accept implements net.Listener.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Connections nobody has accepted are closed.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.closed) })
	for {
		select {
		case c := <-h.conns:
			c.Close()
		default:
			return nil
		}
	}
}

// Addr implements net.Listener.
func (h *handover) Addr() net.Addr { return carryAddr("sessions") }

// recent remembers the last call ids, so that a request that comes twice, as
// after a retry by a proxy, runs its effects once. len(order) <= limit.
type recent struct {
	mu    sync.Mutex
	limit int
	seen  map[callID]struct{}
	order []callID
	next  int
}

func newRecent(limit int) *recent {
	return &recent{limit: limit, seen: make(map[callID]struct{}, limit)}
}

// first reports whether id is new, and remembers it.
func (r *recent) first(id callID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, again := r.seen[id]; again {
		return false
	}
	if len(r.order) < r.limit {
		r.order = append(r.order, id)
	} else {
		delete(r.seen, r.order[r.next])
		r.order[r.next] = id
		r.next = (r.next + 1) % r.limit
	}
	r.seen[id] = struct{}{}
	return true
}
