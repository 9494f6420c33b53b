package relay

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// TestHalfClose: each direction ends on its own, in either order.
func TestHalfClose(t *testing.T) {
	for _, first := range []string{"client", "server"} {
		t.Run(first, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := join(t, Config{}, allowAll("tcp://10.0.0.5:80"), false)
				defer w.stop()
				w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80")
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
				time.Sleep(time.Minute)
				say(t, b, a, "answer")
				b.CloseWrite()
				if got, err := io.ReadAll(a); err != nil || len(got) > 0 {
					t.Fatalf("%q, %v instead of the end", got, err)
				}
				synctest.Wait()
				if n := len(w.west.Conns()) + len(w.east.Conns()); n > 0 {
					t.Errorf("%d connections are left", n)
				}
				for _, log := range []*records{w.westAudit, w.eastLog} {
					if got := log.with("msg=relayed", "relay=r", "from=192.0.2.9:999", "to=tcp://10.0.0.5:80", "lasted=1m"); len(got) != 1 || !strings.Contains(got[0], "to_peer=") {
						t.Errorf("records %q", log.lines())
					}
				}
				if first == "client" && len(w.westAudit.with("to_peer=8", "from_peer=6")) != 1 {
					t.Errorf("bytes in %q", w.westAudit.lines())
				}
			})
		})
	}
}

// TestSlowReader: who does not read holds up its own connection and no other.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("tcp://10.0.0.5:80"), false)
		defer w.stop()
		w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80")
		l := w.dest("10.0.0.5:80")
		lazy, writer := w.through("127.0.0.1:9000", l)
		sent := make(chan int, 1)
		go func() {
			n, _ := writer.Write(make([]byte, 16<<20))
			sent <- n
		}()
		synctest.Wait() // the writer is stuck
		quick, server := w.through("127.0.0.1:9000", l)
		go func() { server.Write(make([]byte, 4<<20)); server.CloseWrite() }()
		if got, err := io.ReadAll(quick); err != nil || len(got) != 4<<20 {
			t.Errorf("%d bytes beside a stalled connection, %v", len(got), err)
		}
		select {
		case n := <-sent:
			t.Errorf("all %d bytes were taken for a client that does not read", n)
		default:
		}
		if _, err := io.ReadFull(lazy, make([]byte, 16<<20)); err != nil {
			t.Error(err)
		}
		<-sent
	})
}

