package relay

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// TestUDPBooks: each source of datagrams is in the list at both ends with its bytes while it is known,
// and has a record there when it is not any more.
func TestUDPBooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("udp://10.0.0.5:53"), false)
		defer w.stop()
		w.udpRelay(func(r *Relay) { r.Limits.Idle = 20 * time.Second })
		server := w.udpServer("10.0.0.5:53")
		for n := range byte(2) {
			client := w.udpClient(n + 1)
			client.WriteTo(make([]byte, 10), udpAt)
			client.WriteTo(make([]byte, 10), udpAt)
			for range 2 {
				_, from, err := server.ReadFrom(make([]byte, 10))
				if err != nil {
					t.Fatal(err)
				}
				server.WriteTo(make([]byte, 15), from)
			}
			time.Sleep(time.Second)
		}
		for _, e := range []struct {
			hub      *Hub
			log      *records
			role     Role
			to, from int64
		}{{hub: w.west, log: w.westAudit, role: Entry, to: 20, from: 30}, {hub: w.east, log: w.eastLog, role: Exit, to: 30, from: 20}} {
			all := e.hub.Conns()
			if len(all) != 2 {
				t.Fatalf("%s: %+v", e.role, all)
			}
			for i, c := range all {
				want := ConnStats{ID: uint64(i + 1), Relay: "r", Partner: c.Partner, Role: e.role, From: fmt.Sprintf("192.0.2.%d:500", i+1), To: "udp://10.0.0.5:53", Since: c.Since, ToPeer: e.to, FromPeer: e.from}
				if c != want || c.Since.IsZero() {
					t.Errorf("%+v, want %+v", c, want)
				}
			}
			if got := e.log.with("msg=relayed"); len(got) > 0 {
				t.Errorf("before its end: %q", got)
			}
		}
		time.Sleep(time.Minute)
		for role, log := range map[Role]*records{Entry: w.westAudit, Exit: w.eastLog} {
			to, from := 20, 30
			if role == Exit {
				to, from = from, to
			}
			for n := 1; n < 3; n++ {
				if got := log.with("level=INFO", "msg=relayed", "role="+string(role), fmt.Sprintf("from=192.0.2.%d:500", n), "to=udp://10.0.0.5:53", fmt.Sprintf("to_peer=%d from_peer=%d lasted=2", to, from)); len(got) != 1 {
					t.Errorf("%s: %q of %q", role, got, log.lines())
				}
			}
		}
		if n := len(w.west.Conns()) + len(w.east.Conns()); n > 0 {
			t.Errorf("%d are still listed", n)
		}
	})
}

// TestUDPForgedSources: who sends from many forged addresses does not fill the logs: of sources that nobody answers
// not all have a record. The session's end is in the records of those there are.
func TestUDPForgedSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("udp://10.0.0.5:53"), false)
		defer w.stop()
		w.udpRelay(func(r *Relay) { r.Limits.Idle = 20 * time.Second })
		server := w.udpServer("10.0.0.5:53")
		for n := range 500 {
			p, _ := w.westWorld.listenPacket(context.Background(), "udp", fmt.Sprintf("192.0.2.9:%d", n+1))
			p.WriteTo([]byte("x"), udpAt)
			p.Close()
			if _, _, err := server.ReadFrom(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		if n := w.west.Stats()[0].Open; n != 500 {
			t.Fatalf("%d sources", n)
		}
		time.Sleep(time.Minute)
		for _, log := range []*records{w.westAudit, w.eastLog} {
			if n := len(log.with("msg=relayed")); n < 100 || n > 130 {
				t.Errorf("%d records", n)
			}
		}
		client := w.udpClient(1)
		client.WriteTo([]byte("ping"), udpAt)
		_, from, err := server.ReadFrom(make([]byte, 4))
		if err != nil {
			t.Fatal(err)
		}
		server.WriteTo([]byte("pong"), from)
		synctest.Wait()
		w.near.Close()
		time.Sleep(time.Second)
		for _, log := range []*records{w.westAudit, w.eastLog} {
			if got := log.with("level=WARN", "msg=relayed", "from=192.0.2.1:500", "cause="); len(got) != 1 {
				t.Errorf("of one that the session has ended: %q", got)
			}
		}
	})
}

// TestUDPStreams: streams of datagrams count, too, before any source has come: a partner that opens one after another
// has as many as connections.
func TestUDPStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := allowAll("udp://10.0.0.5:53")
		cfg.Policy[0].Limits.Conns = 3
		w := join(t, Config{}, cfg, false)
		defer w.stop()
		w.udpServer("10.0.0.5:53")
		meta, err := wire.AppendMeta(nil, &connAsk{Relay: "x", To: "udp://10.0.0.5:53", Datagram: MaxDatagram})
		if err != nil {
			t.Fatal(err)
		}
		open := func() (*flow.ByteStream, error) {
			return w.near.OpenBytes(t.Context(), flow.Open{Kind: KindUDP, Meta: meta})
		}
		var last *flow.ByteStream
		for range 3 {
			if last, err = open(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := open(); fault.KindOf(err) != fault.Overloaded {
			t.Errorf("the fourth: %v", err)
		}
		synctest.Wait() // for the record, which may come after the answer
		if got := w.eastLog.with("not relayed", "3 streams of datagrams are open", "kind=overloaded"); len(got) != 1 {
			t.Errorf("%q", w.eastLog.lines())
		}
		last.Reset(errors.New("enough"))
		time.Sleep(time.Second)
		if _, err := open(); err != nil {
			t.Errorf("after one has ended: %v", err)
		}
	})
}
