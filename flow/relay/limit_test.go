package relay

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// limited are the four that may have limits: a relay and a policy, each with its node as
// entry or as exit.
var limited = map[string]func(*Relay, *Allow) *Limits{
	"relay here":    func(r *Relay, _ *Allow) *Limits { r.At = Here; return &r.Limits },
	"relay there":   func(r *Relay, _ *Allow) *Limits { r.At = There; return &r.Limits },
	"policy dial":   func(r *Relay, a *Allow) *Limits { r.At = Here; return &a.Limits },
	"policy listen": func(r *Relay, a *Allow) *Limits { r.At = There; return &a.Limits },
}

// TestLimits: each limit ends or refuses a connection, whoever of the four has it, with a
// reason in the record.
func TestLimits(t *testing.T) {
	for _, tc := range []struct {
		name   string
		limits Limits
		do     func(t *testing.T, w *two, client, server halfCloser)
		reason string
	}{
		{"life", Limits{Life: time.Minute}, func(t *testing.T, _ *two, client, server halfCloser) {
			for range 55 {
				time.Sleep(time.Second)
				say(t, client, server, "x")
			}
			time.Sleep(6 * time.Second)
			if !ended(client) || !ended(server) {
				t.Error("it lives on")
			}
		}, "lasts at most 1m0s"},
		{"idle", Limits{Idle: time.Minute}, func(t *testing.T, _ *two, client, server halfCloser) {
			time.Sleep(50 * time.Second)
			say(t, server, client, "x")
			time.Sleep(50 * time.Second)
			say(t, client, server, "x")
			time.Sleep(62 * time.Second)
			if !ended(client) || !ended(server) {
				t.Error("it lives on")
			}
		}, "nothing was sent for 1m0s"},
		{"half", Limits{Half: time.Minute}, func(t *testing.T, _ *two, client, server halfCloser) {
			time.Sleep(time.Hour)
			client.CloseWrite()
			time.Sleep(50 * time.Second)
			say(t, server, client, "x")
			time.Sleep(62 * time.Second)
			if !ended(client) {
				t.Error("it lives on")
			}
		}, "one direction is closed"},
		{"bytes", Limits{Bytes: 1000}, func(t *testing.T, _ *two, client, server halfCloser) {
			go client.Write(make([]byte, 1001))
			if n, _ := io.Copy(io.Discard, server); n > 1000 {
				t.Errorf("%d bytes", n)
			}
		}, "quota exceeded"},
		{"bytes back", Limits{Bytes: 1000}, func(t *testing.T, _ *two, client, server halfCloser) {
			go server.Write(make([]byte, 1001))
			if n, _ := io.Copy(io.Discard, client); n > 1000 {
				t.Errorf("%d bytes", n)
			}
		}, "quota exceeded"},
		{"conns", Limits{Conns: 1}, func(t *testing.T, w *two, client, server halfCloser) {
			if !ended(w.client("127.0.0.1:9000")) {
				t.Error("a second one")
			}
			say(t, client, server, "x")
		}, "1 connections are open"},
		{"opens", Limits{Opens: 1}, func(t *testing.T, w *two, client, server halfCloser) {
			if !ended(w.client("127.0.0.1:9000")) {
				t.Error("a second one in a second")
			}
			say(t, client, server, "x")
		}, "over 1 connections a second"},
	} {
		for who, of := range limited {
			t.Run(tc.name+" "+who, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := allowAll("tcp://10.0.0.5:80")
					cfg.Policy[0].Listen = []string{"tcp://127.0.0.1:9000"}
					r := Relay{Name: "r", Partner: "east", Accept: mustAccept(t, "tcp://127.0.0.1:9000"), To: mustTo(t, "tcp://10.0.0.5:80")}
					*of(&r, &cfg.Policy[0]) = tc.limits
					w := join(t, Config{}, cfg, false)
					defer w.stop()
					if err := w.west.Add(r); err != nil {
						t.Fatal(err)
					}
					synctest.Wait() // the partner listens
					if r.At == There {
						w.westWorld, w.eastWorld = w.eastWorld, w.westWorld
					}
					client, server := w.through("127.0.0.1:9000", w.dest("10.0.0.5:80"))
					for _, c := range []halfCloser{client, server} { // so that a limit that is none fails
						_ = c.SetDeadline(time.Now().Add(24 * time.Hour))
					}
					tc.do(t, w, client, server)
					time.Sleep(1100 * time.Millisecond) // one that is half closed is looked at
					logs := []*records{w.westAudit, w.eastLog}
					switch entryOnly := tc.name == "conns" || tc.name == "opens"; {
					case entryOnly && who == "relay here": // and the other end was never asked
						logs = logs[:1]
					case entryOnly && who == "policy listen":
						logs = logs[1:]
					}
					for _, log := range logs {
						if len(log.with("relayed", tc.reason)) != 1 { // of either message
							t.Errorf("records %q, want %q", log.lines(), tc.reason)
						}
					}
				})
			})
		}
	}
}

