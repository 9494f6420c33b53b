package heap

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// TestBurst: a heap that grows faster than anybody looks at a clock may not grow by four times
// what lives in it: what is allowed follows each collection.
func TestBurst(t *testing.T) {
	if os.Getenv("GOGC") != "" {
		t.Skip("GOGC is set, which then decides")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); keep(ctx, nil) }()
	defer func() { cancel(); <-ended }()
	var kept [][]byte
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/goal:bytes"}}
	for range 100 {
		kept = append(kept, make([]byte, 2<<20))
	}
	for tries := 0; ; tries++ {
		runtime.GC() // each is told of
		metrics.Read(samples)
		live, goal := samples[0].Value.Uint64(), samples[1].Value.Uint64()
		if goal < 2*live {
			break
		}
		if tries == 3000 {
			t.Fatalf("%d MiB live, and the heap may grow to %d MiB", live>>20, goal>>20)
		}
		time.Sleep(10 * time.Millisecond)
	}
	limited := os.Getenv("GOMEMLIMIT") == ""
	for tries := 0; limited; tries++ { // and what is idle is given back
		now := look()
		if limit := uint64(debug.SetMemoryLimit(-1)); limit > now.goal && limit < now.goal+now.goal/8+now.beside+2*idle {
			break
		} else if tries == 3000 {
			t.Fatalf("the limit is %d MiB, the heap may grow to %d, %d are beside it", limit>>20, now.goal>>20, now.beside>>20)
		}
		time.Sleep(10 * time.Millisecond)
	}
	runtime.KeepAlive(kept)
}

// TestFragmented: what the spans of a heap do not use, and large objects cannot, is no reason to
// collect again and again.
func TestFragmented(t *testing.T) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		t.Skip("GOGC or GOMEMLIMIT is set, which then decides")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	kept := make([]*[128]byte, 1600<<10)
	for i := range kept {
		kept[i] = new([128]byte)
	}
	for i := range kept {
		if i%8 > 0 {
			kept[i] = nil
		}
	}
	runtime.GC()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	tick := make(chan time.Time)
	go func() { defer close(ended); keep(ctx, tick) }()
	defer func() { cancel(); <-ended }()
	runtime.GC()
	tick <- time.Now()
	tick <- time.Now() // what the first has set holds
	if m := look(); m.unused < 100<<20 {
		t.Fatalf("only %d MiB are unused", m.unused>>20)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 400 << 20 / (64 << 10) {
		garbage = make([]byte, 64<<10)
	}
	runtime.ReadMemStats(&after)
	if n := after.NumGC - before.NumGC; n > 40 {
		t.Errorf("%d collections for 400 MiB", n)
	}
	runtime.KeepAlive(kept)
}

var garbage []byte

// TestLimit: it has room for the goal, for what lies idle, and for what the heap cannot use.
func TestLimit(t *testing.T) {
	const m = 1 << 20
	for _, tc := range []struct {
		memory
		percent int
		want    uint64
	}{
		{memory{live: 100 * m, goal: 200 * m, beside: 10 * m}, 100, 200*m + 200*m/16 + 10*m + idle},
		{memory{live: 100 * m, goal: 110 * m, beside: 10 * m}, 100, 200*m + 200*m/16 + 10*m + idle}, // an earlier limit has lowered it
		{memory{live: 100 * m, goal: 200 * m, unused: 90 * m}, 100, 200*m + 200*m/16 + idle},
		{memory{live: 100 * m, goal: 200 * m, unused: 250 * m}, 100, 200*m + 200*m/16 + 150*m + idle},
	} {
		if got := tc.limit(tc.percent); got+m < tc.want || got > tc.want+m {
			t.Errorf("%+v: %d, want %d", tc, got, tc.want)
		}
	}
}

func TestGrowth(t *testing.T) {
	const m = 1 << 20
	for _, tc := range []struct {
		live, stacks uint64
		want         int
	}{
		{1, 0, 400}, {12 * m, 0, 400}, {24 * m, 0, 200}, {48 * m, 0, 100}, {1 << 30, 0, 30},
		{24 * m, 24 * m, 100}, {12 * m, 36 * m, 100}, {1 << 30, 1 << 30, 15}, {0, 0, 400},
	} {
		if got := (memory{live: tc.live, stacks: tc.stacks}).growth(); got != tc.want {
			t.Errorf("%d bytes, %d of stacks: %d %%, want %d", tc.live, tc.stacks, got, tc.want)
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
