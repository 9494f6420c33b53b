package audit

import (
	"log/slog"
	"time"
)

// copyPatience is how long Close waits for the last copy.
const copyPatience = 5 * time.Second

// copies brings checkpoints to a second place, the last one only if it is slow: who writes the log does
// not wait for it, because it may be a mount that does not answer.
type copies struct {
	to   string
	log  *slog.Logger
	next chan []byte   // one at most; sent to by the log's writer alone
	over chan struct{} // closed when all is copied after close
	slow bool          // the log was told that a copy takes long; the writer's alone
}

// newCopies starts the goroutine that copies, which close ends.
func newCopies(to string, log *slog.Logger) *copies {
	c := &copies{to: to, log: log, next: make(chan []byte, 1), over: make(chan struct{})}
	go func() {
		defer close(c.over)
		for msg := range c.next {
			if err := replace(c.to, msg, 0o644); err != nil { // the log itself is good
				c.log.Warn("the checkpoint could not be copied", "to", c.to, "error", err)
			}
		}
	}()
	return c
}

// put has a checkpoint copied, in place of one whose turn has not come yet.
func (c *copies) put(msg []byte) {
	select {
	case <-c.next:
		if !c.slow {
			c.log.Warn("the place for copies of the checkpoint does not answer; the last one is copied when it does", "to", c.to)
		}
		c.slow = true
	default:
		c.slow = false
	}
	c.next <- msg
}

// close waits until the last one is copied, if that is soon.
func (c *copies) close() {
	close(c.next)
	t := time.NewTimer(copyPatience)
	defer t.Stop()
	select {
	case <-c.over:
	case <-t.C:
		c.log.Warn("the last checkpoint is not copied yet: the place for it does not answer", "to", c.to)
	}
}
