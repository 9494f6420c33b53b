package relay

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

// TestNewestLost: of two sessions with a partner, the newer of which has lost its connections, the older one is used.
func TestNewestLost(t *testing.T) {
	for _, resume := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := join(t, Config{}, allowAll("tcp://10.0.0.5:80"), false)
			defer w.stop()
			w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80", func(r *Relay) { r.Resume = resume })
			l := w.dest("10.0.0.5:80")
			second := &line{a: w.line.a}
			near, err := flow.Connect(t.Context(), second, flow.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer near.Close()
			far, err := w.line.a.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			go w.west.Serve("east", near)
			go w.east.Serve("west", far)
			synctest.Wait()
			second.cut(true)
			synctest.Wait()
			defer time.AfterFunc(20*time.Second, func() { l.Close() }).Stop() // what does not come is not waited for
			began := time.Now()
			client, server := w.through("127.0.0.1:9000", l)
			say(t, client, server, "hello")
			if took := time.Since(began); took > time.Second {
				t.Errorf("resume %v: connected after %v", resume, took)
			}
			if near.Err() != nil {
				t.Errorf("%v; the session was only to lose its connections", near.Err())
			}
		})
	}
}

// TestReachLost: a partner whose session has lost its connections, and who had dialled it, is called while somebody waits.
// Who has waited too long is told that there was no session; who waits when it has its connections again is connected.
func TestReachLost(t *testing.T) {
	for _, resume := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var calls atomic.Int64
			east := Config{Reach: func(context.Context, string) error {
				calls.Add(1)
				return fault.New("reach", fault.Lost, "nobody answers")
			}}
			west := Config{Policy: []Allow{{Partner: "east", Relay: "*", Dial: []string{"tcp://10.0.0.5:80"}}}}
			w := join(t, west, east, false, flow.Config{ResumeTimeout: time.Minute})
			defer w.stop()
			for name, accept := range map[string]string{"socks": "socks5://127.0.0.1:1080", "r": "tcp://127.0.0.1:9000"} {
				r := Relay{Name: name, Partner: "west", Accept: mustAccept(t, accept), Resume: resume}
				if name == "r" {
					r.To = mustTo(t, "tcp://10.0.0.5:80")
				}
				if err := w.east.Add(r); err != nil {
					t.Fatal(err)
				}
			}
			w.line.cut(true)
			time.Sleep(time.Second)
			if n := calls.Load(); n > 0 {
				t.Errorf("%d calls, and nobody waits", n)
			}
			dial := func(address string) halfCloser {
				c, err := w.eastWorld.dial(t.Context(), "tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				return c.(halfCloser)
			}
			client := dial("127.0.0.1:1080")
			_, _ = io.WriteString(client, "\x05\x01\x00\x05\x01\x00\x01\x0a\x00\x00\x05\x00\x50")
			began, answer := time.Now(), make([]byte, 4)
			if _, err := io.ReadFull(client, answer); err != nil || string(answer) != "\x05\x00\x05\x01" {
				t.Errorf("resume %v: answer %q, %v", resume, answer, err)
			}
			if took := time.Since(began); took != 10*time.Second {
				t.Errorf("the answer took %v", took)
			}
			client.Close()
			synctest.Wait() // for the record
			if got := w.eastLog.with("msg=\"not relayed\"", "relay=socks", "kind=\"connection lost\"", "no session with west", "nobody answers"); len(got) != 1 {
				t.Errorf("records %q", w.eastLog.lines())
			}
			if n := calls.Load(); n < 3 || n > 100 {
				t.Errorf("resume %v: %d calls in 10 s", resume, n)
			}
			for _, s := range w.east.Stats()[:2] {
				if s.Session {
					t.Errorf("%s: there is a session", s.Name)
				}
			}
			l, err := w.westWorld.listen(t.Context(), "tcp", "10.0.0.5:80")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			waits := dial("127.0.0.1:9000")
			defer waits.Close()
			time.Sleep(time.Second)
			w.line.up()
			defer time.AfterFunc(20*time.Second, func() { l.Close() }).Stop()
			server, err := acceptHalf(l)
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			say(t, waits, server, "hello")
			if w.far.Err() != nil || w.far.Stats().Epoch < 2 {
				t.Errorf("%v, %d epochs; the session was to come back", w.far.Err(), w.far.Stats().Epoch)
			}
		})
	}
}

// TestGuestLost: a client of a listener that a partner has here, whose session has no connections, waits for nothing but them.
func TestGuestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Policy: []Allow{{Partner: "west", Relay: "*", Listen: []string{"tcp://127.0.0.1:9000"}}}}
		w := join(t, Config{}, cfg, false)
		defer w.stop()
		w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80", func(r *Relay) { r.At = There })
		synctest.Wait()
		w.line.cut(true)
		synctest.Wait()
		client, err := w.eastWorld.dial(t.Context(), "tcp", "127.0.0.1:9000")
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if !ended(client) {
			t.Error("the client was not sent away")
		}
		synctest.Wait() // for the record
		if got := w.eastLog.with("msg=\"not relayed\"", "kind=\"connection lost\"", "no session with west"); len(got) != 1 {
			t.Errorf("records %q", w.eastLog.lines())
		}
	})
}

// TestReachRedialled: while this end dials a lost session again by itself, the partner is not called besides; it is when that
// session is over.
func TestReachRedialled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		w := join(t, Config{Reach: func(context.Context, string) error {
			calls.Add(1)
			return fault.New("reach", fault.Lost, "nobody answers")
		}}, Config{}, false)
		defer w.stop()
		synctest.Wait() // both have the session
		w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80", func(r *Relay) { r.At = There })
		synctest.Wait()
		w.line.cut(true)
		time.Sleep(25 * time.Second)
		if n := calls.Load(); n != 0 || w.near.Err() != nil {
			t.Errorf("%d calls beside the session's own, %v", n, w.near.Err())
		}
		time.Sleep(time.Minute)
		if calls.Load() == 0 {
			t.Error("nobody was called after the session")
		}
	})
}
