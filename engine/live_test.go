package engine

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/sideeffect"
)

// TestRate: a rate is that of the last seconds: a burst at the start is out of it soon, and what
// stands still has none.
func TestRate(t *testing.T) {
	var m meter
	began, sent := time.Now(), int64(0)
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	m.read(at(0), 0)
	if got := m.rate(at(10), 4<<20); got != 0 {
		t.Errorf("after 10 ms: %v", got)
	}
	sent = 4 << 20 // at once, and then 2,000 bytes each millisecond
	for ms := 10; ms <= 10000; ms += 10 {
		sent += 20000
		m.read(at(ms), sent)
		if len(m.readings) > int(rateWindow/rateStep)+2 {
			t.Fatalf("%d readings are kept", len(m.readings))
		}
		if got := m.rate(at(ms), sent); ms > 3200 && (got < 1.99e6 || got > 2.01e6) {
			t.Fatalf("after %d ms: %v bytes a second, want 2,000,000", ms, got)
		}
	}
	if got := m.rate(at(10000+1500), sent); got < 0.9e6 || got > 1.1e6 {
		t.Errorf("1.5 s without a byte: %v", got)
	}
	if got := m.rate(at(10000+3100), sent); got != 0 {
		t.Errorf("3 s without a byte: %v", got)
	}
}

// TestMoved: what the log has of an attempt is what moved in it, and not what was safe before: nothing
// if it did not come to that, and less than before if it had to begin anew.
func TestMoved(t *testing.T) {
	const rank = 488
	for name, tc := range map[string]struct {
		side     lifecycle.Side
		begun    bool
		from, to int64 // by the effect
		heard    int64 // of what the receiver has, while it ran; 0: nothing
		want     string
	}{
		"not begun":             {side: lifecycle.Receiver, want: ""},
		"not opened":            {side: lifecycle.Receiver, begun: true, want: "from=0 to=0 durable=0"},
		"gone on":               {side: lifecycle.Receiver, begun: true, from: rank, to: 600, heard: 600, want: "from=488 to=600 durable=488"},
		"anew":                  {side: lifecycle.Receiver, begun: true, to: 100, want: "from=0 to=100 durable=100"},
		"sent, not begun":       {side: lifecycle.Sender, want: ""},
		"sent, not opened":      {side: lifecycle.Sender, begun: true, want: "from=0 to=0 durable=0"},
		"sent, nothing heard":   {side: lifecycle.Sender, begun: true, from: rank, to: rank, want: "from=488 to=488 durable=488"},
		"sent, more is written": {side: lifecycle.Sender, begun: true, from: rank, to: rank, heard: 600, want: "from=488 to=600 durable=488"},
	} {
		var said bytes.Buffer
		x := &run{log: slog.New(slog.NewTextHandler(&said, nil)), r: lifecycle.Record{Side: tc.side, Rank: rank, Size: 1000}}
		x.moving()
		x.live.Received = max(x.live.Received, tc.heard)
		d := &sideeffect.Descriptor{}
		d.ResumedFrom, d.BytesTransferred = tc.from, tc.to
		if tc.begun {
			d.Stats.Started = time.Now()
		}
		x.moved(d)
		if got := said.String(); tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