// TestForbidden: what the policy does not have is not connected to, and both ends
// are told why.
func TestForbidden(t *testing.T) {
	for _, tc := range []struct {
		name, policy, to, reason string
		names                    []string
		relay                    string
	}{
		{name: "no policy", to: "tcp://10.0.0.5:80", reason: "does not connect"},
		{name: "other host", policy: "tcp://10.0.0.6:80", to: "tcp://10.0.0.5:80", reason: "does not connect"},
		{name: "other port", policy: "tcp://10.0.0.5:81-90", to: "tcp://10.0.0.5:80", reason: "does not connect"},
		{name: "loopback", policy: "tcp://*:*", to: "tcp://127.0.0.1:80", reason: "literally"},
		{name: "loopback of IPv6", policy: "tcp://*:*", to: "tcp://[::1]:80", reason: "literally"},
		{name: "loopback mapped", policy: "tcp://*:*", to: "tcp://[::ffff:127.0.0.1]:80", reason: "literally"},
		{name: "loopback behind NAT64", policy: "tcp://[64:ff9b::/96]:80", to: "tcp://[64:ff9b::7f00:1]:80", reason: "literally"},
		{name: "loopback in an address of IPv6", policy: "tcp://*:*", to: "tcp://[::127.0.0.1]:80", reason: "literally"},
		{name: "loopback translated", policy: "tcp://*:*", to: "tcp://[::ffff:0:127.0.0.1]:80", reason: "literally"},
		{name: "nowhere of IPv6", policy: "tcp://*:*", to: "tcp://[::]:80", reason: "literally"},
		{name: "credentials of a container", policy: "tcp://[fd00::/8]:80", to: "tcp://[fd00:ec2::23]:80", reason: "literally"},
		{name: "nowhere is here", policy: "tcp://*:*", to: "tcp://0.0.0.0:80", reason: "literally"},
		{name: "metadata", policy: "tcp://0.0.0.0/0:80", to: "tcp://169.254.169.254:80", reason: "literally"},
		{name: "name of loopback", policy: "tcp://*.example:80", to: "tcp://db.example:80", names: []string{"127.0.0.1"}, reason: "literally"},
		{name: "name listed, address special", policy: "tcp://db.example:80", to: "tcp://db.example:80", names: []string{"169.254.169.254", "fe80::1"}, reason: "literally"},
		{name: "name outside of the prefix", policy: "tcp://10.0.0.0/8:80", to: "tcp://db.example:80", names: []string{"11.0.0.1"}, reason: "does not connect"},
		{name: "command", policy: `exec:["/bin/cat"]`, to: `exec:["/bin/cat","/etc/passwd"]`, reason: "does not connect"},
		{name: "socket", policy: `unix:///run/a/*`, to: `unix:///run/b/s`, reason: "does not connect"},
		{name: "other relay", policy: "tcp://10.0.0.5:80", relay: "other", to: "tcp://10.0.0.5:80", reason: "does not connect"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := Config{}
				if tc.policy != "" {
					cfg = allowAll(tc.policy)
				}
				if tc.relay != "" {
					cfg.Policy[0].Relay = tc.relay
				}
				w := join(t, Config{}, cfg, false)
				defer w.stop()
				w.eastWorld.names["db.example"] = tc.names
				w.add("tcp://127.0.0.1:9000", tc.to)
				if c := w.client("127.0.0.1:9000"); !ended(c) {
					t.Error("relayed")
				}
				synctest.Wait()
				if len(w.eastWorld.dialled) > 0 {
					t.Errorf("connected to %q", w.eastWorld.dialled)
				}
				for _, log := range []*records{w.westAudit, w.eastLog} {
					if len(log.with("not relayed", tc.reason, "permission denied", "relay=r")) != 1 {
						t.Errorf("records %q, want one with %q", log.lines(), tc.reason)
					}
				}
				if s := w.west.Stats(); s[0].Refused != 1 || s[0].Open != 0 {
					t.Errorf("%+v", s[0])
				}
			})
		})
	}
}

// TestPolicyInOrder: the first section that has a destination counts, whatever those before
// it have of the same port; of a name nobody has, the first that may have its addresses.
func TestPolicyInOrder(t *testing.T) {
	for _, tc := range []struct {
		to       string
		sections []string
		want     int // index; -1: none
	}{
		{"tcp://10.0.0.77:80", []string{"tcp://10.0.0.2:9", "tcp://10.0.0.77:80"}, 1},
		{"tcp://10.0.0.77:80", []string{"tcp://10.0.0.2:80", "tcp://10.0.0.77:80"}, 1},
		{"tcp://10.0.0.77:80", []string{"tcp://10.0.0.0/26:*", "tcp://[fd00::1]:80", "tcp://db:80", "tcp://10.0.0.64/26:80", "tcp://*:*"}, 3},
		{"tcp://127.0.0.1:22", []string{"tcp://*:*", "tcp://127.0.0.1:22"}, 1},
		{"tcp://127.0.0.1:22", []string{"tcp://*:*", "tcp://10.0.0.1:22"}, -1},
		{"tcp://db.example:80", []string{"tcp://10.0.0.0/8:80", "tcp://other:80", "tcp://db.example:80"}, 2},
		{"tcp://db.example:80", []string{"tcp://other:80", "tcp://10.0.0.0/8:80", "tcp://11.0.0.0/8:80"}, 1},
		{"tcp://db.example:80", []string{"tcp://*.example:80", "tcp://db.example:80"}, 0},
		{"unix:///run/a", []string{"unix:///run/b", "unix:///run/*"}, 1},
	} {
		cfg := Config{}
		for _, pattern := range tc.sections {
			cfg.Policy = append(cfg.Policy, Allow{Partner: "west", Relay: "*", Dial: []string{pattern}})
		}
		h, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		got := -1
		p, err := h.permitDial("west", "r", mustTo(t, tc.to))
		for i, r := range *h.policy.Load() {
			if err == nil && r.use == p.use {
				got = i
			}
		}
		if got != tc.want || err != nil && fault.KindOf(err) != fault.Permission {
			t.Errorf("%s in %q: section %d, %v; want %d", tc.to, tc.sections, got, err, tc.want)
		}
		h.Close()
	}
}

