package relay

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow"
)

// TestResume: connections of a relay with Resume carry everything over a session
// that loses its connections all the time, half-closed ones too, whichever end
// listens; and they end with the session.
func TestResume(t *testing.T) {
	for _, at := range []Place{Here, There} {
		t.Run(at.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				policy := allowAll("tcp://127.0.0.1:80")
				policy.Policy[0].Listen = []string{"tcp://127.0.0.1:9000"}
				w := join(t, Config{}, policy, false)
				defer w.stop()
				w.add("tcp://127.0.0.1:9000", "tcp://127.0.0.1:80", func(r *Relay) { r.At, r.Resume = at, true })
				synctest.Wait()
				entry, exit := w.westWorld, w.eastWorld
				if at == There {
					entry, exit = exit, entry
				}
				l, err := exit.listen(t.Context(), "tcp", "127.0.0.1:80")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				open := func() (client, server halfCloser) {
					c, err := entry.dial(t.Context(), "tcp", "127.0.0.1:9000")
					if err != nil {
						t.Fatal(err)
					}
					s, err := acceptHalf(l)
					if err != nil {
						t.Fatal(err)
					}
					return c.(halfCloser), s
				}
				up, down := make([]byte, 3<<20), make([]byte, 2<<20)
				for i := range up {
					up[i] = byte(i * i >> 8)
				}
				for i := range down {
					down[i] = byte(i * 7 >> 9)
				}
				client, server := open()
				idle, itsServer := open()
				var wg sync.WaitGroup
				over := make(chan struct{})
				wg.Go(func() {
					for {
						select {
						case <-over:
							return
						case <-time.After(30 * time.Millisecond):
							w.line.cut(false)
						}
					}
				})
				var talk sync.WaitGroup
				for _, e := range []struct {
					c          halfCloser
					send, want []byte
				}{{client, up, down}, {server, down, up}} {
					talk.Go(func() {
						for rest := e.send; len(rest) > 0; time.Sleep(time.Millisecond) {
							n, err := e.c.Write(rest[:min(len(rest), 20_000)])
							if err != nil {
								t.Error(err)
								return
							}
							rest = rest[n:]
						}
						if err := e.c.CloseWrite(); err != nil {
							t.Error(err)
						}
					})
					talk.Go(func() {
						got, err := io.ReadAll(e.c)
						if err != nil || !bytes.Equal(got, e.want) {
							t.Errorf("%d bytes of %d, %v", len(got), len(e.want), err)
						}
					})
				}
				talk.Wait()
				close(over)
				wg.Wait()
				if n := w.near.Stats().Epoch; n < 3 {
					t.Errorf("%d epochs: nothing was tested", n)
				}
				say(t, idle, itsServer, "still here")
				w.line.cut(true)
				time.Sleep(10 * time.Second)
				go func() { time.Sleep(5 * time.Second); w.line.up() }()
				say(t, itsServer, idle, "and after a while")
				w.line.cut(true)
				if !ended(idle) || !ended(itsServer) {
					t.Error("a connection has survived its session")
				}
				synctest.Wait()
				for _, log := range []*records{w.westAudit, w.eastLog} {
					if len(log.with("msg=relayed")) != 2 || len(log.with("msg=relayed", "connection lost")) != 1 {
						t.Errorf("records %q", log.lines())
					}
				}
			})
		})
	}
}

// TestResumeOfReal is the same with sockets of the system, as their bytes take
// another way through a stream.
func TestResumeOfReal(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.(*net.TCPConn).CloseWrite()
				_ = c.Close()
			}()
		}
	}()
	to := "tcp://" + l.Addr().String()
	w := join(t, Config{}, allowAll(to), true, flow.Config{})
	w.add("tcp://127.0.0.1:0", to, func(r *Relay) { r.Resume = true })
	c, err := net.Dial("tcp", w.bound(0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := make([]byte, 64<<20)
	for i := range want {
		want[i] = byte(i * i >> 10)
	}
	var wg sync.WaitGroup
	over := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(20 * time.Millisecond):
				w.line.cut(false)
			}
		}
	})
	wg.Go(func() {
		for rest := want; len(rest) > 0; time.Sleep(time.Millisecond) { // so that there are cuts in between
			n, err := c.Write(rest[:min(len(rest), 1<<19)])
			if err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
		_ = c.(*net.TCPConn).CloseWrite()
	})
	got, err := io.ReadAll(c)
	close(over)
	wg.Wait()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d came back, %v", len(got), len(want), err)
	}
	if n := w.near.Stats().Epoch; n < 3 {
		t.Errorf("%d epochs: nothing was tested", n)
	}
}
