package ftpd

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// TestGateForgets: wrong passwords count for ten minutes, those of a /64 together, and of no
// more addresses than are remembered.
func TestGateForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(10, 10, 2)
		a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:2")
		for _, x := range []netip.Addr{a, b} {
			if !g.try(x) {
				t.Fatal("it may not try")
			}
			g.tried(x, false)
		}
		if g.try(a) || g.try(b) {
			t.Error("it may try once too often")
		}
		if !g.try(netip.MustParseAddr("2001:db8:0:1::1")) {
			t.Error("another network may not")
		}
		time.Sleep(window - time.Second)
		if g.try(a) {
			t.Error("it is forgotten too soon")
		}
		time.Sleep(time.Second)
		for i, may := range []bool{true, true, false} { // those that are being tried count
			if g.try(a) != may {
				t.Errorf("after the time, try %d", i+1)
			}
		}
		time.Sleep(2 * window)
		if g.try(a) {
			t.Error("those that are being tried are forgotten")
		}
		g.tried(a, true)
		g.tried(a, true)
		if !g.try(a) {
			t.Error("right ones count")
		}
		for i := range 3 * remembered {
			x := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			if !g.try(x) {
				t.Fatal("it may not try")
			}
			g.tried(x, false)
		}
		if len(g.wrong) > remembered {
			t.Errorf("%d addresses are remembered", len(g.wrong))
		}
	})
}
