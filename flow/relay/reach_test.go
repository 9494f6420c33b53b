package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

// TestReach: the partner is called while somebody waits for a session with it, with
// pauses, and not otherwise; who waited goes on with the session that comes, and who has
// waited too long is told why there was none.
func TestReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var calls []time.Time
		bring := func() error { return fault.New("reach", fault.Lost, "nobody answers") }
		count := func() int { mu.Lock(); defer mu.Unlock(); return len(calls) }
		west := Config{Reach: func(_ context.Context, partner string) error {
			if partner != "far" {
				t.Errorf("%q was called", partner)
			}
			mu.Lock()
			calls = append(calls, time.Now())
			do := bring
			mu.Unlock()
			return do()
		}}
		cfg := allowAll("tcp://10.0.0.5:80")
		w := join(t, west, cfg, false)
		defer w.stop()
		r := Relay{Name: "r", Partner: "far", Accept: mustAccept(t, "tcp://127.0.0.1:9000"), To: mustTo(t, "tcp://10.0.0.5:80")}
		if err := w.west.Add(r); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if count() != 0 {
			t.Fatalf("%d calls, and nobody waits", count())
		}
		if c := w.client("127.0.0.1:9000"); !ended(c) {
			t.Error("the client was not sent away")
		}
		synctest.Wait() // for the record
		if got := w.westAudit.with("msg=\"not relayed\"", "no session with far", "nobody answers"); len(got) != 1 {
			t.Errorf("records %q", w.westAudit.lines())
		}
		if got := w.westAudit.with("relays have no session with partner", "partner=far", "nobody answers"); len(got) != 1 {
			t.Errorf("records of the outage %q", got)
		}
		tries := count()
		if tries < 3 || tries > 100 {
			t.Errorf("%d calls in 10 s", tries)
		}
		time.Sleep(time.Hour)
		if n := count() - tries; n > 1 { // one may have been due when the client went
			t.Errorf("%d calls after nobody waited any more", n)
		}
		// the next client's wait brings a session
		l := w.dest("10.0.0.5:80")
		acceptor, err := flow.NewAcceptor(flow.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer acceptor.Close()
		mu.Lock()
		bring = func() error {
			near, err := flow.Connect(context.Background(), &line{a: acceptor}, flow.Config{})
			if err != nil {
				return err
			}
			far, err := acceptor.Accept(context.Background())
			if err != nil {
				return err
			}
			w.west.Attach("far", near)
			go w.east.Serve("west", far)
			return nil
		}
		mu.Unlock()
		client, server := w.through("127.0.0.1:9000", l)
		say(t, client, server, "hello")
		if s := w.west.Stats()[0]; !s.Session {
			t.Errorf("%+v", s)
		}
	})
}

// TestReachThere: a relay that the partner is to listen for has it called all the time, and
// says why it does not listen.
func TestReachThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		w := join(t, Config{Reach: func(context.Context, string) error { calls++; return fault.New("reach", fault.Lost, "nobody answers") }}, Config{}, false)
		r := Relay{Name: "r", Partner: "far", At: There, Accept: mustAccept(t, "tcp://127.0.0.1:9000"), To: mustTo(t, "tcp://10.0.0.5:80")}
		if err := w.west.Add(r); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		s := w.west.Stats()[0]
		w.stop()
		if calls < 20 || !strings.Contains(fmt.Sprint(s.Trouble), "no session") || !strings.Contains(fmt.Sprint(s.Trouble), "nobody answers") || s.Session {
			t.Errorf("%d calls in 10 min, %+v", calls, s)
		}
	})
}

// TestSetPolicy: what is not allowed any more is refused from then on, and its listeners
// close; what was let in, and what is as it was, goes on.
func TestSetPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listen := Allow{Partner: "west", Relay: "back", Listen: []string{"tcp://127.0.0.1:7000"}}
		kept := Allow{Partner: "west", Relay: "kept", Listen: []string{"tcp://127.0.0.1:7001"}}
		dial := Allow{Partner: "west", Relay: "r", Dial: []string{"tcp://10.0.0.5:80"}}
		w := join(t, Config{}, Config{Policy: []Allow{listen, kept, dial}}, false)
		defer w.stop()
		w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80")
		for i, name := range []string{"back", "kept"} {
			w.add("tcp://127.0.0.1:700"+string(rune('0'+i)), "tcp://10.9.9.9:1", func(r *Relay) { r.Name, r.At = name, There })
		}
		l := w.dest("10.0.0.5:80")
		client, server := w.through("127.0.0.1:9000", l)
		synctest.Wait()
		listens := func(address string) bool {
			w.eastWorld.mu.Lock()
			defer w.eastWorld.mu.Unlock()
			return w.eastWorld.serve[address] != nil
		}
		if !listens("127.0.0.1:7000") || !listens("127.0.0.1:7001") {
			t.Fatal("the listeners are not there")
		}
		if err := w.east.SetPolicy([]Allow{{Partner: "west", Relay: "*", Dial: []string{"nonsense"}}}); !errors.Is(err, fault.Invalid) {
			t.Errorf("nonsense: %v", err)
		}
		before := w.east.Stats()
		if err := w.east.SetPolicy([]Allow{kept}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
		if listens("127.0.0.1:7000") || !listens("127.0.0.1:7001") {
			t.Errorf("7000 is listened at: %v, 7001: %v", listens("127.0.0.1:7000"), listens("127.0.0.1:7001"))
		}
		say(t, client, server, "still there")
		if again := w.client("127.0.0.1:9000"); !ended(again) {
			t.Error("what is not allowed any more was relayed")
		}
		if err := w.east.SetPolicy([]Allow{kept, dial, listen}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // the owner asks again by itself
		if !listens("127.0.0.1:7000") {
			t.Error("what is allowed again is not listened at")
		}
		if now := w.east.Stats(); now[0].Name != before[1].Name || now[0].Opened != before[1].Opened {
			t.Errorf("counters %+v, before %+v", now[0], before[1])
		}
		again, _ := w.through("127.0.0.1:9000", l)
		again.Close()
	})
}

