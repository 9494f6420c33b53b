package flow

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// TestHostileHello: what an acceptor is told first. Each is refused with a kind,
// and the connection is closed within the time for handshakes.
func TestHostileHello(t *testing.T) {
	hello := func(change func(h *wire.Hello, d *duel)) func(d *duel) [][]byte {
		return func(d *duel) [][]byte {
			h := rawHello(1)
			h.Session, h.Token = d.ack.Session, d.ack.Token
			change(&h, d)
			return [][]byte{wire.Preface[:], control(wire.TypeHello, 0, &h)}
		}
	}
	raw := func(b ...[]byte) func(*duel) [][]byte { return func(*duel) [][]byte { return b } }
	for _, tc := range []struct {
		name string
		say  func(d *duel) [][]byte
		want fault.Kind
		slow bool // one byte a second
	}{
		{name: "nothing", say: raw(), want: fault.Lost},
		{name: "one byte a second", say: hello(func(h *wire.Hello, _ *duel) { h.Session = [16]byte{} }), want: fault.Lost, slow: true},
		{name: "HTTP", say: raw([]byte("GET / HTTP/1.1\r\n\r\n")), want: fault.Unsupported},
		{name: "PING first", say: raw(wire.Preface[:], wire.AppendPing(nil, 1)), want: fault.Protocol},
		{name: "oversized HELLO", say: raw(wire.Preface[:], frame(wire.Header{Type: wire.TypeHello, Length: wire.MaxHello + 1}, nil)), want: fault.Corrupt},
		{name: "HELLO of nested arrays", say: raw(wire.Preface[:], body(wire.TypeHello, 0, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91)), want: fault.Protocol},
		{name: "a later version", say: hello(func(h *wire.Hello, _ *duel) { h.Session, h.MinVersion, h.MaxVersion = [16]byte{}, 2, 3 }), want: fault.Unsupported},
		{name: "wrong token", say: hello(func(h *wire.Hello, _ *duel) { h.Token[0] ^= 1; h.Epoch = 2 }), want: fault.Stale},
		{name: "unknown session", say: hello(func(h *wire.Hello, _ *duel) { h.Session[0] ^= 1; h.Epoch = 2 }), want: fault.Stale},
		{name: "replay of the epoch there is", say: hello(func(*wire.Hello, *duel) {}), want: fault.Stale},
		{name: "epoch 0", say: hello(func(h *wire.Hello, _ *duel) { h.Epoch = 0 }), want: fault.Stale},
		{name: "bulk lane of no session", say: hello(func(h *wire.Hello, _ *duel) { h.Purpose, h.Session = wire.Bulk, [16]byte{} }), want: fault.Stale},
		{name: "bulk lane of another epoch", say: hello(func(h *wire.Hello, _ *duel) { h.Purpose, h.Epoch = wire.Bulk, 2 }), want: fault.Stale},
		{name: "bulk lane with a wrong token", say: hello(func(h *wire.Hello, _ *duel) { h.Purpose, h.Token = wire.Bulk, [16]byte{} }), want: fault.Stale},
		{name: "gRPC of no session", say: hello(func(h *wire.Hello, _ *duel) { h.Purpose, h.Session = wire.RPC, random16() }), want: fault.Stale},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDuel(t, true, Config{ResumeTimeout: -1})
				defer d.end()
				conn, err := d.link.Dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				began := time.Now()
				d.wg.Go(func() {
					for _, b := range tc.say(d) {
						wire.Seal(b, 0)
						step := len(b)
						if tc.slow {
							step = 1
						}
						for ; len(b) > 0; b = b[min(step, len(b)):] {
							if _, err := conn.Write(b[:min(step, len(b))]); err != nil {
								return
							}
							if tc.slow {
								time.Sleep(time.Second)
							}
						}
					}
				})
				var ack wire.HelloAck
				if err := readHandshake(conn, wire.TypeHelloAck, &ack); err == nil && fault.Kind(ack.Kind) != tc.want {
					t.Errorf("refused with %v, want %v", fault.Kind(ack.Kind), tc.want)
				} else if err != nil && tc.want != fault.Lost {
					t.Errorf("no answer: %v", err)
				}
				if n, err := io.Copy(io.Discard, conn); n != 0 {
					t.Errorf("%d more bytes, %v", n, err)
				}
				if took := time.Since(began); took > 11*time.Second {
					t.Errorf("closed after %v", took)
				}
				if err := d.victim.Err(); err != nil {
					t.Errorf("the session of that name ended: %v", err)
				}
			})
		})
	}
}

