package carrier

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

// laneClient is the tls.Config of a client that would be a lane.
func laneClient(id *Identity) *tls.Config {
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{ProtocolLane}}
	if id != nil {
		cfg.Certificates = []tls.Certificate{id.Certificate()}
	}
	return cfg
}

// try connects as a lane and reports whether a lane came of it.
func try(t *testing.T, l *running, cfg *tls.Config) (accepted bool, state tls.ConnectionState, err error) {
	t.Helper()
	c := tls.Client(rawDial(t, l), cfg)
	defer c.Close()
	if _, err := c.Write(preface()); err != nil {
		return false, state, err
	}
	refused, answered := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(answered)
		select {
		case lane := <-l.lane:
			_, _ = lane.Write([]byte("!"))
			_ = lane.Close()
		case <-refused:
		}
	}()
	_, err = c.Read(make([]byte, 1))
	close(refused)
	<-answered
	return err == nil, c.ConnectionState(), err
}

// The authentication matrix: who is refused leaves no lane behind.
func TestOnlyTheRightKeyBecomesALane(t *testing.T) {
	server, good, other := newIdentity(t), newIdentity(t), newIdentity(t)
	stolen := laneClient(good)
	stolen.Certificates[0].PrivateKey = other.cert.PrivateKey
	tls12 := laneClient(good)
	tls12.MaxVersion = tls.VersionTLS12
	otherALPN, noALPN := laneClient(good), laneClient(good)
	otherALPN.NextProtos, noALPN.NextProtos = []string{"http/1.1"}, nil
	ca := newAuthority(t)

	for name, cfg := range map[string]*tls.Config{
		"no certificate":                     laneClient(nil),
		"other key, same name":               laneClient(other),
		"other key, signed by a client CA":   laneClient(ca.issue(t, other, "good")),
		"right certificate, other key":       stolen,
		"right key, expired":                 laneClient(expired(t, good)),
		"the server's own certificate's key": laneClient(server),
		"TLS 1.2":                            tls12,
		"wrong ALPN":                         otherALPN,
		"no ALPN":                            noALPN,
	} {
		t.Run(name, func(t *testing.T) {
			l := serve(t, "tls://127.0.0.1:0", Options{Identity: server, Pins: Pins{good.Key()}, ClientCAs: ca.pool})
			if accepted, _, _ := try(t, l, cfg); accepted || l.Stats().Lanes != 0 || l.Stats().HTTP2 != 0 {
				t.Errorf("accepted: %+v", l.Stats())
			}
			if accepted, _, err := try(t, l, laneClient(good)); !accepted {
				t.Errorf("and the right key is refused: %v", err)
			}
		})
	}
}

func TestTLSPortRefusesOtherBytes(t *testing.T) {
	good := newIdentity(t)
	hello := clientHello(t)
	for name, sent := range map[string][]byte{
		"plaintext lane":      append(preface(), make([]byte, 100)...),
		"plaintext HTTP/2":    []byte(http2Preface + "\r\n\r\nSM\r\n\r\n"),
		"nothing":             nil,
		"truncated handshake": hello[:len(hello)/2],
		"one byte":            hello[:1],
		"only a client hello": hello,
		"garbage":             []byte(strings.Repeat("\xff", 300)),
	} {
		t.Run(name, func(t *testing.T) {
			l := serve(t, "tls://127.0.0.1:0", Options{Identity: good, Pins: Pins{good.Key()}})
			c := rawDial(t, l)
			_, _ = c.Write(sent)
			_ = c.CloseWrite()
			for p := make([]byte, 1<<10); ; { // until the server closes
				if _, err := c.Read(p); err != nil {
					break
				}
			}
			if s := l.Stats(); s.Lanes+s.HTTP2 != 0 {
				t.Errorf("accepted: %+v", s)
			}
		})
	}
}

// clientHello is the first flight of a client.
func clientHello(t *testing.T) []byte {
	a, b := NewPair()
	go func() { _ = tls.Client(a, laneClient(nil)).Handshake() }()
	p := make([]byte, 4<<10)
	n, err := b.Read(p)
	if err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	return p[:n]
}

