package peer

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// TestSingleFlight: many calls to a partner that is down make one connection
// attempt at a time, share how it went, and nothing goes on dialling after.
func TestSingleFlight(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	var now, most, all, begun atomic.Int32
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Add(1)
			most.Store(max(most.Load(), now.Add(1)))
			wg.Go(func() {
				for begun.Load() < 200 { // all share the first
					time.Sleep(time.Millisecond)
				}
				time.Sleep(50 * time.Millisecond)
				now.Add(-1)
				c.Close()
			})
		}
	})
	p := start(t, "tls", func(p *pair) { p.entry.Address = "tls://" + l.Addr().String() }, func(p *pair) { p.scheme = "tls" })
	errs := make(chan error, 200)
	for range cap(errs) {
		go func() {
			begun.Add(1)
			_, err := p.line.Call(within(t), "paris", ask(lifecycle.Prepare), nil)
			errs <- err
		}()
	}
	for range cap(errs) {
		wantKind(t, <-errs, fault.Lost)
	}
	if most.Load() != 1 || all.Load() > 20 {
		t.Errorf("200 calls made %d attempts, %d at a time", all.Load(), most.Load())
	}
	before := all.Load()
	time.Sleep(1500 * time.Millisecond) // gRPC would try again after a second
	if all.Load() != before {
		t.Errorf("%d attempts while nobody calls", all.Load()-before)
	}
	l.Close()
	wg.Wait()
}

// TestFlightIsShared: 200 calls at the same time are one attempt, and one session
// when it succeeds.
func TestFlightIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, "pipe")
		errs := make(chan error, 200)
		for range cap(errs) {
			go func() {
				_, err := p.line.Call(within(t), "paris", ask(lifecycle.Prepare), nil)
				errs <- err
			}()
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if p.asked != 1 || p.fake.count() != 200 {
			t.Errorf("%d attempts for %d calls", p.asked, p.fake.count())
		}
		p.line.Forget("paris")

		dead := carrier.NewPipe() // nobody accepts
		p.mu.Lock()
		p.pipe = dead
		p.mu.Unlock()
		for range cap(errs) {
			go func() {
				_, err := p.line.Call(within(t), "paris", ask(lifecycle.Prepare), nil)
				errs <- err
			}()
		}
		for range cap(errs) {
			wantKind(t, <-errs, fault.Lost)
		}
		if p.asked != 2 {
			t.Errorf("%d attempts for a partner that is silent", p.asked-1)
		}
	})
}

// TestDeadSession: a partner that vanishes without a word ends the calls on its
// session, and when they have ended nothing dials on.
func TestDeadSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, "pipe")
		if _, err := p.line.Call(t.Context(), "paris", ask(lifecycle.Prepare), nil); err != nil {
			t.Fatal(err)
		}
		p.line.mu.Lock()
		r := p.line.roads["paris"]
		p.line.mu.Unlock()
		r.session.Close()
		if _, err := p.line.Reach(t.Context(), "paris"); err != nil {
			t.Errorf("after a session that has ended: %v", err)
		}
		p.line.mu.Lock()
		next, old := p.line.roads["paris"], len(p.line.old)
		p.line.mu.Unlock()
		if next == r || old != 0 {
			t.Errorf("the road is the same: %t; %d old ones are kept", next == r, old)
		}
	})
}
