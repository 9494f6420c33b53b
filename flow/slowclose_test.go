package flow

import (
	"context"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
)

// reluctant makes connections whose Close waits, as that of TLS whose peer does not
// read, or of a command that does not end.
type reluctant struct {
	*flowtest.Link
	single  bool
	closing chan struct{} // a Close has begun; capacity 10
	let     chan struct{} // until this is closed they wait
	open    atomic.Int32
	most    atomic.Int32 // connections at once
}

func (d *reluctant) Single() bool { return d.single }

func (d *reluctant) Dial(ctx context.Context) (net.Conn, error) {
	c, err := d.Link.Dial(ctx)
	if err == nil {
		d.most.Store(max(d.most.Load(), d.open.Add(1)))
	}
	return slowToClose{c, d}, err
}

type slowToClose struct {
	net.Conn
	d *reluctant
}

func (c slowToClose) Close() error {
	c.d.closing <- struct{}{}
	<-c.d.let
	c.d.open.Add(-1)
	return c.Conn.Close()
}

// TestSlowClose: while connections are being closed the session answers, and Close waits for
// them. A session of one connection does not dial before the last is closed.
func TestSlowClose(t *testing.T) {
	for _, single := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			l := flowtest.NewLink(flowtest.LinkConfig{})
			d := &reluctant{Link: l, single: single, closing: make(chan struct{}, 10), let: make(chan struct{})}
			near, far, stop := joinedBy(t, l, d, Config{})
			defer stop()
			l.Cut()
			<-d.closing
			free := false
			for range 1_000_000 { // whoever has the lock for a moment leaves it
				runtime.Gosched()
				if free = near.mu.TryLock(); free {
					near.mu.Unlock()
					break
				}
			}
			if !free {
				t.Error("the session is locked while its connection is closed")
				close(d.let)
				return
			}
			time.Sleep(5 * time.Second)
			close(d.let)
			time.Sleep(5 * time.Second)
			if near.Stats().Epoch != 2 || far.Stats().Epoch != 2 || d.open.Load() != 1 {
				t.Errorf("epoch %d and %d, %d connections", near.Stats().Epoch, far.Stats().Epoch, d.open.Load())
			}
			if n := d.most.Load(); single && n != 1 {
				t.Errorf("%d connections at once", n)
			}
			d.let = make(chan struct{})
			go func() { time.Sleep(5 * time.Second); close(d.let) }()
			near.Close()
			if n := d.open.Load(); n != 0 {
				t.Errorf("%d connections are open after Close", n)
			}
		})
	}
}
