package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How much a daemon's heap may grow before it is collected, in percent of what lives:
// much while that is little, because collecting costs more than the room; half of Go's
// default when it is a lot, because then the room is what is short.
const (
	mostGrowth  = 400
	leastGrowth = 50
	smallHeap   = 24 << 20
)

// collect sets that once a second until ctx ends. Who has set GOGC has decided.
func collect(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	last := 0
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		metrics.Read(live)
		if g := growth(live[0].Value.Uint64()); g != last {
			debug.SetGCPercent(g)
			last = g
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// growth is the percentage for a heap of which so many bytes live.
func growth(live uint64) int {
	if live <= smallHeap {
		return mostGrowth
	}
	return max(leastGrowth, int(mostGrowth*smallHeap/live))
}