func TestPinRemovalEndsResumption(t *testing.T) {
	server, good := newIdentity(t), newIdentity(t)
	var revoked atomic.Bool
	authorize := func(key string) error {
		if revoked.Load() || key != good.Key() {
			return fault.New("authorize", fault.Permission, "not on the list")
		}
		return nil
	}
	l := serve(t, "tls://127.0.0.1:0", Options{Identity: server, AuthorizeKey: authorize})
	cfg := laneClient(good)
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	for range 2 {
		if accepted, state, err := try(t, l, cfg); !accepted || state.DidResume {
			t.Fatalf("accepted %v, resumed %v, %v", accepted, state.DidResume, err)
		}
	}
	revoked.Store(true)
	if accepted, _, _ := try(t, l, cfg); accepted {
		t.Error("a key that is no longer allowed became a lane")
	}
}

// Should tickets ever be switched on, both ends still ask for the key.
func TestPinsHoldForResumedSessions(t *testing.T) {
	for _, revoke := range []string{"client's key", "server's key", "nothing"} {
		t.Run(revoke, func(t *testing.T) {
			server, client := newIdentity(t), newIdentity(t)
			so := Options{Identity: server, Pins: Pins{client.Key()}}
			co := Options{Identity: client, Pins: Pins{server.Key()}, Protocols: []string{ProtocolLane}}
			scfg := so.laneConfig()
			ccfg, err := co.clientConfig("peer")
			if err != nil {
				t.Fatal(err)
			}
			scfg.SessionTicketsDisabled, ccfg.SessionTicketsDisabled = false, false
			ccfg.ClientSessionCache = tls.NewLRUClientSessionCache(8)
			if resumed, err := exchange(ccfg, scfg); resumed || err != nil {
				t.Fatalf("first: resumed %v, %v", resumed, err)
			}
			switch revoke { // the configurations share the pins
			case "client's key":
				so.Pins[0] = newIdentity(t).Key()
			case "server's key":
				co.Pins[0] = newIdentity(t).Key()
			default:
				if resumed, err := exchange(ccfg, scfg); !resumed || err != nil {
					t.Fatalf("the test does not resume: %v, %v", resumed, err)
				}
				return
			}
			if _, err := exchange(ccfg, scfg); !errors.Is(err, fault.Unauthenticated) {
				t.Errorf("resumed after its pin was removed: %v", err)
			}
		})
	}
}

// exchange makes a connection and sends a byte each way.
func exchange(client, server *tls.Config) (resumed bool, err error) {
	x, y := NewPair()
	c, s := tls.Client(x, client), tls.Server(y, server)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("!"))
		} else {
			_ = y.Close()
		}
		done <- err
	}()
	_, err = c.Read(make([]byte, 1)) // also takes the ticket
	_ = x.Close()
	return c.ConnectionState().DidResume, errors.Join(err, <-done)
}

func TestDialerTrustsPinsOrRoots(t *testing.T) {
	ca, server, client := newAuthority(t), newIdentity(t), newIdentity(t)
	issued := ca.issue(t, server, "node.test")
	for name, c := range map[string]struct {
		server *Identity
		o      Options
		want   fault.Kind // 0: none
	}{
		"pinned":                     {server, Options{Pins: Pins{server.Key()}}, 0},
		"second pin":                 {server, Options{Pins: Pins{client.Key(), server.Key()}}, 0},
		"other pin":                  {server, Options{Pins: Pins{client.Key()}}, fault.Unauthenticated},
		"pinned, expired":            {expired(t, server), Options{Pins: Pins{server.Key()}}, fault.Unauthenticated},
		"roots and name":             {issued, Options{RootCAs: ca.pool, ServerName: "node.test"}, 0},
		"roots, other name":          {issued, Options{RootCAs: ca.pool, ServerName: "other.test"}, fault.Unauthenticated},
		"roots, name of the address": {issued, Options{RootCAs: ca.pool}, fault.Unauthenticated},
		"other roots":                {issued, Options{RootCAs: newAuthority(t).pool, ServerName: "node.test"}, fault.Unauthenticated},
		"self-signed under roots":    {server, Options{RootCAs: ca.pool, ServerName: "node.test"}, fault.Unauthenticated},
		"roots and pin":              {issued, Options{RootCAs: ca.pool, ServerName: "node.test", Pins: Pins{server.Key()}}, 0},
		"roots and other pin":        {issued, Options{RootCAs: ca.pool, ServerName: "node.test", Pins: Pins{client.Key()}}, fault.Unauthenticated},
		"pin but other roots":        {issued, Options{RootCAs: newAuthority(t).pool, ServerName: "node.test", Pins: Pins{server.Key()}}, fault.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			l := serve(t, "tls://127.0.0.1:0", Options{Identity: c.server, Pins: Pins{client.Key()}})
			c.o.Identity = client
			conn, err := dial(t, l, c.o)
			if c.want != 0 {
				if !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if k := conn.(Conn).PeerKey(); k != server.Key() || conn.(Conn).Protocol() != ProtocolLane {
				t.Errorf("peer %s, protocol %q", k, conn.(Conn).Protocol())
			}
			writePreface(t, conn)
			lane := <-l.lane
			defer lane.Close()
			readPreface(t, lane)
			if k := lane.(Conn).PeerKey(); k != client.Key() || lane.(Conn).Protocol() != ProtocolLane || lane.(Conn).PeerUID() != -1 {
				t.Errorf("peer %s, protocol %q", k, lane.(Conn).Protocol())
			}
		})
	}
}

