package web

import (
	"strings"
	"testing"
	"time"
)

// TestRateSoon: what moves is shown a second after it was idle, not when a whole sample is over; and
// of an hour that an earlier process may have moved in nothing is said.
func TestRateSoon(t *testing.T) {
	g := newGraph(nil)
	if p := g.picture(); !p.Empty || !strings.HasPrefix(p.Span, "since the start at ") {
		t.Errorf("%+v", p)
	}
	if wait := g.moved(spell{took: time.Second}); wait != quick {
		t.Errorf("idle: the next look is in %v", wait)
	}
	wait := g.moved(spell{out: 5 << 20, took: time.Second})
	if p := g.picture(); p.Empty || p.NowOut != "5.0 MiB/s" || p.Most != "5.0 MiB/s" || wait != 3*time.Second {
		t.Errorf("the next look is in %v, %+v", wait, p)
	}
	if g.moved(spell{out: 15 << 20, took: 3 * time.Second}); g.next != 1 || g.ring[0].out != 4<<20 || g.part != (spell{}) {
		t.Errorf("%d samples, the first is %+v, %+v of the next", g.next, g.ring[0], g.part)
	}
	if g.moved(spell{out: 40 << 20, took: 40 * time.Second}); g.next != 9 || g.ring[8].out != 1<<20 {
		t.Errorf("a look after 40 s: %d samples, the last is %+v", g.next, g.ring[8])
	}
	for range samples {
		g.moved(spell{took: sampleEvery})
	}
	if p := g.picture(); !p.Empty || p.Span != "last hour" {
		t.Errorf("after an hour: %+v", p)
	}
}
