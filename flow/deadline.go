package flow

import (
	"sync"
	"time"
)

// timeLimit is one deadline that can be moved.
type timeLimit struct {
	mu    sync.Mutex
	timer *time.Timer
	done  chan struct{} // closed when the deadline has passed
}

func (d *timeLimit) init() { d.done = make(chan struct{}) }

func (d *timeLimit) expired() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done
}

func (d *timeLimit) passed() bool {
	select {
	case <-d.expired():
		return true
	default:
		return false
	}
}

func (d *timeLimit) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	select {
	case <-d.done:
		d.done = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return
	}
	done := d.done
	if wait := time.Until(t); wait > 0 {
		d.timer = time.AfterFunc(wait, func() { d.expire(done) })
		return
	}
	close(done)
}

func (d *timeLimit) expire(done chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done == done {
		close(done)
	}
}