// TestHostileHelloAck: what a connector is answered.
func TestHostileHelloAck(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*wire.HelloAck)
		want   fault.Kind
	}{
		{"another version", func(a *wire.HelloAck) { a.Version = 2 }, fault.Protocol},
		{"another epoch", func(a *wire.HelloAck) { a.Epoch = 7 }, fault.Protocol},
		{"refusal", func(a *wire.HelloAck) { a.Kind, a.Text = uint16(fault.Draining), "no" }, fault.Draining},
		{"refusal of an unknown kind", func(a *wire.HelloAck) { a.Kind = 999 }, fault.Kind(999)},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := flowtest.NewLink(flowtest.LinkConfig{})
			var wg sync.WaitGroup
			wg.Go(func() { rawAccept(t, l, tc.change) })
			s, err := Connect(t.Context(), l, Config{})
			if s != nil || fault.KindOf(err) != tc.want {
				t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
			}
			wg.Wait()
			l.Close()
		})
	}
}

func TestHelloNeverAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := flowtest.NewLink(flowtest.LinkConfig{})
		defer l.Close()
		began := time.Now()
		if _, err := Connect(t.Context(), l, Config{}); err == nil || time.Since(began) > 11*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if _, err := Connect(ctx, l, Config{}); !errors.Is(err, fault.Deadline) || time.Since(began) > 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestFailedHandshakesAreForgotten: the acceptor keeps nothing of them.
func TestFailedHandshakesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := NewAcceptor(Config{})
		if err != nil {
			t.Fatal(err)
		}
		c := &countingContext{Context: a.ctx}
		a.ctx = c
		l := flowtest.NewLink(flowtest.LinkConfig{})
		for range 20 {
			conn, _ := l.Dial(t.Context())
			conn.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
			far, _ := l.Accept()
			a.Handle(far)
			conn.Close()
		}
		if n := c.waiting(); n != 0 {
			t.Errorf("%d connections that failed are remembered", n)
		}
		a.Close()
		l.Close()
	})
}

// countingContext counts the functions that wait for its end.
type countingContext struct {
	context.Context
	mu sync.Mutex
	n  int
}

func (c *countingContext) waiting() int { c.mu.Lock(); defer c.mu.Unlock(); return c.n }

// Value hides the context inside, which context.AfterFunc would go to directly.
func (c *countingContext) Value(any) any { return nil }

// AfterFunc is what context.AfterFunc calls.
func (c *countingContext) AfterFunc(f func()) func() bool {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	stop := context.AfterFunc(c.Context, f)
	return func() bool {
		ok := stop()
		c.mu.Lock()
		if ok {
			c.n--
		}
		c.mu.Unlock()
		return ok
	}
}

