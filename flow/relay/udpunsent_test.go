package relay

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestUDPUnsent: datagrams for which no stream comes about, as the exit refuses or there is no session, or whose stream
// ends before it has taken them, were dropped and not sent.
func TestUDPUnsent(t *testing.T) {
	for _, tc := range []struct {
		name  string
		far   Config
		begin func(*two)
		cause string
	}{
		{"refused", Config{}, func(*two) {}, "permission denied"},
		{"no session", allowAll("udp://10.0.0.5:53"), func(w *two) { w.near.Close() }, "connection lost"},
		{"the entry ends", allowAll("udp://10.0.0.5:53"), func(w *two) { w.near.Close(); time.AfterFunc(time.Second, func() { w.west.Remove("r") }) }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := join(t, Config{}, tc.far, false)
				defer w.stop()
				w.udpRelay(nil)
				use := w.west.relays["r"].use // which outlives the relay
				tc.begin(w)
				client := w.udpClient(1)
				for range 10 {
					client.WriteTo(make([]byte, 100), udpAt)
				}
				time.Sleep(15 * time.Second)
				if s := use.stats("r", nil); s.Sent != 0 || s.ToPeer != 0 || s.Dropped != 10 {
					t.Errorf("%d datagrams, %d bytes, were sent and %d dropped", s.Sent, s.ToPeer, s.Dropped)
				}
				if got := w.westAudit.with("msg=relayed", "from=192.0.2.1:500", "to_peer=0", tc.cause); len(got) != 1 {
					t.Errorf("records %q", w.westAudit.lines())
				}
			})
		})
	}
}

// TestUDPPartSent: of what was being written when the stream broke, the datagrams that were written whole were sent.
func TestUDPPartSent(t *testing.T) {
	use := newUsage(Limits{})
	q, a, b := newQueue(use), &tally{use: use}, &tally{use: use}
	for range 3 {
		q.put(gone, 9, nil)
		q.send(1, a, make([]byte, 10))
		q.send(2, b, make([]byte, 20))
	}
	bookPart(q.of, q.pending, len(q.pending)-1-frameHead-20-1) // without the last two, but for a byte
	c := &use.counter
	if n, to, dropped := c.datagrams.Load(), c.toPeer.Load(), c.dropped.Load(); n != 4 || to != 60 || dropped != 2 {
		t.Errorf("%d datagrams, %d bytes, sent and %d dropped", n, to, dropped)
	}
	if a.to.Load() != 20 || b.to.Load() != 40 {
		t.Errorf("%d and %d bytes of the sources", a.to.Load(), b.to.Load())
	}
}

// TestUDPRefusedIsCalm: a client that goes on sending to an exit that refuses does not fill the log.
func TestUDPRefusedIsCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, Config{}, false)
		defer w.stop()
		w.udpRelay(nil)
		client := w.udpClient(1)
		for range 6000 {
			client.WriteTo([]byte("x"), udpAt)
			time.Sleep(100 * time.Millisecond)
		}
		got := w.westAudit.with("level=WARN", "datagrams relayed", "permission denied")
		if n := len(got); n < 100 || n > 710 || !strings.Contains(got[n-1], "unlogged=") {
			t.Errorf("%d records in 10 min", n)
		}
	})
}
