package relay

import (
	"bytes"
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow"
)

// sockets of a world.
func (w *two) udpClient(n byte) net.PacketConn {
	p, _ := w.westWorld.listenPacket(context.Background(), "udp", "192.0.2."+string('0'+n)+":500")
	w.t.Cleanup(func() { p.Close() })
	return p
}

func (w *two) udpServer(address string) net.PacketConn {
	p, _ := w.eastWorld.listenPacket(context.Background(), "udp", address)
	w.t.Cleanup(func() { p.Close() })
	return p
}

// waiting is what a socket has got and nobody has read.
func waiting(p net.PacketConn) (all [][]byte) {
	synctest.Wait()
	for {
		select {
		case d := <-p.(*memPackets).in:
			all = append(all, d.data)
		default:
			return all
		}
	}
}

func (w *two) udpRelay(change func(*Relay)) {
	w.add("udp://127.0.0.1:9000", "udp://10.0.0.5:53", func(r *Relay) {
		if change != nil {
			change(r)
		}
	})
}

const udpAt = memAddr("127.0.0.1:9000")

// TestUDPIdle: a source that is silent is forgotten at both ends, and comes back as
// a new one.
func TestUDPIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("udp://10.0.0.5:53"), false)
		defer w.stop()
		w.udpRelay(func(r *Relay) { r.Limits.Idle = 20 * time.Second })
		server, client := w.udpServer("10.0.0.5:53"), w.udpClient(1)
		port := func() string {
			client.WriteTo([]byte("ping"), udpAt)
			buf := make([]byte, 10)
			n, from, err := server.ReadFrom(buf)
			if err != nil || string(buf[:n]) != "ping" {
				t.Fatalf("%q, %v", buf[:n], err)
			}
			server.WriteTo([]byte("pong"), from)
			if got := waiting(client); len(got) != 1 || string(got[0]) != "pong" {
				t.Fatalf("%q", got)
			}
			return from.String()
		}
		first := port()
		time.Sleep(15 * time.Second)
		if second := port(); second != first {
			t.Errorf("%s became %s before it was idle", first, second)
		}
		time.Sleep(30 * time.Second)
		if w.west.Stats()[0].Open != 0 || w.east.Stats()[0].Open != 0 {
			t.Errorf("%+v and %+v", w.west.Stats()[0], w.east.Stats()[0])
		}
		if third := port(); third == first {
			t.Error("the old socket is still in use")
		}
	})
}

// TestUDPAmplification: a source whose address may be forged is sent no more than
// three times what came from it, until it answers.
func TestUDPAmplification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("udp://10.0.0.5:53"), false)
		defer w.stop()
		w.udpRelay(nil)
		server, client := w.udpServer("10.0.0.5:53"), w.udpClient(1)
		ask := func() net.Addr {
			client.WriteTo(make([]byte, 100), udpAt)
			_, from, err := server.ReadFrom(make([]byte, 200))
			if err != nil {
				t.Fatal(err)
			}
			return from
		}
		from := ask()
		server.WriteTo(make([]byte, 301), from)
		if got := waiting(client); len(got) > 0 {
			t.Errorf("%d bytes for 100", len(got[0]))
		}
		server.WriteTo(make([]byte, 200), from)
		server.WriteTo(make([]byte, 101), from)
		server.WriteTo(make([]byte, 100), from)
		if got := waiting(client); len(got) != 2 || len(got[1]) != 100 {
			t.Errorf("%d datagrams", len(got))
		}
		if d := w.west.Stats()[0].Dropped; d != 2 {
			t.Errorf("%d dropped", d)
		}
		from = ask() // it has heard us
		server.WriteTo(make([]byte, 60000), from)
		if got := waiting(client); len(got) != 1 || len(got[0]) != 60000 {
			t.Errorf("%d datagrams", len(got))
		}
	})
}

// TestUDPSources: beyond the limit the source that was silent longest gives way.
func TestUDPSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("udp://10.0.0.5:53"), false)
		defer w.stop()
		w.udpRelay(func(r *Relay) { r.Limits.Sources = 2 })
		server := w.udpServer("10.0.0.5:53")
		from := map[byte]net.Addr{}
		for n := range byte(3) {
			w.udpClient(n).WriteTo([]byte{n}, udpAt)
			buf := make([]byte, 1)
			_, addr, err := server.ReadFrom(buf)
			if err != nil {
				t.Fatal(err)
			}
			from[buf[0]] = addr
			time.Sleep(time.Second)
		}
		if n := w.west.Stats()[0].Open; n != 2 {
			t.Errorf("%d sources", n)
		}
		if _, there := w.eastWorld.packets[from[0].String()]; there {
			t.Error("the socket of the first is still open")
		}
	})
}

