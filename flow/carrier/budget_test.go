package carrier

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSourceOf(t *testing.T) {
	for ip, want := range map[string]string{
		"192.0.2.7":            "192.0.2.7/32",
		"::ffff:192.0.2.7":     "192.0.2.7/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::1": "2001:db8:1:2::/64",
		"fe80::1":              "fe80::/64",
	} {
		if got := sourceOf(&net.TCPAddr{IP: net.ParseIP(ip), Port: 1}); got.String() != want {
			t.Errorf("source of %s is %s, want %s", ip, got, want)
		}
	}
	if sourceOf(&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}).String() != "fe80::/64" {
		t.Error("a zone hides the source")
	}
	if sourceOf(&net.UnixAddr{}).IsValid() {
		t.Error("a unix socket has a source")
	}
}

func source(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
}

// at is a moment of a test's own time.
func at(d time.Duration) time.Time { return time.Unix(0, 0).Add(d) }

func stay() {}

func TestBudgetLimits(t *testing.T) {
	b := newBudget(8, 2, func() float64 { return 0.999 })
	var first *place
	for i, want := range []bool{true, true, false} {
		p := b.enter(source(1), at(0), stay)
		if (p != nil) != want {
			t.Errorf("place %d of a source that may have two: %v", i+1, !want)
		}
		if first == nil {
			first = p
		}
	}
	for i := range 6 {
		if b.enter(source(10+i), at(0), stay) == nil {
			t.Errorf("source %d got no place", i)
		}
	}
	if b.enter(source(99), at(0), stay) != nil || b.enter(netip.Prefix{}, at(0), stay) != nil {
		t.Error("nine places of eight")
	}
	b.leave(first)
	b.leave(first)
	if b.enter(source(1), at(0), stay) == nil || b.enter(source(1), at(0), stay) != nil {
		t.Error("the place that was left is not free, or is there twice")
	}
}

func TestBudgetDropsEarly(t *testing.T) {
	draw := 0.0
	b := newBudget(8, 8, func() float64 { return draw })
	for i := range 5 {
		if b.enter(source(i), at(0), stay) == nil {
			t.Fatalf("dropped at %d pending, not above half", i)
		}
	}
	for _, c := range []struct {
		draw float64
		want bool
	}{{0, false}, {0.24, false}, {0.26, true}, {0.49, false}, {0.51, true}} { // chance 1/4 at 5 pending, 1/2 at 6
		draw = c.draw
		if got := b.enter(source(50), at(0), stay); (got != nil) != c.want {
			t.Errorf("draw %.2f with %d pending: %v", c.draw, b.pending, got)
		}
	}
}

// Who is overdue gives way, the oldest first; who is not stays.
func TestBudgetOverdue(t *testing.T) {
	b := newBudget(4, 4, func() float64 { return 0 })
	var gone []int
	for i := range 3 {
		b.enter(source(i), at(time.Duration(i)*overdue/4), func() { gone = append(gone, i) })
	}
	for _, c := range []struct {
		now  time.Duration
		want bool
		gone []int
	}{
		{overdue - 1, false, nil}, {overdue, true, []int{0}}, {overdue + 1, false, []int{0}},
		{2 * overdue, true, []int{0, 1}}, {2 * overdue, true, []int{0, 1, 2}},
	} {
		if got := b.enter(source(50), at(c.now), stay); (got != nil) != c.want || !slices.Equal(gone, c.gone) || b.pending != 3 {
			t.Errorf("at %v: got a place %v; %v had to go, %d pending", c.now, got != nil, gone, b.pending)
		}
	}
}

// Strangers never take the places of sources that have proved a key, nor make
// them give way.
func TestBudgetOfTheProved(t *testing.T) {
	b := newBudget(8, 4, func() float64 { return 0 })
	b.prove(source(1))
	for i := range 20 {
		b.enter(source(10+i), at(0), stay)
	}
	yielded := false
	for n := range 4 {
		if b.enter(source(1), at(0), func() { yielded = true }) == nil {
			t.Errorf("a proved source got %d places", n)
		}
	}
	if b.enter(source(1), at(0), stay) != nil {
		t.Error("a proved source got a fifth place of four")
	}
	for range 20 {
		b.enter(source(60), at(time.Hour), stay)
	}
	if yielded {
		t.Error("a proved source had to give way to a stranger")
	}
	for i := range 2 * maxProved {
		b.prove(source(i))
	}
	if b.prove(netip.Prefix{}); len(b.proved) != maxProved {
		t.Errorf("%d sources are remembered", len(b.proved))
	}
}

// A source with all its places changes them among its own, the oldest first,
// when it has taken very long. No other has to go.
func TestBudgetAtHome(t *testing.T) {
	for _, known := range []bool{false, true} {
		b := newBudget(8, 2, func() float64 { return 0.999 })
		if known {
			b.prove(source(1))
		}
		var gone []string
		enter := func(name string, s int, now time.Duration) bool {
			return b.enter(source(s), at(now), func() { gone = append(gone, name) }) != nil
		}
		enter("other", 2, 0)
		enter("first", 1, 1)
		enter("second", 1, 2)
		for _, c := range []struct {
			now  time.Duration
			want bool
			gone []string
		}{
			{overdueAtHome, false, nil}, {overdueAtHome + 1, true, []string{"first"}},
			{overdueAtHome + 1, false, []string{"first"}}, {overdueAtHome + 2, true, []string{"first", "second"}},
		} {
			if got := enter("late", 1, c.now); got != c.want || !slices.Equal(gone, c.gone) || b.pending != 3 {
				t.Errorf("known %v, at %v: got a place %v; %v had to go, %d pending", known, c.now, got, gone, b.pending)
			}
		}
	}
}

// Places taken and left add up, and no limit is ever passed.
func TestBudgetAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBudget(rapid.IntRange(1, 20).Draw(t, "max"), rapid.IntRange(1, 5).Draw(t, "per source"),
			func() float64 { return rapid.Float64Range(0, 0.999).Draw(t, "random") })
		b.prove(source(0))
		held := map[*place]bool{}
		var now time.Duration
		for range 100 {
			now += time.Duration(rapid.IntRange(0, int(overdueAtHome)/5).Draw(t, "later"))
			if rapid.Bool().Draw(t, "enter") {
				var p *place
				if p = b.enter(source(rapid.IntRange(0, 6).Draw(t, "source")), at(now), func() {}); p != nil {
					held[p] = true
				}
			} else {
				for p := range held {
					b.leave(p)
					break
				}
			}
			total, strangers := map[netip.Prefix]int{}, 0
			for p := range held {
				if p.left {
					delete(held, p)
				} else {
					total[p.source]++
					if !p.known {
						strangers++
					}
				}
			}
			if b.pending != len(held) || b.pending > b.max+b.max/4 || !maps.Equal(total, b.sources) || b.places.Len() != b.pending || strangers > b.max {
				t.Fatalf("held %v, budget %d %v", total, b.pending, b.sources)
			}
			for s, n := range b.sources {
				if n == 0 || n > b.perSource {
					t.Fatalf("source %v has %d places", s, n)
				}
			}
		}
	})
}
