package relay

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// neighbour is a further node with a session of its own with east, which is as it should be.
type neighbour struct {
	hub     *Hub
	near    *flow.Session
	address string // where its relay listens, that leads to an echo
	stop    func()
}

// newNeighbour gives one a relay to a destination of east's, whose policy has to allow it.
func (w *two) newNeighbour(to string) *neighbour {
	w.t.Helper()
	n := &neighbour{}
	var err error
	if n.hub, err = New(Config{}); err != nil {
		w.t.Fatal(err)
	}
	l := &line{a: w.line.a, tcp: w.line.tcp}
	if n.near, err = flow.Connect(context.Background(), l, flow.Config{}); err != nil {
		w.t.Fatal(err)
	}
	far, err := w.line.a.Accept(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { n.hub.Serve("east", n.near) })
	wg.Go(func() { w.east.Serve("neighbour", far) })
	if err := n.hub.Add(Relay{Name: "n", Partner: "east", Accept: mustAccept(w.t, "tcp://127.0.0.1:0"), To: mustTo(w.t, to)}); err != nil {
		w.t.Fatal(err)
	}
	_, n.address, _ = strings.Cut(n.hub.Stats()[0].Bound[0], "://")
	n.stop = sync.OnceFunc(func() {
		n.hub.Close()
		n.near.Close()
		far.Close()
		wg.Wait()
	})
	w.t.Cleanup(n.stop)
	return n
}

// lives has one long connection and many short ones of the neighbour's echo until the
// returned function is called, which reports how many there were.
func (n *neighbour) lives(t *testing.T) (count func() int) {
	long, err := net.Dial("tcp", n.address)
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	var rounds atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
			}
			c, err := net.Dial("tcp", n.address)
			if err != nil {
				t.Error(err)
				return
			}
			for _, c := range []net.Conn{long, c} {
				_ = c.SetDeadline(time.Now().Add(60 * time.Second))
				_, err := io.WriteString(c, "neighbour")
				got := make([]byte, 9)
				if err == nil {
					_, err = io.ReadFull(c, got)
				}
				if err != nil || string(got) != "neighbour" {
					t.Errorf("a connection of somebody else's: %q, %v", got, err)
					c.Close()
					return
				}
			}
			c.Close()
			rounds.Add(1)
		}
	})
	end := sync.OnceFunc(func() {
		close(over)
		wg.Wait()
		long.Close()
	})
	t.Cleanup(end)
	return func() int { end(); return int(rounds.Load()) }
}

// held is what this process has: goroutines and descriptors.
func held(t *testing.T) (goroutines, descriptors int) {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Logf("descriptors are not counted: %v", err)
	}
	return runtime.NumGoroutine(), len(all)
}

// given waits until this process has no more than it had.
func given(t *testing.T, goroutines, descriptors int) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		g, d := held(t)
		if g <= goroutines && d <= descriptors {
			return
		}
		if time.Since(began) > 20*time.Second {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines and %d descriptors, before %d and %d\n%s", g, d, goroutines, descriptors, buf[:runtime.Stack(buf, true)])
		}
	}
}

