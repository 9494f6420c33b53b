package relay

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// What comes about while a partner ceases to be one, or while a node drains, is in the books.

// hooked is a network whose accepted connections call written before each write to the client.
func hooked(n Network, written func()) Network {
	listen := n.Listen
	n.Listen = func(ctx context.Context, network, address string) (net.Listener, error) {
		l, err := listen(ctx, network, address)
		return hookedListener{l, written}, err
	}
	return n
}

type hookedListener struct {
	net.Listener
	written func()
}

func (l hookedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return hookedConn{c.(halfCloser), l.written}, nil
}

type hookedConn struct {
	halfCloser
	written func()
}

func (c hookedConn) Write(p []byte) (int, error) {
	c.written()
	return c.halfCloser.Write(p)
}

// TestDetachBeforeEntry: a partner that ceases to be one when it has answered, and before the entry has the
// connection in its books.
func TestDetachBeforeEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("tcp://10.0.0.5:80"), false)
		defer w.stop()
		writes := 0
		w.west.cfg.Network = hooked(w.west.cfg.Network, func() {
			if writes++; writes == 2 { // the first is about the greeting, the second says that it is connected
				w.west.Detach("east", w.near)
			}
		})
		w.add("socks5://127.0.0.1:1080", "")
		l := w.dest("10.0.0.5:80")
		client := w.client("127.0.0.1:1080")
		go func() {
			_, _ = client.Write([]byte{socksVersion, 1, socksNoAuth, socksVersion, socksConnect, 0, socksIPv4, 10, 0, 0, 5, 0, 80})
		}()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		synctest.Wait()
		if writes < 2 || len(w.west.Conns()) > 0 {
			t.Errorf("%d writes to the client, connections %+v", writes, w.west.Conns())
		}
		if got := w.westAudit.with("msg=relayed", "no partner of this node"); len(got) != 1 {
			t.Errorf("records %q", w.westAudit.lines())
		}
	})
}

// TestDetachBeforeBooks: what was answered or admitted when the partner ceased to be one, and comes to the books
// only then, ends; the same for a partner of another name, whose session it now is.
func TestDetachBeforeBooks(t *testing.T) {
	for _, now := range []string{"", "south"} {
		t.Run(now, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := allowAll("tcp://10.0.0.5:80")
				cfg.Policy[0].Listen = []string{"tcp://127.0.0.1:7000"}
				w := join(t, Config{Policy: []Allow{{Partner: "east", Relay: "*", Dial: []string{"udp://10.0.0.7:9"}}}}, cfg, false)
				defer w.stop()
				synctest.Wait() // until the hub knows whose session it is, which it would take back otherwise
				h, use := w.east, newUsage(Limits{}.withDefaults())
				stream := func() *flow.ByteStream { // any that is there
					meta, _ := wire.AppendMeta(nil, &connAsk{Relay: "x", To: "udp://10.0.0.7:9"})
					st, err := w.far.OpenBytes(t.Context(), flow.Open{Kind: KindUDP, Meta: meta})
					if err != nil {
						t.Fatal(err)
					}
					return st
				}
				answered, aside := stream(), stream()
				h.Detach("west", w.far)
				if now != "" {
					h.Attach(now, w.far)
				}
				a, b := carrier.NewPair()
				defer b.Close()
				if err := use.enter(); err != nil {
					t.Fatal(err)
				}
				c := &conn{hub: h, role: Exit, relay: "x", partner: "west", use: use, local: a, st: answered}
				c.run()
				done := h.follow("west", aside)
				synctest.Wait()
				done()
				_ = aside.SetReadDeadline(time.Now().Add(time.Minute))
				_ = b.SetReadDeadline(time.Now().Add(time.Minute))
				if len(h.Conns()) > 0 || !ended(b) {
					t.Error("the connection goes on")
				}
				if _, err := aside.Read(make([]byte, 1)); fault.KindOf(err) != fault.Unauthenticated {
					t.Errorf("the stream of datagrams: %v", err)
				}
				m := listenAsk{Relay: "back", Accept: []string{"tcp://127.0.0.1:7000"}}
				if _, err := h.newGuest("west", guestKey{w.far, "back"}, &m); fault.KindOf(err) != fault.Unauthenticated {
					t.Errorf("a listener: %v", err)
				}
			})
		})
	}
}