// TestNamesAreResolvedOnce: the address that was checked is the one connected to,
// and only addresses that are allowed are tried.
func TestNamesAreResolvedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("tcp://db.example:80"), false)
		defer w.stop()
		w.eastWorld.names["db.example"] = []string{"127.0.0.1", "10.0.0.5"}
		w.add("tcp://127.0.0.1:9000", "tcp://db.example:80")
		w.dest("127.0.0.1:80")
		client, server := w.through("127.0.0.1:9000", w.dest("10.0.0.5:80"))
		say(t, client, server, "hello")
		if w.eastWorld.lookups != 1 || len(w.eastWorld.dialled) != 1 || w.eastWorld.dialled[0] != "10.0.0.5:80" {
			t.Errorf("%d resolutions, connected to %q", w.eastWorld.lookups, w.eastWorld.dialled)
		}
	})
}

// TestLiterallyAllowed: the host's own addresses can be listed.
func TestLiterallyAllowed(t *testing.T) {
	for _, pattern := range []string{"tcp://127.0.0.1:80", "tcp://127.0.0.0/8:*"} {
		synctest.Test(t, func(t *testing.T) {
			w := join(t, Config{}, allowAll(pattern), false)
			defer w.stop()
			w.add("tcp://127.0.0.1:9000", "tcp://127.0.0.1:80")
			client, server := w.through("127.0.0.1:9000", w.dest("127.0.0.1:80"))
			say(t, client, server, "hello")
		})
	}
}

// TestThere: the partner listens, for as long as it wants to and the session
// lasts; this node connects.
func TestThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, Config{Policy: []Allow{{Partner: "west", Relay: "r", Listen: []string{"tcp://127.0.0.1:9000-9001"}}}}, false)
		defer w.stop()
		r := Relay{Name: "r", Partner: "east", At: There, Accept: mustAccept(t, "tcp://127.0.0.1:9000,9001"), To: mustTo(t, "tcp://127.0.0.1:{port}")}
		if err := w.west.Add(r); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s := w.west.Stats()[0]; len(s.Bound) != 2 || s.Trouble != nil {
			t.Fatalf("%+v", s)
		}
		l, err := w.westWorld.listen(t.Context(), "tcp", "127.0.0.1:9001")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := w.eastWorld.dial(t.Context(), "tcp", "127.0.0.1:9001")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		say(t, c, s, "hello")

		w.line.cut(true) // the listener stays, and serves again
		synctest.Wait()
		if c, err = w.eastWorld.dial(t.Context(), "tcp", "127.0.0.1:9001"); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		w.line.up()
		if s, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		say(t, s, c, "again")
		synctest.Wait()

		if err := w.west.Remove("r"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := w.eastWorld.dial(t.Context(), "tcp", "127.0.0.1:9001"); err == nil {
			t.Error("it is listened at after the relay's end")
		}
		say(t, s, c, "what is open goes on")
		if err := w.west.Add(r); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.line.cut(true)
		time.Sleep(time.Minute) // longer than a session waits for new connections
		if _, err := w.eastWorld.dial(t.Context(), "tcp", "127.0.0.1:9001"); err == nil {
			t.Error("it is listened at after the session's end")
		}
	})
}