// TestCutInTheMiddle: a session that is lost in the middle of hundreds of connections, in every
// state that they can be in, leaves nothing behind at either end: each connection has a record
// with the reason, the other partners' go on, and so do the listener and new connections when
// the line is back.
func TestCutInTheMiddle(t *testing.T) {
	const each = 50
	server, sink := echo(t, "tcp", "127.0.0.1:0").Addr().String(), flood(t)
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepted by the kernel, and by nobody else
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	cat := `exec:["/bin/cat"]`
	cfg := allowAll("tcp://"+server, "tcp://"+sink, "tcp://"+mute.Addr().String(), cat)
	cfg.Policy = append(cfg.Policy, Allow{Partner: "neighbour", Relay: "*", Dial: []string{"tcp://" + server}})
	w := join(t, Config{}, cfg, true, flow.Config{ResumeTimeout: time.Second})
	at := map[string]string{}
	for name, to := range map[string]string{"echo": "tcp://" + server, "flood": "tcp://" + sink, "mute": "tcp://" + mute.Addr().String(), "cat": cat} {
		w.add("tcp://127.0.0.1:0", to, func(r *Relay) { r.Name = name })
	}
	for _, s := range w.west.Stats() {
		_, at[s.Name], _ = strings.Cut(s.Bound[0], "://")
	}
	n := w.newNeighbour("tcp://" + server)
	stop := n.lives(t)
	time.Sleep(100 * time.Millisecond)
	goroutines, descriptors := held(t)
	goroutines, descriptors = goroutines+8, descriptors+8 // the neighbour's come and go
	dial := func(name string) net.Conn {
		c, err := net.Dial("tcp", at[name])
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	var conns []net.Conn
	for i := range each {
		idle, half, talk, read, stuck, command := dial("echo"), dial("mute"), dial("echo"), dial("flood"), dial("flood"), dial("cat")
		for _, c := range []net.Conn{idle, talk, command} {
			fmt.Fprintf(c, "hello %d", i)
		}
		half.(*net.TCPConn).CloseWrite()
		go io.Copy(io.Discard, talk)
		go io.Copy(io.Discard, read)
		if i%10 == 0 { // not all at once: the others are to be heard
			go io.Copy(talk, io.LimitReader(zeroes{}, 1<<40))
		}
		_ = stuck // nobody reads it
		conns = append(conns, idle, half, talk, read, stuck, command)
	}
	waitFor(t, func() bool { return len(w.west.Conns()) == len(conns) && len(w.east.Conns()) >= len(conns) })
	w.line.cut(true)
	for began := time.Now(); len(w.west.Conns()) > 0 || len(w.eastLog.with("msg=relayed", "partner=west")) < len(conns); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 60*time.Second {
			t.Fatalf("%d connections at west, %d at east, %d records there: %+v, %+v", len(w.west.Conns()), len(w.east.Conns()), len(w.eastLog.with("msg=relayed", "partner=west")), w.west.Conns(), w.east.Conns())
		}
	}
	for _, log := range []*records{w.westAudit, w.eastLog} {
		partner := "partner=east"
		if log == w.eastLog {
			partner = "partner=west"
		}
		if all, why := log.with("msg=relayed", partner), log.with("msg=relayed", partner, `kind="connection lost"`, "cause="); len(all) != len(conns) || len(why) != len(conns) {
			t.Errorf("%d records, %d with a reason, of %d connections: %q", len(all), len(why), len(conns), all[0])
		}
	}
	for i, c := range conns {
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
			t.Errorf("client %d still waits", i)
		}
		c.Close()
	}
	for _, s := range append(w.west.Stats(), w.east.Stats()...) {
		if s.Open != 0 && s.Name != "neighbour/*" {
			t.Errorf("%+v", s)
		}
	}
	given(t, goroutines, descriptors)
	if rounds := stop(); rounds < 10 {
		t.Errorf("only %d connections of the neighbour's", rounds)
	}
	n.stop()
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// flood is a server that sends without end, and reads nothing.
func flood(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
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
			wg.Go(func() { defer c.Close(); io.Copy(c, io.LimitReader(zeroes{}, 1<<40)) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

// TestVandal: a partner that floods with opens, takes what it is sent or not, resets, writes
// nonsense and asks for what it may not have, all at once, harms nobody else: the others'
// connections go on, nothing that was forbidden is connected to or listened at, and when it is
// gone nothing of it is left.
func TestVandal(t *testing.T) {
	server, sink := echo(t, "tcp", "127.0.0.1:0").Addr().String(), flood(t)
	forbidden := echo(t, "tcp", "127.0.0.1:0").Addr().String()
	udp := udpEcho(t)
	cfg := allowAll("tcp://"+server, "tcp://"+sink, udp, `exec:["/bin/cat"]`)
	cfg.Policy[0].Listen = []string{"tcp://127.0.0.1:*"}
	cfg.Policy[0].Limits = Limits{Conns: 100}
	cfg.Policy = append(cfg.Policy, Allow{Partner: "neighbour", Relay: "*", Dial: []string{"tcp://" + server}})
	var mu sync.Mutex
	dialled := map[string]int{}
	cfg.Network.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		dialled[address]++
		mu.Unlock()
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	w := join(t, Config{}, cfg, true)
	n := w.newNeighbour("tcp://" + server)
	stop := n.lives(t)
	time.Sleep(100 * time.Millisecond)
	goroutines, descriptors := held(t)
	goroutines, descriptors = goroutines+8, descriptors+8
	vandal, err := flow.Connect(t.Context(), &line{a: w.line.a, tcp: w.line.tcp}, flow.Config{})
	if err != nil {
		t.Fatal(err)
	}
	far, err := w.line.a.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- w.east.Serve("west", far) }()
	ask := func(kind string, m any) (*flow.ByteStream, error) {
		meta, err := wire.AppendMeta(nil, m)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return vandal.OpenBytes(ctx, flow.Open{Kind: kind, Meta: meta})
	}
	dial := func(to string) (*flow.ByteStream, error) {
		return ask(KindConn, &connAsk{Relay: "v", To: to, From: "not an address", At: "neither"})
	}
	pranks := []func() error{
		func() error { _, err := dial("tcp://" + forbidden); return err },
		func() error { _, err := dial("tcp://127.0.0.1:{port}"); return err },
		func() error { _, err := dial(`exec:["/bin/sh","-c","exit"]`); return err },
		func() error { _, err := dial("tcp://" + sink); return err }, // and never reads
		func() error {
			st, err := dial("tcp://" + sink)
			if err == nil {
				io.CopyN(io.Discard, st, 1<<16)
				st.Reset(fault.New("x", fault.Corrupt, "\x00nonsense\xff"))
			}
			return err
		},
		func() error {
			st, err := dial("tcp://" + server)
			if err == nil {
				st.Write(make([]byte, 1<<16)) // and never reads the echo
				st.CloseWrite()
			}
			return err
		},
		func() error {
			st, err := dial(`exec:["/bin/cat"]`)
			if err == nil {
				st.Reset(nil)
			}
			return err
		},
		func() error {
			st, err := ask(KindUDP, &connAsk{Relay: "v", To: udp, Datagram: 3})
			if err == nil {
				q := newQueue(newUsage(Limits{}))
				for id := range uint32(3) {
					q.put(newSource, id, []byte("nobody"))
					q.send(id, &tally{use: q.use}, []byte("hello"))
				}
				nonsense := make([]byte, 1000)
				for i := range nonsense {
					nonsense[i] = byte(rand.Uint32())
				}
				st.Write(append(q.pending, nonsense...))
			}
			return err
		},
		func() error { _, err := ask(KindUDP, &connAsk{Relay: "v", To: "udp://" + forbidden}); return err },
		func() error {
			st, err := ask(KindListen, &listenAsk{Relay: fmt.Sprint("v", rand.N(1000)), Accept: []string{"tcp://127.0.0.1:0"}})
			if err == nil && rand.N(2) == 0 {
				st.Reset(nil)
			}
			return err
		},
		func() error {
			_, err := ask(KindListen, &listenAsk{Relay: "v", Accept: []string{"tcp://0.0.0.0:0", "tcp://" + forbidden}})
			return err
		},
	}
	kinds := map[fault.Kind]int{}
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			for i := range 20 * len(pranks) {
				err := pranks[(i+rand.N(3))%len(pranks)]()
				mu.Lock()
				kinds[fault.KindOf(err)]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	mu.Lock()
	if dialled[forbidden] > 0 || dialled[server] == 0 || dialled[sink] == 0 {
		t.Errorf("connected to %v; %s is forbidden", dialled, forbidden)
	}
	if kinds[fault.Permission] < 1000 || kinds[fault.Overloaded] < 100 {
		t.Errorf("the vandal was told %v", kinds)
	}
	mu.Unlock()
	if err := vandal.Err(); err != nil {
		t.Errorf("its session is over, which only it could end: %v", err)
	}
	if s := w.east.Stats()[0]; s.Open > 100 || s.Refused < 1000 {
		t.Errorf("%+v", s)
	}
	vandal.Close()
	far.Close()
	<-served
	waitFor(t, func() bool { return w.east.Stats()[0].Open == 0 })
	given(t, goroutines, descriptors)
	if rounds := stop(); rounds < 10 {
		t.Errorf("only %d connections of the neighbour's", rounds)
	}
	if s := n.hub.Stats()[0]; s.Failed > 0 || s.Refused > 0 {
		t.Errorf("%+v", s)
	}
	n.stop()
}
