package bench

import (
	"context"
	"sync/atomic"
	"time"
)

// bulk moves one file after the other until told to finish, as the load beside
// which calls are timed.
type bulk struct {
	current atomic.Int64 // number of the move going on, from 1; 0: none
	stop    atomic.Bool
	done    chan struct{} // closed when the goroutine is over; guards what follows
	bytes   int64         // of the moves completed
	seconds float64       // they took
	err     error
}

// startBulk starts the goroutine; finish ends it.
func startBulk(ctx context.Context, m Mover, job Job) *bulk {
	b := &bulk{done: make(chan struct{})}
	go b.run(ctx, m, job)
	return b
}

func (b *bulk) run(ctx context.Context, m Mover, job Job) {
	defer close(b.done)
	for i := 1; !b.stop.Load() && b.err == nil; i++ {
		start := time.Now()
		b.current.Store(int64(i))
		b.err = m.Move(ctx, i)
		b.current.Store(0)
		if b.err == nil {
			b.seconds += time.Since(start).Seconds()
			b.bytes += job.Size
			b.err = removeTarget(job, i)
		}
	}
}

// moving is the number of the move going on, 0 between two.
func (b *bulk) moving() int64 { return b.current.Load() }

// over reports that the load has failed.
func (b *bulk) over() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// finish lets the last move complete, so that the rate is of whole files.
func (b *bulk) finish() (bytes int64, seconds float64, err error) {
	b.stop.Store(true)
	<-b.done
	return b.bytes, b.seconds, b.err
}
