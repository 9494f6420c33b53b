package engine

import (
	"testing"
	"time"
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
