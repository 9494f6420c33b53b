package rpc

import (
	"os"
	"sync"
	"time"
)

// carryDeadline aborts the stream when its time has come.
type carryDeadline struct {
	mu     sync.Mutex
	timer  *time.Timer
	passed bool
}

func (d *carryDeadline) set(t time.Time, abort func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if t.IsZero() {
		return
	}
	d.timer = time.AfterFunc(time.Until(t), func() {
		d.mu.Lock()
		d.passed = true
		d.mu.Unlock()
		abort()
	})
}

func (d *carryDeadline) stop() { d.set(time.Time{}, nil) }

// explain is err, or the deadline that caused it.
func (d *carryDeadline) explain(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.passed {
		return os.ErrDeadlineExceeded
	}
	return err
}