// TestDetachEndsAsk: what a partner listens at for this node ends when it is a partner no more.
func TestDetachEndsAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, Config{Policy: []Allow{{Partner: "west", Relay: "r", Listen: []string{"tcp://127.0.0.1:9000"}}}}, false)
		defer w.stop()
		w.add("tcp://127.0.0.1:9000", "tcp://127.0.0.1:1", func(r *Relay) { r.At = There })
		listens := func() bool { w.eastWorld.mu.Lock(); defer w.eastWorld.mu.Unlock(); return len(w.eastWorld.serve) > 0 }
		synctest.Wait()
		if !listens() {
			t.Fatal("the partner does not listen")
		}
		w.west.Detach("east", w.near)
		synctest.Wait()
		if listens() || len(w.west.Stats()[0].Bound) > 0 {
			t.Errorf("the partner still listens; %+v", w.west.Stats()[0])
		}
		w.west.Attach("east", w.near)
		time.Sleep(mostAsk)
		if !listens() {
			t.Error("it is a partner again, and was not asked")
		}
	})
}

// TestDrainOpening: a connection that is being made when a node drains, at either end, comes about and goes on, and is
// waited for; if it does not come about in time, it is cut.
func TestDrainOpening(t *testing.T) {
	for _, end := range []string{"entry", "exit"} {
		for _, intime := range []bool{true, false} {
			t.Run(fmt.Sprint(end, " in time ", intime), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := join(t, Config{}, allowAll("tcp://10.0.0.5:80"), false)
					defer w.stop()
					w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80")
					l := w.dest("10.0.0.5:80")
					client := w.client("127.0.0.1:9000")
					synctest.Wait() // the exit connects, and nobody accepts
					hub := map[string]*Hub{"entry": w.west, "exit": w.east}[end]
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					defer cancel()
					drained := make(chan error, 1)
					go func() { drained <- hub.Drain(ctx) }()
					synctest.Wait()
					if len(drained) > 0 {
						t.Fatal("drained, and a connection comes about")
					}
					if !intime {
						if err := <-drained; fault.KindOf(err) != fault.Deadline {
							t.Error(err)
						}
					}
					server, err := l.Accept()
					if err != nil {
						t.Fatal(err)
					}
					defer server.Close()
					if !intime {
						lost := ended(client)
						if synctest.Wait(); !lost || len(hub.Conns()) > 0 {
							t.Error("it goes on")
						}
						return
					}
					say(t, client, server, "comes about")
					client.CloseWrite()
					server.(halfCloser).CloseWrite()
					if err := <-drained; err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// TestDrainRefused: what comes to nothing is not waited for any more.
func TestDrainRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("tcp://10.0.0.5:80"), false)
		defer w.stop()
		w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80")
		w.dest("10.0.0.5:80")
		client := w.client("127.0.0.1:9000")
		synctest.Wait()
		var drains sync.WaitGroup
		for _, h := range []*Hub{w.west, w.east} {
			drains.Go(func() {
				if err := h.Drain(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		if !ended(client) { // after the time for connecting
			t.Error("it has a connection")
		}
		drains.Wait()
	})
}

// TestOpenCrossesDrain: a connection that is opened when the word that its session drains is under way is made over another.
func TestOpenCrossesDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := overLink(t, flowtest.LinkConfig{RTT: 100 * time.Millisecond}, allowAll("tcp://10.0.0.5:80").Policy)
		defer w.stop()
		w.add("tcp://10.9.9.9:1", "tcp://10.0.0.5:80")
		l := w.dest("10.0.0.5:80")
		far := w.another()
		synctest.Wait()                   // both ends have it
		_, _ = w.through("10.9.9.9:1", l) // which the session goes on for
		time.Sleep(time.Second)
		client := w.client("10.9.9.9:1")
		synctest.Wait() // the ask is on its way
		go func() { _ = far.Drain(t.Context()) }()
		go func() {
			if server, err := l.Accept(); err == nil {
				_, _ = io.Copy(server, server)
				server.Close()
			}
		}()
		say(t, client, client, "hello")
		if far.Err() != nil || !far.Draining() {
			t.Errorf("%v; the session is to drain", far.Err())
		}
		client.Close()
		l.Close()
	})
}

// TestFTPOpening: a data connection that comes about is one that Drain waits for, at both ends.
func TestFTPOpening(t *testing.T) {
	dialling, proceed := make(chan struct{}), make(chan struct{})
	l := listenAt(t, ftpServerHost)
	cfg := allowAll("ftp://" + l.Addr().String())
	cfg.Network.DialFrom = func(ctx context.Context, network string, _ netip.Addr, address string) (net.Conn, error) {
		close(dialling)
		<-proceed
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	k := &talk{two: join(t, Config{}, cfg, true), listener: l}
	k.add("tcp://"+ftpEntryHost+":0", "ftp://"+l.Addr().String())
	k.begin()
	opening := func(h *Hub) int { h.mu.Lock(); defer h.mu.Unlock(); return h.opening }
	data := listenAt(t, ftpServerHost)
	near := from(t, ftpClientHost, k.passive("EPSV", port(data.Addr())))
	<-dialling
	for name, h := range map[string]*Hub{"entry": k.west, "exit": k.east} {
		if n := opening(h); n != 1 {
			t.Errorf("%d come about at the %s", n, name)
		}
	}
	close(proceed)
	say(t, near, accept(t, data), "to the server")
	waitFor(t, func() bool { return opening(k.west)+opening(k.east) == 0 })
}

// TestCloseGreeting: a client of SOCKS5 that says nothing does not hold up a node that ends.
func TestCloseGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("tcp://10.0.0.5:80"), false)
		defer w.stop()
		w.add("socks5://127.0.0.1:1080", "")
		client := w.client("127.0.0.1:1080")
		synctest.Wait()
		began := time.Now()
		w.west.Close()
		if took := time.Since(began); took > time.Second {
			t.Errorf("Close took %v", took)
		}
		if !ended(client) {
			t.Error("the client is still there")
		}
	})
}

