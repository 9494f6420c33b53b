package heap

import "testing"

func TestGrowth(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 24 << 20: 400, 48 << 20: 200, 96 << 20: 100, 1 << 30: 50} {
		if got := growth(live); got != want {
			t.Errorf("%d bytes: %d %%, want %d", live, got, want)
		}
	}
}

// TestQuiet: memory is given back once after a burst, when nothing has been going on for
// three seconds, and not for what a quiet process allocates.
func TestQuiet(t *testing.T) {
	var q quiet
	var allocated uint64
	given := 0
	second := func(bytes uint64) {
		if allocated += bytes; q.over(allocated) {
			given++
		}
	}
	for step, s := range []struct {
		seconds int
		bytes   uint64
		given   int
	}{
		{10, 0, 0}, {100, 100 << 10, 0}, // 10 MB of trifles
		{5, 50 << 20, 0}, {2, 0, 0}, {1, 50 << 20, 0}, {2, 100 << 10, 0}, {1, 0, 1}, {100, 0, 1},
		{100, 100 << 10, 1}, {1, 20 << 20, 1}, {3, 0, 2}, {50, 0, 2},
	} {
		for range s.seconds {
			second(s.bytes)
		}
		if given != s.given {
			t.Errorf("step %d: given back %d times, want %d", step, given, s.given)
		}
	}
}
