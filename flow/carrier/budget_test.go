package carrier

import (
	"net"
	"net/netip"
	"testing"

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

func TestBudgetLimits(t *testing.T) {
	b := newBudget(8, 2, func() float64 { return 0.999 })
	for i, want := range []bool{true, true, false} {
		if b.enter(source(1)) != want {
			t.Errorf("place %d of a source that may have two: %v", i+1, !want)
		}
	}
	for i := range 6 {
		if !b.enter(source(10 + i)) {
			t.Errorf("source %d got no place", i)
		}
	}
	if b.enter(source(99)) || b.enter(netip.Prefix{}) {
		t.Error("nine places of eight")
	}
	b.leave(source(1))
	if !b.enter(source(1)) {
		t.Error("the place that was left is not free")
	}
}

func TestBudgetDropsEarly(t *testing.T) {
	draw := 0.0
	b := newBudget(8, 8, func() float64 { return draw })
	for i := range 5 {
		if !b.enter(source(i)) {
			t.Fatalf("dropped at %d pending, not above half", i)
		}
	}
	for _, c := range []struct {
		draw float64
		want bool
	}{{0, false}, {0.24, false}, {0.26, true}, {0.49, false}, {0.51, true}} { // chance 1/4 at 5 pending, 1/2 at 6
		draw = c.draw
		if got := b.enter(source(50)); got != c.want {
			t.Errorf("draw %.2f with %d pending: %v", c.draw, b.pending, got)
		}
	}
}

// Places taken and left add up, and no limit is ever passed.
func TestBudgetAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBudget(rapid.IntRange(1, 20).Draw(t, "max"), rapid.IntRange(1, 5).Draw(t, "per source"),
			func() float64 { return rapid.Float64Range(0, 0.999).Draw(t, "random") })
		held := map[int]int{}
		total := 0
		for range 100 {
			i := rapid.IntRange(0, 6).Draw(t, "source")
			if rapid.Bool().Draw(t, "enter") {
				if b.enter(source(i)) {
					held[i]++
					total++
				}
			} else if held[i] > 0 {
				b.leave(source(i))
				held[i]--
				total--
			}
			if b.pending != total || total > b.max || held[i] > b.perSource || b.sources[source(i)] != held[i] {
				t.Fatalf("held %v, budget %d %v", held, b.pending, b.sources)
			}
		}
		for s, n := range b.sources {
			if n == 0 {
				t.Fatalf("source %v is kept with no places", s)
			}
		}
	})
}