// TestUDPSessionLost: after the session has come back, datagrams pass again.
func TestUDPSessionLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("udp://10.0.0.5:53"), false, flow.Config{ResumeTimeout: time.Hour})
		defer w.stop()
		w.udpRelay(nil)
		server, client := w.udpServer("10.0.0.5:53"), w.udpClient(1)
		client.WriteTo([]byte("before"), udpAt)
		synctest.Wait()
		w.line.cut(true)
		for range 30 {
			client.WriteTo([]byte("meanwhile"), udpAt)
			time.Sleep(time.Second)
		}
		w.line.up()
		time.Sleep(10 * time.Second)
		client.WriteTo([]byte("after"), udpAt)
		got := waiting(server)
		if len(got) < 2 || !bytes.Equal(got[0], []byte("before")) || !bytes.Equal(got[len(got)-1], []byte("after")) {
			t.Errorf("%q", got)
		}
		if w.west.Stats()[0].Open != 1 {
			t.Errorf("%+v", w.west.Stats()[0])
		}
	})
}

// TestUDPQueueIsBounded: what a session does not take is dropped; one source leaves
// room for others.
func TestUDPQueueIsBounded(t *testing.T) {
	q := newQueue(newUsage(Limits{}.withDefaults()))
	n := 0
	for q.send(1, &tally{use: q.use}, make([]byte, 1000)) {
		n++
	}
	if n != maxQueuedSource/1000 {
		t.Errorf("%d datagrams of one source", n)
	}
	if !q.send(2, &tally{use: q.use}, make([]byte, 1000)) {
		t.Error("one source has left no room for another")
	}
	for s := range uint32(100) {
		for q.send(s+3, &tally{use: q.use}, make([]byte, 60000)) {
		}
	}
	if len(q.pending) > maxQueued+100<<10 {
		t.Errorf("%d bytes wait", len(q.pending))
	}
	if !q.put(gone, 1, nil) {
		t.Error("an end has no room")
	}
	for s := range uint32(10 << 20) { // of sources that come and are refused, at somebody who takes nothing
		if !q.put(gone, s, nil) {
			break
		}
	}
	if len(q.of) > 200 {
		t.Errorf("%d sources are remembered", len(q.of))
	}
	if q.put(gone, 1, nil) || cap(q.pending) > 0 {
		t.Error("ends have room without bound")
	}
}

