package engine_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/enginetest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/scorecard/score"
)

// How long things take on the wire of an outage.
const (
	outageCall  = 20 * time.Millisecond
	outageBlock = 5 * time.Millisecond
	outageDial  = time.Second // that finds nobody
)

// outage is what is seen on the wire between a and b.
type outage struct {
	mu       sync.Mutex
	away     bool
	dials    int // while b is away
	dialling int
	most     int // of dials at a time
	back     time.Time
	asked    int // Requests
	rest     int // calls while b is away
}

func (o *outage) fault(where enginetest.Place, c enginetest.Call) error {
	switch {
	case where == enginetest.Dialling && c.To == "b":
		return o.dial()
	case where == enginetest.Block:
		time.Sleep(outageBlock)
	case where == enginetest.Asking:
		time.Sleep(outageCall)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.To != "b" || where == enginetest.Dialling {
		return nil
	}
	if o.away {
		o.rest++
		return fault.Concluded("call", fault.Lost, "the connection was cut")
	}
	if where == enginetest.Asking && c.Move == lifecycle.Prepare {
		o.asked++
	}
	return nil
}

func (o *outage) dial() error {
	o.mu.Lock()
	o.dialling++
	o.most = max(o.most, o.dialling)
	away := o.away
	if away {
		o.dials++
	} else if o.back.IsZero() {
		o.back = time.Now()
	}
	o.mu.Unlock()
	if away {
		time.Sleep(outageDial)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dialling--
	if away {
		return fault.Concluded("dial", fault.Lost, "nobody is there")
	}
	return nil
}

func (o *outage) set(away bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.away, o.back = away, time.Time{}
}

// inParallel does n things, 500 at a time, so that they share commits.
func inParallel(n int, do func(i int)) {
	slots := make(chan struct{}, 500)
	var all sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			do(i)
		})
	}
	all.Wait()
}

// TestOutage is check 23: a partner goes away with requests running, thousands
// are queued for an hour, and it comes back.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := score.N(300)
		p := newGroup(t, func(n *node) { n.rules["push"].Retry = engine.Retry{Delay: 10 * time.Second} }, "a", "b", "c")
		o := new(outage)
		p.wire.Fault = o.fault
		p.file("a", "x", 1000)
		var number atomic.Int64
		submit := func(partner string) store.Ref {
			sent := number.Add(1)
			r, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: partner, Rule: "push", Source: path(t, "x"), Target: path(t, fmt.Sprintf("d%d/%d", sent%100, sent))})
			if err != nil {
				t.Error(err)
			}
			return store.RefOf(&r)
		}
		wait := func(ref store.Ref) {
			if r, err := p.nodes["a"].engine.Wait(t.Context(), ref); err != nil || r.State != lifecycle.Done {
				t.Errorf("%v %v %v", r.State, r.Failure, err)
			}
		}
		drained := func(refs []store.Ref) {
			for _, ref := range refs {
				wait(ref)
			}
		}
		many := func(n int) (refs []store.Ref) {
			var mu sync.Mutex
			inParallel(n, func(int) {
				ref := submit("b")
				mu.Lock()
				defer mu.Unlock()
				refs = append(refs, ref)
			})
			return refs
		}
		// others has c sent requests until stop is closed, and returns how long 99 of 100 took.
		others := func(every time.Duration, stop chan struct{}) time.Duration {
			var mu sync.Mutex
			var took []time.Duration
			var all sync.WaitGroup
			for over := false; !over; {
				all.Go(func() {
					began := time.Now()
					wait(submit("c"))
					mu.Lock()
					defer mu.Unlock()
					took = append(took, time.Since(began))
				})
				select {
				case <-time.After(every):
				case <-stop:
					over = true
				}
			}
			all.Wait()
			slices.Sort(took)
			return took[len(took)*99/100]
		}
		during := func(every time.Duration, do func()) (p99 time.Duration) {
			stop := make(chan struct{})
			var beside sync.WaitGroup
			beside.Go(func() { p99 = others(every, stop) })
			do()
			close(stop)
			beside.Wait()
			return p99
		}

		alone := during(50*time.Millisecond, func() { time.Sleep(3 * time.Second) })
		began := time.Now()
		drained(many(requests))
		normal := time.Since(began)

		running := many(200) // more than run at a time
		time.Sleep(2 * outageCall)
		o.set(true)
		queued := many(requests)
		away := during(5*time.Second, func() { time.Sleep(time.Hour) }) // often enough for somebody to look at b while it is dialled
		o.mu.Lock()
		dials, rest := o.dials, o.rest
		o.mu.Unlock()
		o.set(false)
		drain := during(50*time.Millisecond, func() { drained(append(running, queued...)) })
		took := time.Since(o.back)

		if o.most > 1 || dials > 100 {
			t.Errorf("%d dials in the hour, %d at a time", dials, o.most)
		}
		if rest > 3*engine.DefaultConcurrent {
			t.Errorf("%d calls while nobody was there", rest)
		}
		if most := 2*requests + 200 + 3*engine.DefaultConcurrent; o.asked > most {
			t.Errorf("%d Requests for %d requests", o.asked, 2*requests+200)
		}
		share := float64(normal) / float64(requests) * float64(requests+len(running)) / float64(took)
		if share < 0.8 {
			t.Errorf("drained at %.0f %% of the normal rate", 100*share)
		}
		ratio := float64(max(away, drain)) / float64(alone)
		if ratio > 2 {
			t.Errorf("99 of 100 of another partner's requests took %v alone, %v while b was away, %v while it caught up", alone, away, drain)
		}
		score.Report(t, float64(dials), fmt.Sprintf("at most %d at a time; %d requests drained in %v, at %.0f %% of the normal rate; the other partner's p99 is %.2f times that of before",
			o.most, requests+len(running), took.Round(time.Millisecond), 100*share, ratio))
	})
}

// TestShortOutage: after a lost connection the request goes on when the partner is there again, not
// after the rule's delay; where nothing comes of that, the delay and its attempts hold.
func TestShortOutage(t *testing.T) {
	const delay = time.Hour
	for _, c := range []struct {
		name   string
		losses int // connections in a row, none with progress
		least  time.Duration
		state  lifecycle.State
	}{
		{"once", 1, 0, lifecycle.Done},
		{"twice", 2, delay * 8 / 10, lifecycle.Done},
		{"always", 1000, 3 * delay * 8 / 10, lifecycle.InError},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, func(n *node) {
					for _, r := range n.rules {
						r.Retry = engine.Retry{Delay: delay, Factor: 1, Attempts: 5}
					}
				})
				var left atomic.Int64
				left.Store(int64(c.losses))
				p.wire.Fault = func(where enginetest.Place, call enginetest.Call) error {
					if where == enginetest.Asking && call.Move == lifecycle.Prepare && left.Add(-1) >= 0 {
						return fault.Concluded("call", fault.Lost, "the connection was cut")
					}
					return nil
				}
				content := p.file("a", "x", 1<<20+crashSize)
				began := time.Now()
				r, err := p.nodes["a"].engine.Wait(t.Context(), p.submit("push", "x", "y"))
				if err != nil || r.State != c.state {
					t.Errorf("%v, %v, %v", r.State, r.Failure, err)
				}
				if took := time.Since(began); took < c.least || took > c.least*3/2+time.Minute {
					t.Errorf("it took %v, at least %v wanted, and not much more", took, c.least)
				}
				if c.state == lifecycle.Done {
					p.has("b", "y", content)
				}
			})
		})
	}
}