// TestThereForbidden: nobody listens for a partner without being told to, and
// nobody connects for a listener it has not asked for.
func TestThereForbidden(t *testing.T) {
	for name, listen := range map[string][]string{"nothing": nil, "other port": {"tcp://127.0.0.1:9001"}, "other address": {"tcp://127.0.0.2:9000"}, "half": {"tcp://127.0.0.1:9000"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := join(t, Config{}, Config{Policy: []Allow{{Partner: "west", Relay: "r", Listen: listen, Dial: []string{"tcp://*:*"}}}}, false)
				defer w.stop()
				accept := mustAccept(t, "tcp://127.0.0.1:9000")
				if name == "half" {
					accept = mustAccept(t, "tcp://127.0.0.1:9000", "tcp://0.0.0.0:9000")
				}
				if err := w.west.Add(Relay{Name: "r", Partner: "east", At: There, Accept: accept, To: mustTo(t, "tcp://10.0.0.1:1")}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if len(w.eastWorld.serve) > 0 {
					t.Error("it is listened at")
				}
				if s := w.west.Stats()[0]; !strings.Contains(fmt.Sprint(s.Trouble), "does not listen") {
					t.Errorf("trouble %v", s.Trouble)
				}
				if len(w.eastLog.with("not relayed", "does not listen")) != 1 || len(w.westAudit.with("partner does not listen", "permission denied")) != 1 {
					t.Errorf("records %q and %q", w.eastLog.lines(), w.westAudit.lines())
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // the far end pretends to have listened
		w := join(t, Config{}, Config{}, false)
		defer w.stop()
		w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80") // of the same name, but accepting here
		_, _, err := (&entrance{relay: "r", open: w.far.OpenBytes}).ask(t.Context(), KindConn, connAsk{Port: 9000})
		if fault.KindOf(err) != fault.NotFound || len(w.westWorld.dialled) > 0 {
			t.Errorf("%v, connected to %q", err, w.westWorld.dialled)
		}
		if err := w.west.Add(Relay{Name: "q", Partner: "east", At: There, Accept: mustAccept(t, "tcp://127.0.0.1:9000"), To: mustTo(t, "tcp://10.0.0.9:{port}")}); err != nil {
			t.Fatal(err)
		}
		for port, want := range map[uint16]fault.Kind{9000: fault.Refused, 9001: fault.Permission, 0: fault.Permission} {
			_, _, err := (&entrance{relay: "q", open: w.far.OpenBytes}).ask(t.Context(), KindConn, connAsk{Port: port})
			if fault.KindOf(err) != want {
				t.Errorf("port %d: %v", port, err)
			}
		}
	})
}

// TestThereForgotten: a relay that ends while the session has no connections
// leaves no listener behind at the partner.
func TestThereForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, Config{Policy: []Allow{{Partner: "west", Relay: "r", Listen: []string{"tcp://127.0.0.1:9000"}}}}, false, flow.Config{ResumeTimeout: 24 * time.Hour})
		defer w.stop()
		if err := w.west.Add(Relay{Name: "r", Partner: "east", At: There, Accept: mustAccept(t, "tcp://127.0.0.1:9000"), To: mustTo(t, "tcp://127.0.0.1:1")}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		listens := func() bool { w.eastWorld.mu.Lock(); defer w.eastWorld.mu.Unlock(); return len(w.eastWorld.serve) > 0 }
		w.line.cut(true)
		time.Sleep(time.Hour)
		if !listens() {
			t.Error("the listener has not waited for the session")
		}
		if err := w.west.Remove("r"); err != nil {
			t.Fatal(err)
		}
		w.line.up()
		time.Sleep(time.Minute)
		if listens() {
			t.Error("it is listened at for nobody")
		}
	})
}