// TestDatagramReaderLetsGo: while a datagram is used the socket can be closed, as it is by whoever
// has the lock that its user waits for.
func TestDatagramReaderLetsGo(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	c, err := net.Dial("udp", server.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := server.WriteTo([]byte("hello"), c.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	done := make(chan string, 1)
	go func() {
		var got string
		if err := datagramReader(c)(func(p []byte) { c.Close(); got = string(p) }); err != nil {
			got = err.Error()
		}
		done <- got
	}()
	select {
	case got := <-done:
		if got != "hello" {
			t.Errorf("%q", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the socket cannot be closed while a datagram of it is used")
	}
}

// TestUDPLimits: a source of datagrams is held to the limits of one connection, whoever of the four has them: it is
// forgotten at both ends, with a reason in the record, and what it sends next is of a new one.
func TestUDPLimits(t *testing.T) {
	for _, tc := range []struct {
		name   string
		limits Limits
		do     func(t *testing.T, ask func(n int) (port string, answered int))
		reason string // "": the source goes on
	}{
		{"bytes", Limits{Bytes: 1000}, func(t *testing.T, ask func(int) (string, int)) {
			first, _ := ask(600)
			if port, _ := ask(400); port != first {
				t.Errorf("%s became %s within the limit", first, port)
			}
			if port, _ := ask(1); port != "" {
				t.Error("1001 bytes have passed")
			}
			if port, _ := ask(1); port == first || port == "" {
				t.Errorf("the next source is %q after %q", port, first)
			}
		}, "quota exceeded"},
		{"bytes back", Limits{Bytes: 1000}, func(t *testing.T, ask func(int) (string, int)) {
			first, n := ask(-600)
			if _, more := ask(-401); n != 600 || more != 0 {
				t.Errorf("%d and %d bytes were answered; 1000 may be", n, more)
			}
			if port, n := ask(-400); port == first || n != 400 {
				t.Errorf("the next source is %q after %q and had %d bytes", port, first, n)
			}
		}, "quota exceeded"},
		{"life", Limits{Life: time.Minute}, func(t *testing.T, ask func(int) (string, int)) {
			first, _ := ask(1)
			for range 55 {
				time.Sleep(time.Second)
				if port, _ := ask(1); port != first {
					t.Fatalf("%s became %s before its time", first, port)
				}
			}
			time.Sleep(7 * time.Second)
			if port, _ := ask(1); port == first || port == "" {
				t.Errorf("the next source is %q after %q", port, first)
			}
		}, "lasts at most 1m0s"},
		{"rate", Limits{Rate: 64 << 10}, func(t *testing.T, ask func(int) (string, int)) {
			first, _ := ask(60 << 10)
			if port, _ := ask(60 << 10); port != "" {
				t.Error("120 KiB at once")
			}
			time.Sleep(time.Second)
			if port, _ := ask(60 << 10); port != first {
				t.Errorf("%s became %q", first, port)
			}
		}, ""},
		{"rate back", Limits{Rate: 64 << 10}, func(t *testing.T, ask func(int) (string, int)) {
			_, n := ask(-60 << 10)
			if _, more := ask(-60 << 10); n != 60<<10 || more != 0 {
				t.Errorf("%d and %d bytes at once", n, more)
			}
			time.Sleep(time.Second)
			if _, n := ask(-60 << 10); n != 60<<10 {
				t.Errorf("%d bytes a second later", n)
			}
		}, ""},
	} {
		for who, of := range limited {
			t.Run(tc.name+" "+who, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := allowAll("udp://10.0.0.5:53")
					cfg.Policy[0].Listen = []string{"udp://127.0.0.1:9000"}
					r := Relay{Name: "r", Partner: "east", Accept: mustAccept(t, "udp://127.0.0.1:9000"), To: mustTo(t, "udp://10.0.0.5:53")}
					limits := of(&r, &cfg.Policy[0])
					*limits = tc.limits
					r.Limits.Amplify, cfg.Policy[0].Limits.Amplify = -1, -1
					w := join(t, Config{}, cfg, false)
					defer w.stop()
					if err := w.west.Add(r); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					if r.At == There {
						w.westWorld, w.eastWorld = w.eastWorld, w.westWorld
					}
					server, client := w.udpServer("10.0.0.5:53"), w.udpClient(1)
					ask := func(n int) (port string, answered int) { // n bytes, or one that is answered with -n
						_, _ = client.WriteTo(make([]byte, max(n, 1)), udpAt)
						synctest.Wait()
						select {
						case d := <-server.(*memPackets).in:
							port = d.from
						default:
							return "", 0
						}
						if n < 0 {
							_, _ = server.WriteTo(make([]byte, -n), memAddr(port))
						}
						for _, d := range waiting(client) {
							answered += len(d)
						}
						return port, answered
					}
					tc.do(t, ask)
					logs := map[bool]*records{false: w.westAudit, true: w.eastLog}
					if got := logs[limits == &cfg.Policy[0].Limits].with("msg=relayed", "cause", tc.reason); tc.reason != "" && len(got) != 1 || tc.reason == "" && len(got) > 0 {
						t.Errorf("records %q, want %q", got, tc.reason)
					}
					synctest.Wait()
					if a, b := w.west.Stats()[0], w.east.Stats()[0]; a.Open > 1 || b.Open > 1 || a.Failed+b.Failed != int64(len(tc.reason[:min(1, len(tc.reason))])) {
						t.Errorf("%+v and %+v", a, b)
					}
				})
			})
		}
	}
}

// TestUDPAnsweredIsBounded: a source that has answered is sent more, and not without end: what came from it counts for a
// while, and what others send to it does not keep that.
func TestUDPAnsweredIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("udp://10.0.0.5:53"), false)
		defer w.stop()
		w.udpRelay(nil)
		server, client := w.udpServer("10.0.0.5:53"), w.udpClient(1)
		ask := func() (from net.Addr) {
			_, _ = client.WriteTo(make([]byte, 50), udpAt)
			synctest.Wait()
			_, from, err := server.ReadFrom(make([]byte, 100))
			if err != nil {
				t.Fatal(err)
			}
			return from
		}
		got := func(from net.Addr, n, times int) (bytes int) {
			for range times {
				_, _ = server.WriteTo(make([]byte, n), from)
				for _, d := range waiting(client) {
					bytes += len(d)
				}
			}
			return bytes
		}
		from := ask()
		if n := got(from, 100, 2); n != 100 {
			t.Errorf("%d bytes for 50 that may be forged", n)
		}
		if ask() != from {
			t.Fatal("another source")
		}
		if n := got(from, 50000, 3); n != 50000 { // 1000 times 100 bytes, 100 of which it has had
			t.Errorf("%d bytes for 100", n)
		}
		time.Sleep(time.Minute)
		ask()
		if n := got(from, 49900, 3); n != 2*49900 {
			t.Errorf("%d bytes, when there is room for 99900", n)
		}
		passed := 0
		for range 10 { // of a destination that goes on by itself
			time.Sleep(time.Minute)
			passed += got(from, 10, 1)
		}
		if passed == 0 || passed > 50 {
			t.Errorf("%d of 100 bytes have come to one that says nothing any more", passed)
		}
	})
}
