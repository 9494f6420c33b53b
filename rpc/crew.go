package rpc

import (
	"sync"
	"time"
)

// crew is goroutines that somebody awaits. Unlike a sync.WaitGroup, of which that would be a misuse, it may be
// asked to run one more at any time; from when it is awaited on it refuses.
type crew struct {
	mu   sync.Mutex
	over bool
	wg   sync.WaitGroup
}

// Go runs f on a goroutine of its own; false: nobody would wait for it any more, and it does not run.
func (c *crew) Go(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return false
	}
	c.wg.Go(f)
	return true
}

// wait returns when all have ended. Nobody may join from here on.
func (c *crew) wait() {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.wg.Wait()
}

// waitFor is wait, but for no longer than d; false: some still run.
func (c *crew) waitFor(d time.Duration) bool {
	ended := make(chan struct{})
	go func() { c.wait(); close(ended) }()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ended:
		return true
	case <-t.C:
		return false
	}
}
