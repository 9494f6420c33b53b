package doctor

import (
	"errors"
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

// TestKernelClock: a clock that nothing keeps right is a warning, one that nobody knows is not.
func TestKernelClock(t *testing.T) {
	for _, tc := range []struct {
		synced bool
		err    error
		want   Outcome
	}{{true, nil, OK}, {false, nil, Warn}, {false, errors.ErrUnsupported, Skipped}} {
		var got []Finding
		e := &exam{check: "clock", tell: func(f Finding) { got = append(got, f) }}
		e.kernel(time.Millisecond, tc.synced, tc.err)
		if len(got) != 1 || got[0].Outcome != tc.want {
			t.Errorf("%+v: %+v", tc, got)
		}
	}
}