// TestRate: bytes come no faster than allowed, and all of them.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("tcp://10.0.0.5:80"), false)
		defer w.stop()
		w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80", func(r *Relay) { r.Limits.Rate = 1 << 20 })
		client, server := w.through("127.0.0.1:9000", w.dest("10.0.0.5:80"))
		began := time.Now()
		go func() { client.Write(make([]byte, 11<<20)); client.CloseWrite() }()
		if n, err := io.Copy(io.Discard, server); n != 11<<20 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if d := time.Since(began); d < 10*time.Second || d > 12*time.Second {
			t.Errorf("11 MiB at 1 MiB a second, 1 MiB at once, in %v", d)
		}
	})
}

// TestFrom: only clients of the listed addresses are let in.
func TestFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("tcp://10.0.0.5:80"), false)
		defer w.stop()
		w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80", func(r *Relay) { r.From = []netip.Prefix{netip.MustParsePrefix("192.0.3.0/24")} })
		if !ended(w.client("127.0.0.1:9000")) {
			t.Error("let in")
		}
		synctest.Wait()
		if len(w.westAudit.with("not relayed", "not let in")) != 1 {
			t.Errorf("%q", w.westAudit.lines())
		}
	})
}

// TestFloodOfOpens: a partner that opens without end to a destination that does
// not answer is refused, and the session and other relays go on.
func TestFloodOfOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const flood = maxDialing + 500
		w := join(t, Config{}, allowAll("tcp://10.0.0.5:80", "tcp://10.0.0.6:80"), false, flow.Config{MaxStreams: 2 * flood})
		defer w.stop()
		w.dest("10.0.0.5:80") // never accepts, so connecting takes until the time limit
		meta, err := wire.AppendMeta(nil, &connAsk{Relay: "x", To: "tcp://10.0.0.5:80"})
		if err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, flood)
		for range flood {
			go func() {
				_, err := w.near.OpenBytes(t.Context(), flow.Open{Kind: KindConn, Meta: meta})
				errs <- err
			}()
		}
		synctest.Wait()
		refused := len(errs)
		if refused != flood-maxDialing {
			t.Errorf("%d of %d were refused at once; %d may be connected at a time", refused, flood, maxDialing)
		}
		w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.6:80")
		time.Sleep(10 * time.Second) // those that were tried have failed by now
		client, server := w.through("127.0.0.1:9000", w.dest("10.0.0.6:80"))
		say(t, client, server, "hello")
		for range flood {
			if k := fault.KindOf(<-errs); k != fault.Overloaded && k != fault.Deadline {
				t.Fatal(k)
			}
		}
		if s := w.east.Stats()[0]; s.Open != 1 || s.Refused != flood {
			t.Errorf("%+v", s)
		}
	})
}