func TestTrustHasToBeSaid(t *testing.T) {
	id := newIdentity(t)
	key := Pins{id.Key()}
	for name, c := range map[string]struct {
		err  func() error
		says string
	}{
		"dial without trust":      {func() error { _, err := NewDialer("tls://h", Options{Identity: id}); return err }, "Pins"},
		"dial without identity":   {func() error { _, err := NewDialer("tls://h", Options{Pins: key}); return err }, "Identity"},
		"dial nowhere":            {func() error { _, err := NewDialer("tcp://:1", Options{}); return err }, "no host"},
		"dial no pipe":            {func() error { _, err := NewDialer("pipe:", Options{}); return err }, "NewPipe"},
		"dial tcp with pins":      {func() error { _, err := NewDialer("tcp://h", Options{Pins: key}); return err }, "tls://"},
		"dial tcp with roots":     {func() error { _, err := NewDialer("tcp://h", Options{RootCAs: x509.NewCertPool()}); return err }, "tls://"},
		"listen tcp with pins":    {func() error { _, err := Listen("tcp://127.0.0.1:0", Options{Pins: key}); return err }, "tls://"},
		"bad pin":                 {func() error { _, err := NewDialer("tls://h", Options{Pins: Pins{"x"}}); return err }, "sha256:"},
		"bad protocol":            {func() error { _, err := NewDialer("tls://h", Options{Protocols: []string{"h3"}}); return err }, "h2"},
		"listen without identity": {func() error { _, err := Listen("tls://127.0.0.1:0", Options{Pins: key}); return err }, "Identity"},
		"listen without trust":    {func() error { _, err := Listen("tls://127.0.0.1:0", Options{Identity: id}); return err }, "AuthorizeKey"},
		"listen on no pipe":       {func() error { _, err := Listen("pipe:", Options{}); return err }, "NewPipe"},
		"negative limit":          {func() error { _, err := Listen("pipe:", Options{MaxPending: -1}); return err }, "negative"},
	} {
		if err := c.err(); !errors.Is(err, fault.Invalid) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v; want it to mention %q", name, err, c.says)
		}
	}
}

// A TLS 1.3 client learns late that it was refused, but it learns it, and in
// order: what it had sent meanwhile does not turn the answer into a reset.
func TestRefusedDialerIsTold(t *testing.T) {
	server, stranger := newIdentity(t), newIdentity(t)
	sent := make(chan struct{})
	refuse := func(string) error {
		<-sent
		return fault.New("authorize", fault.Permission, "not on the list")
	}
	l := serve(t, "tls://127.0.0.1:0", Options{Identity: server, AuthorizeKey: refuse})
	c, err := dial(t, l, Options{Identity: stranger, Pins: Pins{server.Key()}})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write(append(preface(), make([]byte, 1<<10)...))
	close(sent)
	_, err = c.Read(make([]byte, 1))
	var e *fault.Error
	if !errors.As(err, &e) || e.Kind != fault.Refused || e.Side != fault.Peer || !strings.Contains(e.Advice, "Pins") {
		t.Errorf("read: %v, want refused by the peer", err)
	}
	if n, err := c.(*tlsConn).raw.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the alert: %d, %v; want EOF", n, err)
	}
}
