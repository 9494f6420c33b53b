package access

import (
	"testing"
	"time"
)

// TestRefusals: so many a second are told, and the next says how many were not.
func TestRefusals(t *testing.T) {
	r, now := NewRefusals(3), time.Unix(1000, 0)
	for second, want := range []int{0, 7, 7} {
		told := 0
		for i := range 10 {
			more, ok := r.Tell(now.Add(time.Duration(i) * time.Millisecond))
			if ok {
				told++
			}
			if i == 0 && more != want || i > 0 && more != 0 {
				t.Errorf("second %d, number %d: %d before", second, i, more)
			}
		}
		if told != 3 {
			t.Errorf("second %d: %d are told", second, told)
		}
		now = now.Add(time.Second)
	}
}