// TestBulkLanes: a peer cannot have more than eight, and bulk lanes carry
// nothing but blocks.
func TestBulkLanes(t *testing.T) {
	bulk := func(t *testing.T, d *duel) *rawPeer {
		h := rawHello(1)
		h.Session, h.Token, h.Purpose = d.ack.Session, d.ack.Token, wire.Bulk
		p, _, err := rawConnect(t, d.link, h)
		if err != nil {
			t.Fatal(err)
		}
		p.listen(&d.wg)
		return p
	}
	for name, bad := range map[string]func(d *duel) []byte{
		"OPEN": func(d *duel) []byte { return openFrame(d.own(1), wire.Open{}) },
		"DATA": func(d *duel) []byte { return data(d.own(1), 0, nil, 0) },
		"GOAWAY": func(*duel) []byte {
			return control(wire.TypeGoAway, 0, &wire.GoAway{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDuel(t, true, Config{ResumeTimeout: -1})
				defer d.end()
				p := bulk(t, d)
				p.send(bad(d))
				settle()
				if err := d.victim.Err(); !errors.Is(err, fault.Protocol) {
					t.Errorf("the session ended with %v", err)
				}
				d.toldWhy()
				p.conn.Close()
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		d := newDuel(t, true, Config{ResumeTimeout: -1})
		defer d.end()
		var open int
		for range 10 {
			p := bulk(t, d)
			defer p.conn.Close()
			settle()
			if !p.hungUp() {
				open++
			}
		}
		if open != 8 || d.victim.Err() != nil {
			t.Errorf("%d bulk lanes, %v", open, d.victim.Err())
		}
	})
}

// known is a connection whose carrier says who the peer is.
type known struct {
	net.Conn
	key string
	uid int
}

func (c known) PeerKey() string { return c.key }
func (c known) PeerUID() int    { return c.uid }

// knownDialer makes known connections: the first to peers[0], all others to peers[1].
type knownDialer struct {
	tcp
	peers [2]known
	made  atomic.Int32
}

func (d *knownDialer) Dial(ctx context.Context) (net.Conn, error) {
	c, err := d.tcp.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return d.peers[min(d.made.Add(1)-1, 1)].over(c), nil
}

func (c known) over(conn net.Conn) net.Conn { c.Conn = conn; return c }

// TestEveryConnectionIsThePeers: who knows a session's secret and is somebody
// else gets no lane and no gRPC connection, at either end.
func TestEveryConnectionIsThePeers(t *testing.T) {
	alice := known{key: "sha256:a", uid: 1000}
	for name, tc := range map[string]struct {
		acceptors, connectors [2]known // whom they see at the other end
		want                  error
	}{
		"the same":                    {[2]known{alice, alice}, [2]known{alice, alice}, nil},
		"acceptor sees another user":  {[2]known{alice, {key: alice.key, uid: 1001}}, [2]known{alice, alice}, fault.Unauthenticated},
		"acceptor sees another key":   {[2]known{alice, {key: "sha256:b", uid: 1000}}, [2]known{alice, alice}, fault.Unauthenticated},
		"connector sees another user": {[2]known{alice, alice}, [2]known{alice, {key: alice.key, uid: 0}}, fault.Unauthenticated},
		"connector sees another key":  {[2]known{alice, alice}, [2]known{alice, {uid: 1000}}, fault.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			a, err := NewAcceptor(Config{})
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := 0; ; i++ {
					c, err := l.Accept()
					if err != nil {
						return
					}
					wg.Go(func() { a.Handle(tc.acceptors[min(i, 1)].over(c)) })
				}
			})
			defer wg.Wait()
			defer a.Close()
			defer l.Close()
			s, err := Connect(t.Context(), &knownDialer{tcp: tcp{addr: l.Addr().String()}, peers: tc.connectors}, Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.dialLane(1); !errors.Is(err, tc.want) {
				t.Errorf("lane: %v, want %v", err, tc.want)
			}
			c, err := s.OpenRPC(t.Context())
			if !errors.Is(err, tc.want) {
				t.Errorf("gRPC connection: %v, want %v", err, tc.want)
			}
			if err == nil {
				c.Close()
			}
		})
	}
}

// slowAck is a connection whose first Write, of HELLO_ACK, takes a second longer
// at this end than at the other.
type slowAck struct {
	net.Conn
	once sync.Once
}

func (c *slowAck) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.once.Do(func() { time.Sleep(time.Second) })
	return n, err
}

// TestBulkLaneOvertakesControlLane: a lane that comes before the acceptor has
// made the session's first one is not turned away.
func TestBulkLaneOvertakesControlLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := flowtest.NewLink(flowtest.LinkConfig{RTT: 10 * time.Millisecond})
		a, err := NewAcceptor(Config{})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				wg.Go(func() { a.Handle(&slowAck{Conn: c}) })
			}
		})
		near, err := Connect(t.Context(), l, Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := near.dialLane(1); err != nil {
			t.Error(err)
		}
		near.Close()
		a.Close()
		l.Close()
		wg.Wait()
	})
}
