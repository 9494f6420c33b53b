package relay

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/spec/fault"
)

// overLink is two nodes whose session goes over an emulated link.
func overLink(t *testing.T, link flowtest.LinkConfig, policy []Allow) *two {
	t.Helper()
	w := &two{t: t, westWorld: newWorld(), eastWorld: newWorld()}
	var err error
	if w.west, err = New(Config{Network: w.westWorld.network()}); err != nil {
		t.Fatal(err)
	}
	if w.east, err = New(Config{Network: w.eastWorld.network(), Policy: policy}); err != nil {
		t.Fatal(err)
	}
	acceptor, err := flow.NewAcceptor(flow.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l := flowtest.NewLink(link)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { acceptor.Handle(c) })
		}
	})
	if w.near, err = flow.Connect(t.Context(), l, flow.Config{}); err != nil {
		t.Fatal(err)
	}
	if w.far, err = acceptor.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	var all []*flow.Session
	serve := func(near, far *flow.Session) {
		all = append(all, near)
		wg.Go(func() { w.west.Serve("east", near) })
		wg.Go(func() { w.east.Serve("west", far) })
	}
	serve(w.near, w.far)
	w.another = func() *flow.Session {
		near, err := flow.Connect(t.Context(), l, flow.Config{})
		if err != nil {
			t.Fatal(err)
		}
		far, err := acceptor.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		serve(near, far)
		return far
	}
	w.stop = func() {
		w.west.Close()
		w.east.Close()
		for _, s := range all {
			s.Close()
		}
		acceptor.Close()
		l.Close()
		wg.Wait()
	}
	return w
}

// TestWeight: relays have their weights' parts of a slow session, however many
// connections each has; the other end's sending goes by the weights of its policy.
func TestWeight(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	for _, tc := range []struct {
		name   string
		conns  []int // of the two relays
		few    int   // weight of the first
		many   int   // of the second
		toWest bool
		rtt    time.Duration
	}{
		{"to the partner", []int{3, 100}, 4, 1, false, 20 * time.Millisecond},
		{"to the partner, the same", []int{3, 100}, 0, 0, false, 20 * time.Millisecond},
		{"from the partner", []int{3, 100}, 4, 1, true, 20 * time.Millisecond},
		{"one connection each", []int{1, 1}, 9, 1, false, 2 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				own, theirs := []int{tc.few, tc.many}, []int{0, 0}
				if tc.toWest {
					own, theirs = theirs, own
				}
				names := []string{"few", "many"}
				var policy []Allow
				for i, name := range names {
					policy = append(policy, Allow{Partner: "west", Relay: name, Dial: []string{"tcp://10.0.0.1:*"}, Limits: Limits{Weight: theirs[i]}})
				}
				w := overLink(t, flowtest.LinkConfig{RTT: tc.rtt, Rate: 80e6}, policy)
				defer w.stop()
				var clients, servers [2][]halfCloser
				for i, name := range names {
					at, to := "10.9.9.9:"+[]string{"1", "2"}[i], "10.0.0.1:"+[]string{"1", "2"}[i]
					w.add("tcp://"+at, "tcp://"+to, func(r *Relay) { r.Name, r.Limits.Weight = name, own[i] })
					l := w.dest(to)
					for range tc.conns[i] {
						c, s := w.through(at, l)
						clients[i], servers[i] = append(clients[i], c), append(servers[i], s)
					}
				}
				if tc.toWest {
					clients, servers = servers, clients
				}
				moved := pour(t, clients, servers)
				want := float64(max(1, tc.few)) / float64(max(1, tc.many))
				if got := float64(moved[0]) / float64(moved[1]); got < 0.7*want || got > 1.4*want {
					t.Errorf("%d connections of weight %d moved %d bytes, %d of weight %d moved %d", tc.conns[0], tc.few, moved[0], tc.conns[1], tc.many, moved[1])
				}
			})
		})
	}
}

// pour sends on all connections for five seconds, and returns what has arrived of each
// relay.
func pour(t *testing.T, from, to [2][]halfCloser) (moved [2]int64) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range from {
		for k := range from[i] {
			stop := context.AfterFunc(ctx, func() { from[i][k].Close(); to[i][k].Close() })
			defer stop()
			wg.Go(func() {
				_, _ = io.Copy(from[i][k], struct{ io.Reader }{zeros{}})
			})
			wg.Go(func() {
				n, _ := io.Copy(io.Discard, struct{ net.Conn }{to[i][k]})
				mu.Lock()
				moved[i] += n
				mu.Unlock()
			})
		}
	}
	wg.Wait()
	return moved
}

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestWeightBounds(t *testing.T) {
	r := Relay{Name: "r", Partner: "p", Accept: mustAccept(t, "tcp://127.0.0.1:0"), To: mustTo(t, "tcp://10.0.0.1:1")}
	for weight, ok := range map[int]bool{-1: false, 0: true, 1: true, flow.MaxWeight: true, flow.MaxWeight + 1: false} {
		r.Limits.Weight = weight
		if err := r.Check(); (err == nil) != ok || err != nil && fault.KindOf(err) != fault.Invalid {
			t.Errorf("weight %d: %v", weight, err)
		}
	}
}
