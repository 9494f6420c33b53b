package doctor

import (
	"testing"
	"time"
)

// TestSkew: a partner's clock that was right at some time of the call is right.
func TestSkew(t *testing.T) {
	before := time.Unix(1000, 0)
	after := before.Add(time.Second)
	for _, tc := range []struct{ theirs, want time.Duration }{{0, 0}, {time.Second, 0}, {-3 * time.Second, -3 * time.Second}, {5 * time.Second, 4 * time.Second}} {
		if got := skew(before.Add(tc.theirs), before, after); got != tc.want {
			t.Errorf("%v after: %v, want %v", tc.theirs, got, tc.want)
		}
	}
}
