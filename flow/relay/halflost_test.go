package relay

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow"
)

// TestHalfClosedLost: a connection of which one direction is closed ends at both ends with
// its session, and with the socket at the other end, though its own sockets are silent.
func TestHalfClosedLost(t *testing.T) {
	for _, how := range []string{"session", "limit", "reset"} {
		for _, first := range []string{"client", "server"} {
			t.Run(how+" "+first, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := join(t, Config{}, allowAll("tcp://10.0.0.5:80"), false, flow.Config{ResumeTimeout: 5 * time.Second})
					defer w.stop()
					w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80", func(r *Relay) {
						if r.Limits.Half = -1; how == "limit" {
							r.Limits.Life = time.Minute
						}
					})
					w.east.SetPolicy([]Allow{{Partner: "west", Relay: "*", Dial: []string{"tcp://10.0.0.5:80"}, Limits: Limits{Half: -1}}})
					client, server := w.through("127.0.0.1:9000", w.dest("10.0.0.5:80"))
					a, b := client, server
					if first == "server" {
						a, b = server, client
					}
					say(t, a, b, "question")
					a.CloseWrite()
					if got, err := io.ReadAll(b); err != nil || len(got) > 0 {
						t.Fatalf("%q, %v instead of the end", got, err)
					}
					switch how {
					case "session":
						w.line.cut(true)
						time.Sleep(time.Minute)
					case "limit":
						time.Sleep(2 * time.Minute)
					case "reset":
						for _, c := range w.west.open() {
							c.end(errStopping)
						}
						time.Sleep(2 * time.Second)
					}
					if n := len(w.west.Conns()) + len(w.east.Conns()); n > 0 {
						t.Errorf("%d connections are left", n)
					}
					if len(w.westAudit.with("msg=relayed", "cause=")) != 1 || len(w.eastLog.with("msg=relayed", "cause=")) != 1 {
						t.Errorf("records %q and %q", w.westAudit.lines(), w.eastLog.lines())
					}
				})
			})
		}
	}
}

// TestUnreadLost: a client that reads nothing does not keep a connection whose session is lost.
// What had come whole before that is there for it all the same.
func TestUnreadLost(t *testing.T) {
	for _, whole := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := join(t, Config{}, allowAll("tcp://10.0.0.5:80"), false, flow.Config{ResumeTimeout: 5 * time.Second})
			defer w.stop()
			w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80")
			client, server := w.through("127.0.0.1:9000", w.dest("10.0.0.5:80"))
			const size = 400 << 10 // more than the socket takes, and no more than that and the window
			if whole {
				server.Write(make([]byte, size))
				server.CloseWrite()
			} else {
				go server.Write(make([]byte, 32<<20))
			}
			synctest.Wait()
			w.line.cut(true)
			time.Sleep(time.Minute)
			if n := len(w.east.Conns()); n > 0 {
				t.Errorf("whole %v: %d connections at the exit", whole, n)
			}
			if n := len(w.west.Conns()); whole != (n == 1) {
				t.Errorf("whole %v: %d connections at the entry", whole, n)
			}
			if whole {
				if n, err := io.Copy(io.Discard, client); n != size || err != nil {
					t.Errorf("%d bytes of %d, %v", n, size, err)
				}
				time.Sleep(2 * time.Second)
			}
			if len(w.west.Conns()) > 0 || len(w.westAudit.with("msg=relayed", "connection lost")) != 1 {
				t.Errorf("whole %v: %d connections, records %q", whole, len(w.west.Conns()), w.westAudit.lines())
			}
		})
	}
}

// TestHandedOnLost: what has been written to a client's socket, with the end behind it, is there for a client that reads
// it slowly, though its session is lost before it has closed its own direction.
func TestHandedOnLost(t *testing.T) {
	server := listenAt(t, "127.0.0.1")
	to := "tcp://" + server.Addr().String()
	w := join(t, Config{}, allowAll(to), true)
	w.add("tcp://127.0.0.1:0", to)
	client := from(t, "127.0.0.1", w.bound(0))
	s := accept(t, server)
	const size = 1 << 20 // more than the client's own kernel takes before it reads
	var wg sync.WaitGroup
	wg.Go(func() {
		s.Write(make([]byte, size))
		s.(halfCloser).CloseWrite()
	})
	waitFor(t, func() bool {
		all := w.west.open()
		return len(all) == 1 && all[0].heard.Load()
	})
	wg.Wait()
	w.near.Close()
	waitFor(t, func() bool { return len(w.west.Conns()) == 0 })
	client.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := io.Copy(io.Discard, client); n != size || err != nil {
		t.Errorf("%d bytes of %d, %v", n, size, err)
	}
	if got := w.westAudit.with("msg=relayed", "cause="); len(got) != 1 {
		t.Errorf("%q", w.westAudit.lines())
	}
}
