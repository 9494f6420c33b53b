// Package httpdtest serves an HTTP server to clients in memory, over TLS, so that a test in a
// bubble of testing/synctest can wait for its deadlines.
package httpdtest

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/flow/carrier"
)

// Protocols are those of a server, with what each is called.
var Protocols = map[string]bool{"HTTP/1.1": false, "HTTP/2": true}

// Serve serves until the test is over. The client speaks HTTP/2 if that is asked for.
func Serve(t testing.TB, s *httpd.Server, two bool) *http.Client {
	t.Helper()
	id, err := carrier.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	protocols := []string{"http/1.1"}
	if two {
		protocols = []string{"h2"}
	}
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	s.Add(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{id.Certificate()}, NextProtos: protocols, SessionTicketsDisabled: true}))
	over := make(chan error, 1)
	go func() { over <- s.Serve() }()
	transport := &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return l.dial() },
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, NextProtos: protocols},
		ForceAttemptHTTP2: two,
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		s.Close()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	return &http.Client{Transport: transport}
}

// listener takes connections that dial makes.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) dial() (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error { l.once.Do(func() { close(l.closed) }); return nil }

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return memory{} }

type memory struct{}

func (memory) Network() string { return "memory" }
func (memory) String() string  { return "memory" }
