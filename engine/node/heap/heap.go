// Package heap sets how much a daemon's heap grows before it is collected, and gives back
// to the system what a burst has left.
package heap

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How much a heap may grow before it is collected, in percent of what lives: much while
// that is little, because collecting costs more than the room; a third of Go's default when
// it is a lot, because then the room is what is short.
const (
	mostGrowth  = 400
	leastGrowth = 30
	smallHeap   = 12 << 20
)

// A burst is over when little was allocated for a while. Go itself would not collect what
// it has left for two minutes, and would keep most of that for long after.
const (
	burst     = 16 << 20 // bytes allocated since memory was given back
	little    = 1 << 20  // a second
	quietTime = 3        // seconds
)

// idle is how much the process may hold beyond what the heap may grow to.
const idle = 16 << 20

// Keep does both until ctx ends: the first after each collection, because a burst outgrows
// any interval, and the second once a second. Where GOGC is set, it only gives back; where
// GOMEMLIMIT is, what is idle is left to Go.
func Keep(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	keep(ctx, tick.C)
}

func keep(ctx context.Context, tick <-chan time.Time) {
	decided := os.Getenv("GOGC") != ""
	collected := make(chan struct{}, 1)
	if !decided {
		afterEach(ctx, collected)
	}
	last := 0
	var q quiet
	for {
		now := look()
		if g := now.growth(); g != last && !decided {
			debug.SetGCPercent(g)
			last = g
			now = look()
		}
		if !decided && os.Getenv("GOMEMLIMIT") == "" {
			debug.SetMemoryLimit(int64(now.limit(last)))
		}
		select {
		case <-collected:
		case <-tick:
			if q.over(now.allocated) {
				debug.FreeOSMemory()
			}
		case <-ctx.Done():
			return
		}
	}
}

// memory is what the process has, in bytes.
type memory struct {
	live      uint64 // on the heap, as of the last collection
	stacks    uint64 // that it has looked through
	goal      uint64 // to which the heap may grow until the next
	allocated uint64 // ever
	unused    uint64 // in spans that have something
	beside    uint64 // the heap: stacks, and what Go needs itself
}

// limit is what the process may have. A limit that was set before lowers the goal, which is
// therefore taken from what lives; and Go counts as taken what the spans of the heap do not use,
// which, where the heap will not grow into it, would have it collect without end.
func (m memory) limit(percent int) uint64 {
	goal := max(m.goal, m.live+(m.live+m.stacks)/100*uint64(percent))
	slack := m.unused - min(m.unused, goal-m.live)
	return goal + goal/16 + slack + m.beside + idle
}

func look() memory {
	s := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/goal:bytes"}, {Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
		{Name: "/gc/scan/stack:bytes"},
	}
	metrics.Read(s)
	m := memory{live: s[0].Value.Uint64(), goal: s[1].Value.Uint64(), allocated: s[2].Value.Uint64(), beside: s[3].Value.Uint64(), unused: s[5].Value.Uint64(), stacks: s[8].Value.Uint64()}
	for _, heap := range s[4:8] {
		m.beside -= heap.Value.Uint64()
	}
	return m
}

// afterEach tells of each collection, by something that each one finds unused.
func afterEach(ctx context.Context, collected chan<- struct{}) {
	runtime.AddCleanup(&sentinel{}, func(struct{}) {
		if ctx.Err() != nil {
			return
		}
		select {
		case collected <- struct{}{}:
		default:
		}
		afterEach(ctx, collected)
	}, struct{}{})
}

// sentinel has a pointer, so that it is not allocated together with others.
type sentinel struct{ _ *byte }

// growth is the percentage for a heap of which so many bytes live. Go lets it grow by that of the
// stacks, too, of which a daemon with many transfers has more than of anything else.
func (m memory) growth() int {
	percent := uint64(mostGrowth)
	if m.live > smallHeap {
		percent = max(leastGrowth, mostGrowth*smallHeap/m.live)
	}
	return int(percent - percent*m.stacks/max(m.live+m.stacks, 1))
}

// quiet watches for the end of a burst, in bytes that have ever been allocated.
type quiet struct {
	before  uint64 // a second ago
	given   uint64 // when memory was given back
	seconds int
}

// over is asked once a second.
func (q *quiet) over(allocated uint64) bool {
	if q.seconds++; allocated-q.before > little {
		q.seconds = 0
	}
	q.before = allocated
	if q.seconds < quietTime || allocated-q.given < burst {
		return false
	}
	q.given = allocated
	return true
}
