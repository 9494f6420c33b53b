package carrier

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// handed is a net.Listener of connections that a Listener handed on.
type handed struct {
	conns <-chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handed) Addr() net.Addr { return h.addr }

// serveGRPC runs a gRPC server on what l hands on.
func serveGRPC(t *testing.T, l *running) {
	t.Helper()
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	done := make(chan error, 1)
	go func() { done <- s.Serve(&handed{conns: l.http2, done: make(chan struct{}), addr: l.Addr()}) }()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
}

// check makes one call as an ordinary gRPC client.
func check(t *testing.T, target string, creds credentials.TransportCredentials) error {
	t.Helper()
	cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = grpc_health_v1.NewHealthClient(cc).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err
}

// One port, plaintext: a gRPC client and a lane.
func TestOnePortPlaintext(t *testing.T) {
	for _, address := range []string{"tcp://127.0.0.1:0", "unix://" + t.TempDir() + "/s"} {
		l := serve(t, address, Options{})
		serveGRPC(t, l)
		target := l.Addr().String()
		if l.Address().Scheme == Unix {
			target = "unix://" + target
		}
		if err := check(t, target, insecure.NewCredentials()); err != nil {
			t.Error(err)
		}
		c, err := dial(t, l, Options{})
		if err != nil {
			t.Fatal(err)
		}
		writePreface(t, c)
		lane := <-l.lane
		readPreface(t, lane)
		_ = lane.Close()
	}
}

// One port, TLS: gRPC clients are let in by GRPCClientAuth, lanes by their key.
func TestOnePortTLS(t *testing.T) {
	ca, foreign := newAuthority(t), newAuthority(t)
	server, client := newIdentity(t), newIdentity(t)
	issued := ca.issue(t, server, "node.test").Certificate()
	plain := &tls.Config{RootCAs: ca.pool, ServerName: "node.test"}
	with := func(id *Identity) *tls.Config {
		cfg := plain.Clone()
		cert := id.Certificate()
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		return cfg
	}
	old := plain.Clone()
	old.MaxVersion = tls.VersionTLS12
	for name, c := range map[string]struct {
		o      Options
		client *tls.Config
		ok     bool
	}{
		"none required":              {Options{}, plain, true},
		"none required, one shown":   {Options{}, with(client), true},
		"TLS 1.2":                    {Options{}, old, false},
		"CA given, none shown":       {Options{ClientCAs: ca.pool}, plain, true},
		"CA given, good one":         {Options{ClientCAs: ca.pool}, with(ca.issue(t, client, "c")), true},
		"CA given, foreign one":      {Options{ClientCAs: ca.pool}, with(foreign.issue(t, client, "c")), false},
		"required, none shown":       {Options{ClientCAs: ca.pool, GRPCClientAuth: tls.RequireAndVerifyClientCert}, plain, false},
		"required, good one":         {Options{ClientCAs: ca.pool, GRPCClientAuth: tls.RequireAndVerifyClientCert}, with(ca.issue(t, client, "c")), true},
		"required, self-signed lane": {Options{ClientCAs: ca.pool, GRPCClientAuth: tls.RequireAndVerifyClientCert}, with(client), false},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.Identity, c.o.Pins, c.o.GRPCCertificates = server, Pins{client.Key()}, []tls.Certificate{issued}
			l := serve(t, "tls://127.0.0.1:0", c.o)
			serveGRPC(t, l)
			if err := check(t, l.Addr().String(), credentials.NewTLS(c.client)); (err == nil) != c.ok {
				t.Errorf("call: %v, want success %v", err, c.ok)
			}
			lane, err := dial(t, l, Options{Identity: client, Pins: Pins{server.Key()}})
			if err != nil {
				t.Fatal(err)
			}
			writePreface(t, lane)
			got := <-l.lane
			readPreface(t, got)
			_ = got.Close()
		})
	}
}

// A dialer that offers both learns what the server picked; the h2 connection says who the client is.
func TestDialerOffersBoth(t *testing.T) {
	server, client := newIdentity(t), newIdentity(t)
	for _, c := range []struct {
		speaks []string
		want   string
	}{{nil, ProtocolLane}, {[]string{ProtocolHTTP2}, ProtocolHTTP2}} {
		l := serve(t, "tls://127.0.0.1:0", Options{Identity: server, Pins: Pins{client.Key()}, Protocols: c.speaks, GRPCClientAuth: tls.RequestClientCert})
		conn, err := dial(t, l, Options{Identity: client, Pins: Pins{server.Key()}, Protocols: []string{ProtocolLane, ProtocolHTTP2}})
		if err != nil || conn.(Conn).Protocol() != c.want {
			t.Fatalf("%v, %v; want %s", conn, err, c.want)
		}
		if c.want == ProtocolHTTP2 {
			got := <-l.http2
			state := got.(interface{ ConnectionState() tls.ConnectionState }).ConnectionState()
			if len(state.PeerCertificates) != 1 || got.(Conn).PeerKey() != client.Key() {
				t.Errorf("client is %q with %d certificates", got.(Conn).PeerKey(), len(state.PeerCertificates))
			}
			_ = got.Close()
		}
	}
}
