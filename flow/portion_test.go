package flow

import (
	"testing"
	"time"
)

// TestPortion: what is read at once grows while it is filled and gone soon, and no further than a long
// link is worth; it shrinks with what there is to read, and back to what it was before where sending takes long.
func TestPortion(t *testing.T) {
	const soon, late, near, far = time.Millisecond, 2 * portionTime, time.Millisecond, longLink
	for _, tc := range []struct {
		name      string
		p         portion
		n, room   int
		took, rtt time.Duration
		want      portion
	}{
		{"full", frameFast, frameFast, frameFast, soon, near, 2 * frameFast},
		{"full of all there is", frameLarge, frameLarge, frameLarge, soon, near, frameLarge},
		{"full, far away", frameFast, frameFast, frameFast, soon, far, frameFast},
		{"large, and the way has become long", frameLarge, frameLarge, frameLarge, soon, far, frameFast},
		{"full of what credit is left", frameLarge, frameRelay, frameRelay, soon, near, frameLarge},
		{"nearly full", frameLarge, frameLarge - 1, frameLarge, soon, near, frameLarge},
		{"little to read", frameLarge, KiB, frameLarge, soon, near, frameLarge / 2},
		{"little, where there was little credit", frameLarge, KiB, frameFast, soon, near, frameFast / 2},
		{"very little", frameRelay, 1, frameRelay, soon, near, frameRelay},
		{"large and slow", frameLarge, frameLarge, frameLarge, late, near, frameLarge / 2},
		{"from the least on", frameRelay, frameRelay, frameRelay, late, far, 2 * frameRelay},
	} {
		if got := tc.p.next(tc.n, tc.room, tc.took, tc.rtt); got != tc.want {
			t.Errorf("%s: %d, not %d", tc.name, got, tc.want)
		}
	}
}