// TestGreetings: a client that does not say where to is told what is wrong with that, in its protocol where it can be,
// and the record has no destination but the reason.
func TestGreetings(t *testing.T) {
	for _, tc := range []struct{ name, say, answer, kind, cause string }{
		{"socks5 silent", "", "", "deadline exceeded", "not said in time"},
		{"socks5 half", "\x05\x01\x00\x05\x01\x00\x03\x20exam", "\x05\x00", "deadline exceeded", "not said in time"},
		{"socks5 gone", "\x05", "gone", "connection lost", "gone before"},
		{"socks5 no host", "\x05\x01\x00\x05\x01\x00\x03\x03a b\x00\x50", "\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00", "invalid argument", `a b`},
		{"http silent", "CONNECT x", "", "deadline exceeded", "not said in time"},
		{"http gone", "CONNECT x", "gone", "connection lost", "gone before"},
		{"http bad port", "CONNECT x:y HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 ", "protocol violation", "invalid port"},
		{"http long", "CONNECT x:1 HTTP/1.1\r\nA: " + strings.Repeat("b", maxRequest) + "\r\n\r\n", "HTTP/1.1 431 ", "TooLong", "at most 16384 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := join(t, Config{}, allowAll("tcp://*:*"), false)
				defer w.stop()
				scheme, _, _ := strings.Cut(tc.name, " ")
				w.add(scheme+"://127.0.0.1:1080", "")
				client := w.client("127.0.0.1:1080")
				_, _ = io.WriteString(client, tc.say)
				if tc.answer == "gone" {
					client.Close()
				} else {
					answer := make([]byte, len(tc.answer))
					if _, err := io.ReadFull(client, answer); err != nil || string(answer) != tc.answer {
						t.Errorf("%q, %v, want %q", answer, err, tc.answer)
					}
				}
				time.Sleep(30 * time.Second)
				kind := tc.kind
				if kind == "TooLong" {
					kind = fault.TooLong.String()
				}
				if got := w.westAudit.with("not relayed", "from=192.0.2.9:999", `to=""`, kind, tc.cause); len(got) != 1 {
					t.Errorf("%q", w.westAudit.lines())
				}
			})
		})
	}
}
