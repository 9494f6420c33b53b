package rpc

import (
	"context"
	"crypto/tls"
	"net"
	"slices"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// Listen opens an address: "tls://host:port", "tcp://host:port",
// "unix:///path", "pipe:", or one of one pipe, as "fifo:///in,/out" (flow/carrier). tcp is neither encrypted nor authenticated: anyone
// who reaches the port may call, so beyond the loopback device it needs
// ServerConfig.ExposePlaintext, as does "plain+". Nothing is accepted before Serve. The result is
// the address with the port that was chosen, as Dial takes it.
func (s *Server) Listen(address string) (string, error) {
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

func errNoAddress() error {
	return fault.New("serve", fault.Invalid, "no address: call Listen first, or ListenAndServe with one or more, as \"tls://:6610\"; a server of ServeConn alone needs no Serve")
}

func errStopped() error { return fault.New("serve", fault.Draining, "the server is stopped") }

func (s *Server) options() carrier.Options {
	o := carrier.Options{
		Identity: s.cfg.Identity, Pins: s.cfg.Pins, AuthorizeKey: s.cfg.AuthorizeKey, Pipe: s.cfg.Pipe,
		ClientCAs: s.cfg.ClientCAs, GRPCCertificates: s.cfg.HTTP2Certificates, Mode: s.cfg.UnixMode, Logger: s.cfg.Flow.Logger,
		ExposePlaintext: s.cfg.ExposePlaintext,
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
// then returns nil; or until a listener fails, whose error it returns; or until the
// last of them has nothing more to accept, as "stdio:" after its connection. More
// addresses may be added by Listen meanwhile; without a first one Serve fails
// at once with fault.Invalid.
func (s *Server) Serve() error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return errStopped()
	}
	if len(s.listeners) == 0 {
		s.mu.Unlock()
		return errNoAddress()
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
	if len(addresses) == 0 {
		return errNoAddress()
	}
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
			return
		}
		_ = l.Close()
		s.mu.Lock()
		s.listeners = slices.DeleteFunc(s.listeners, func(other *carrier.Listener) bool { return other == l })
		last := len(s.listeners) == 0
		s.mu.Unlock()
		if last {
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
		s.wg.Go(func() { serveStreams(session, orRefusing(s.cfg.Streams)) })
	}
}

// serveStreams answers the streams that a client opens: effects are started
// by the server.
func serveStreams(session *flow.Session, streams Streams) {
	streams.Attach(session)
	defer streams.Over(session)
	for {
		in, err := session.AcceptStream(context.Background())
		if err != nil {
			return
		}
		if in.Kind == streamKind {
			in.Refuse(fault.New("accept stream", fault.Unsupported, "this server opens the streams of side effects itself"))
			continue
		}
		streams.Handle(session, in)
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