// TestSessionLost: listeners stay up, who connects meanwhile waits a little, and
// what was open has ended.
func TestSessionLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{Patience: 10 * time.Second}, allowAll("tcp://10.0.0.5:80"), false, flow.Config{ResumeTimeout: time.Hour})
		defer w.stop()
		w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80")
		l := w.dest("10.0.0.5:80")
		client, server := w.through("127.0.0.1:9000", l)
		say(t, client, server, "hello")
		w.line.cut(true)
		synctest.Wait()
		if !ended(client) || !ended(server) {
			t.Error("a connection has survived its session")
		}
		began := time.Now()
		if !ended(w.client("127.0.0.1:9000")) || time.Since(began) != 10*time.Second {
			t.Errorf("refused after %v", time.Since(began))
		}
		waiting := w.client("127.0.0.1:9000")
		time.Sleep(time.Second)
		w.line.up()
		server, err := acceptHalf(l)
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		say(t, waiting, server, "it came back")
		if len(w.westAudit.with("msg=relayed", "connection lost")) != 1 || len(w.westAudit.with("not relayed")) != 1 {
			t.Errorf("records %q", w.westAudit.lines())
		}
	})
}

// TestReset: a socket that is broken off breaks off the one at the other end, and
// only that.
func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("tcp://10.0.0.5:80"), false)
		defer w.stop()
		w.add("tcp://127.0.0.1:9000", "tcp://10.0.0.5:80")
		l := w.dest("10.0.0.5:80")
		one, itsServer := w.through("127.0.0.1:9000", l)
		other, otherServer := w.through("127.0.0.1:9000", l)
		go itsServer.Write(make([]byte, 8<<20))
		io.ReadFull(one, make([]byte, 1<<20))
		one.Close() // with bytes on their way
		if _, err := io.Copy(io.Discard, itsServer); err != nil {
			t.Log(err)
		}
		synctest.Wait()
		if _, err := itsServer.Write([]byte("x")); err == nil {
			t.Error("the server still writes")
		}
		say(t, other, otherServer, "unharmed")
		if n := len(w.west.Conns()); n != 1 {
			t.Errorf("%d connections", n)
		}
		if s := w.west.Stats()[0]; s.Failed != 1 || s.Open != 1 || s.Opened != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// acceptHalf accepts a connection that can be closed by halves.
func acceptHalf(l net.Listener) (halfCloser, error) {
	c, err := l.Accept()
	if err != nil {
		return nil, err
	}
	return c.(halfCloser), nil
}

// TestThereLimits: a session has so many listeners at its partner, and ports.
func TestThereLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, Config{Policy: []Allow{{Partner: "west", Relay: "*", Listen: []string{"tcp://127.0.0.1:*"}}}}, false)
		defer w.stop()
		ask := func(name string, accept ...string) (*flow.ByteStream, error) {
			meta, err := wire.AppendMeta(nil, &listenAsk{Relay: name, Accept: accept})
			if err != nil {
				t.Fatal(err)
			}
			return w.near.OpenBytes(t.Context(), flow.Open{Kind: KindListen, Meta: meta})
		}
		first, err := ask("a", "tcp://127.0.0.1:1-1000")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ask("b", "tcp://127.0.0.1:1001-1025"); fault.KindOf(err) != fault.Overloaded {
			t.Errorf("1025 ports: %v", err)
		}
		if _, err := ask("a", "tcp://127.0.0.1:2000"); fault.KindOf(err) != fault.Exists {
			t.Errorf("the same name again: %v", err)
		}
		first.Close()
		synctest.Wait()
		var group sync.WaitGroup
		var has, refused atomic.Int64
		for i := range 3 * maxGuests { // at once
			group.Go(func() {
				switch _, err := ask(fmt.Sprint("c", i), fmt.Sprint("tcp://127.0.0.1:", 3000+i)); {
				case err == nil:
					has.Add(1)
				case fault.KindOf(err) == fault.Overloaded:
					refused.Add(1)
				default:
					t.Error(i, err)
				}
			})
		}
		group.Wait()
		if has.Load() != maxGuests || refused.Load() != 2*maxGuests || len(w.eastWorld.serve) != maxGuests {
			t.Errorf("%d listen, %d were refused; %d listeners", has.Load(), refused.Load(), len(w.eastWorld.serve))
		}
	})
}
