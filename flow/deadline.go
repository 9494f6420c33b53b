package flow

import (
	"sync"
	"time"
)

// timeLimit is one deadline that can be moved. The zero value is none.
type timeLimit struct {
	mu    sync.Mutex
	timer *time.Timer
	turn  int           // counts calls of set: a timer may fire while the next is on its way
	done  chan struct{} // closed when the deadline has passed; nil until somebody waits for that
}

func (d *timeLimit) expired() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.channel()
}

// channel is done. mu is held.
func (d *timeLimit) channel() chan struct{} {
	if d.done == nil {
		d.done = make(chan struct{})
	}
	return d.done
}

func (d *timeLimit) passed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.done:
		return true
	default: // nil too
		return false
	}
}

func (d *timeLimit) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	select {
	case <-d.done:
		d.done = nil
	default:
	}
	if t.IsZero() {
		return
	}
	if wait := time.Until(t); wait > 0 {
		turn := d.turn
		d.timer = time.AfterFunc(wait, func() { d.expire(turn) })
		return
	}
	close(d.channel())
}

func (d *timeLimit) expire(turn int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.turn == turn {
		close(d.channel())
	}
}