// TestPeerNeverReads: a partner that gives no credit holds up one connection,
// whose socket is then not read, and not this node.
func TestPeerNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("tcp://10.0.0.5:80"), false)
		defer w.stop()
		l := w.dest("10.0.0.5:80")
		meta, _ := wire.AppendMeta(nil, &connAsk{Relay: "x", To: "tcp://10.0.0.5:80"})
		open := func() (*flow.ByteStream, halfCloser) {
			type made struct {
				st  *flow.ByteStream
				err error
			}
			c := make(chan made, 1)
			go func() {
				st, err := w.near.OpenBytes(t.Context(), flow.Open{Kind: KindConn, Meta: meta})
				c <- made{st, err}
			}()
			server, err := acceptHalf(l)
			m := <-c
			if err = errors.Join(err, m.err); err != nil {
				t.Fatal(err)
			}
			return m.st, server
		}
		stalled, server := open()
		wrote := make(chan int, 1)
		go func() {
			n, _ := server.Write(make([]byte, 32<<20))
			wrote <- n
		}()
		synctest.Wait()
		if c := w.east.Conns(); len(c) != 1 || c[0].ToPeer > 256<<10 {
			t.Errorf("%+v; the stream's window is 256 KiB", c)
		}
		st, s := open()
		say(t, st, s, "to the server")
		say(t, s, st, "and back")
		stalled.Close()
		if n := <-wrote; n > 2<<20 {
			t.Errorf("%d bytes were taken for a peer that reads none", n)
		}
		st.Close()
		s.Close()
		server.Close()
	})
}

// TestDrain: nothing new, what is open goes on until the time is over.
func TestDrain(t *testing.T) {
	for _, polite := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := join(t, Config{}, allowAll("tcp://10.0.0.5:80"), false)
			defer w.stop()
			w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80")
			client, server := w.through("127.0.0.1:9000", w.dest("10.0.0.5:80"))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			synctest.Wait() // what is only being opened is not open
			drained := make(chan error, 1)
			go func() { drained <- w.west.Drain(ctx) }()
			synctest.Wait()
			if _, err := w.westWorld.dial(ctx, "tcp", "127.0.0.1:9000"); err == nil {
				t.Error("it still listens")
			}
			say(t, client, server, "goes on")
			if polite {
				client.CloseWrite()
				server.CloseWrite()
				if err := <-drained; err != nil {
					t.Error(err)
				}
				return
			}
			if err := <-drained; fault.KindOf(err) != fault.Deadline || !ended(client) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestHostileMeta: bytes that are no ask are refused, one stream at a time.
func TestHostileMeta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("tcp://*:*", `exec:["/bin/true"]`), false)
		defer w.stop()
		long := make([]byte, 5000)
		good, _ := wire.AppendMeta(nil, &connAsk{Relay: "x", To: "tcp://10.0.0.5:80"})
		ask := func(a connAsk) []byte { b, _ := wire.AppendMeta(nil, &a); return b }
		for i, meta := range [][]byte{
			nil, {0xdd, 0xff, 0xff, 0xff, 0xf0}, good[:len(good)-1], append(good, 0),
			ask(connAsk{To: "tcp://10.0.0.5:80"}), ask(connAsk{Relay: "x", To: string(long)}), ask(connAsk{Relay: "x", To: "tcp://10.0.0.5:{port}"}),
			ask(connAsk{Relay: "x", To: "tcp://10.0.0.5:1-9"}), ask(connAsk{Relay: "x", To: "udp://10.0.0.5:1"}), ask(connAsk{Relay: "x", To: "exec:[]"}),
			ask(connAsk{Relay: "\xff", To: "tcp://10.0.0.5:80"}), ask(connAsk{Relay: "x", To: "tcp://\x00:80"}), ask(connAsk{Relay: "x"}), ask(connAsk{Relay: "a\nb", To: "tcp://10.0.0.5:80"}), ask(connAsk{Relay: "x", To: "tcp://10.0.0.5:80", From: "a\x00b"}),
		} {
			for _, kind := range []string{KindConn, KindUDP, KindListen, "relay.other"} {
				_, err := w.near.OpenBytes(t.Context(), flow.Open{Kind: kind, Meta: meta})
				var f *fault.Error
				if !errors.As(err, &f) || f.Side != fault.Peer || kind == KindConn && f.Kind == fault.Internal {
					if kind == KindUDP && i == 8 {
						continue // that is one
					}
					t.Errorf("%d, %s: %v", i, kind, err)
				}
			}
		}
		if w.near.Err() != nil || len(w.eastWorld.dialled) > 0 {
			t.Error("the session is over, or something was connected to", w.near.Err(), w.eastWorld.dialled)
		}
	})
}