// TestDetach: nothing of a partner goes on over a session whose other end is that
// partner no more, and nothing new begins.
func TestDetach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := allowAll("tcp://10.0.0.5:80", "udp://10.0.0.5:53")
		cfg.Policy[0].Listen = []string{"tcp://127.0.0.1:7000"}
		w := join(t, Config{}, cfg, false)
		defer w.stop()
		w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80")
		w.add("tcp://127.0.0.1:7000", "tcp://10.9.9.9:1", func(r *Relay) { r.Name, r.At = "back", There })
		w.add("udp://127.0.0.1:9053", "udp://10.0.0.5:53", func(r *Relay) { r.Name = "dns" })
		client, _ := w.through("127.0.0.1:9000", w.dest("10.0.0.5:80"))
		from, _ := w.westWorld.dial(context.Background(), "udp", "127.0.0.1:9053")
		_, _ = from.Write([]byte("question"))
		time.Sleep(time.Second)
		w.east.Detach("west", w.far)
		time.Sleep(100 * time.Millisecond)
		if got := w.westAudit.with("msg=relayed", "relay=r", "no partner of this node"); len(got) != 1 || !ended(client) {
			t.Errorf("the connection goes on, or ended in order: %q", w.westAudit.lines())
		}
		w.eastWorld.mu.Lock()
		listens := w.eastWorld.serve["127.0.0.1:7000"] != nil
		w.eastWorld.mu.Unlock()
		if listens || len(w.east.Conns()) > 0 {
			t.Errorf("listens %v, %d connections", listens, len(w.east.Conns()))
		}
		if got := w.eastLog.with("datagrams relayed", "no partner of this node"); len(got) == 0 {
			t.Errorf("the datagrams go on: %q", w.eastLog.lines())
		}
	})
}

// TestTry: each step says what is so, at the end where it is.
func TestTry(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy Allow
		at     Place
		down   bool
		none   bool // there is nothing at the destination
		want   string
	}{
		{"all well", Allow{Dial: []string{"tcp://10.0.0.5:80"}}, Here, false, false, "session+ listener+ consent+ destination+"},
		{"nobody", Allow{}, Here, true, false, "session-lost"},
		{"not allowed", Allow{}, Here, false, false, "session+ listener+ consent-permission denied"},
		{"nothing there", Allow{Dial: []string{"tcp://10.0.0.5:80"}}, Here, false, true, "session+ listener+ consent+ destination-refused"},
		{"there", Allow{Listen: []string{"tcp://127.0.0.1:9000"}}, There, false, false, "session+ consent+ destination+"},
		{"there, not allowed", Allow{}, There, false, false, "session+ consent-permission denied"},
		{"there, nothing there", Allow{Listen: []string{"tcp://127.0.0.1:9000"}}, There, false, true, "session+ consent+ destination-refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc.policy.Partner, tc.policy.Relay = "west", "*"
				w := join(t, Config{}, Config{Policy: []Allow{tc.policy}}, false)
				defer w.stop()
				w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80", func(r *Relay) {
					r.At = tc.at
					if tc.down {
						r.Partner = "nobody"
					}
				})
				world := w.eastWorld
				if tc.at == There {
					world = w.westWorld
				}
				if !tc.none {
					l, _ := world.listen(context.Background(), "tcp", "10.0.0.5:80")
					go func() {
						for {
							c, err := l.Accept()
							if err != nil {
								return
							}
							go func() { io.Copy(io.Discard, c); c.Close() }()
						}
					}()
					defer l.Close()
				}
				synctest.Wait()
				steps, err := w.west.Try(context.Background(), "r", Endpoint{})
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, s := range steps {
					if s.Err == nil {
						got = append(got, s.Name+"+")
					} else {
						got = append(got, s.Name+"-"+strings.Replace(fault.KindOf(s.Err).String(), "connection ", "", 1))
					}
				}
				if all := strings.Join(got, " "); all != tc.want {
					t.Errorf("steps %s, want %s: %+v", all, tc.want, steps)
				}
			})
		})
	}
}

// TestDetachWhileConnecting: what a partner had begun when it ceased to be one does not come
// about, however long it has taken care that connecting lasts; nor does what this node had
// asked of it.
func TestDetachWhileConnecting(t *testing.T) {
	for _, end := range []string{"exit", "entry"} {
		t.Run(end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := join(t, Config{}, allowAll("tcp://127.0.0.1:80"), false)
				defer w.stop()
				w.add("tcp://127.0.0.1:9000", "tcp://127.0.0.1:80")
				l := w.dest("127.0.0.1:80")
				defer l.Close()
				client := w.client("127.0.0.1:9000")
				synctest.Wait() // now the exit connects, and nobody accepts
				if end == "exit" {
					w.east.Detach("west", w.far)
				} else {
					w.west.Detach("east", w.near)
				}
				go func() {
					if s, err := l.Accept(); err == nil {
						defer s.Close()
						_, _ = io.Copy(io.Discard, s)
					}
				}()
				time.Sleep(sweepEvery)
				synctest.Wait()
				if n := len(w.east.Conns()) + len(w.west.Conns()); n != 0 {
					t.Errorf("%d ends of connections", n)
				} else if !ended(client) {
					t.Error("the client has a connection")
				}
			})
		})
	}
}
