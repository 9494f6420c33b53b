package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/enginetest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/scorecard/score"
)

// wrongClock is the clock of a node, as far off as somebody has set it.
type wrongClock struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *wrongClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Round(0).Add(c.off)
}

func (c *wrongClock) set(off time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = off
}

const day = 24 * time.Hour

// clockFaults are what happens to the clock of a node, from some moment on.
var clockFaults = []struct {
	name string
	do   func(t *testing.T, c *wrongClock, rnd *rand.Rand, over chan struct{})
}{
	{"a day ahead", func(_ *testing.T, c *wrongClock, _ *rand.Rand, _ chan struct{}) { c.set(day) }},
	{"a day behind", func(_ *testing.T, c *wrongClock, _ *rand.Rand, _ chan struct{}) { c.set(-day) }},
	{"stepping", func(_ *testing.T, c *wrongClock, rnd *rand.Rand, over chan struct{}) {
		for tick := time.NewTicker(time.Second); ; {
			select {
			case <-tick.C:
				c.set(time.Duration(rnd.Int64N(int64(2*day))) - day)
			case <-over:
				tick.Stop()
				return
			}
		}
	}},
	{"suspended for ten minutes", nil}, // see clockCase
}

// TestClocks is check 15: a clock that is a day off, that is set each second, or
// a node that sleeps for ten minutes changes no result, and makes no attempt early, no
// deadline pass, nothing wait longer.
func TestClocks(t *testing.T) {
	failures, cases := 0, 0
	for i := range score.N(16) {
		what, victim := clockFaults[i%len(clockFaults)].name, []string{"a", "b"}[i/len(clockFaults)%2]
		cases++
		if !t.Run(fmt.Sprintf("%d, %s %s", i, victim, what), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clockCase(t, i%len(clockFaults), victim, rand.New(rand.NewPCG(score.Seed(), uint64(i))))
			})
		}) {
			failures++
		}
	}
	score.Report(t, float64(failures), fmt.Sprintf("%d cases", cases))
}

// The times of a case.
const (
	clockDelay    = 10 * time.Minute // between attempts, a fifth more or less
	clockPatience = time.Hour
	clockLimit    = 3 * time.Hour // for all of it
)

func clockCase(t *testing.T, fault1 int, victim string, rnd *rand.Rand) {
	clock := new(wrongClock)
	p := newPair(t, func(n *node) {
		n.limits = engine.Config{Patience: clockPatience}
		if n.name == victim {
			n.limits.Clock = clock.now
		}
		for _, r := range n.rules {
			r.Retry = engine.Retry{Delay: clockDelay, Factor: 1}
		}
	})
	var mu sync.Mutex
	var attempts []time.Time
	waited := []bool{false} // for each attempt, whether it has a delay to wait for: not after a lost connection
	losses, asleep := 1+rnd.IntN(3), false
	places := []enginetest.Place{enginetest.Asking, enginetest.Answering, enginetest.Block}
	next := places[rnd.IntN(len(places))]
	faults := rand.New(rand.NewPCG(rnd.Uint64(), 16)) // guarded by mu
	p.wire.Fault = func(where enginetest.Place, c enginetest.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if where == enginetest.Asking && c.Move == lifecycle.Prepare {
			attempts, waited = append(attempts, time.Now()), append(waited, true)
		}
		if asleep {
			waited[len(attempts)] = false
			return fault.Concluded("call", fault.DeadPeer, "nothing is heard")
		}
		if where == next && losses > 0 && (where == enginetest.Block || c.Move == lifecycle.Transfer) {
			losses--
			next = places[faults.IntN(len(places))]
			return fault.Concluded("call", fault.Canceled, "the call was ended")
		}
		return nil
	}
	rule := []string{"push", "pull"}[rnd.IntN(2)]
	from, to := "a", "b"
	if rule == "pull" {
		from, to = "b", "a"
	}
	content := p.file(from, "x", 1<<20+crashSize) // more than comes with the first call: that its bytes are lost is another call
	over := make(chan struct{})
	var wrong sync.WaitGroup
	wrong.Go(func() {
		select {
		case <-time.After(time.Duration(rnd.Int64N(int64(clockDelay)))):
		case <-over:
			return
		}
		if do := clockFaults[fault1].do; do != nil {
			do(t, clock, rand.New(rand.NewPCG(rnd.Uint64(), 15)), over)
			return
		}
		const nap = 10 * time.Minute
		mu.Lock()
		asleep = true
		mu.Unlock()
		time.Sleep(nap)
		clock.set(nap) // what it counts with has stood still
		mu.Lock()
		asleep = false
		mu.Unlock()
	})
	ref := p.submit(rule, "x", "y")
	began := time.Now()
	a, b := p.endWithin(ref, lifecycle.Done, clockLimit)
	close(over)
	wrong.Wait()
	p.has(to, "y", content)
	for i := 1; i < len(attempts); i++ {
		if gap := attempts[i].Sub(attempts[i-1]); waited[i] && gap < clockDelay*8/10 {
			t.Errorf("attempt %d came %v after the one before", i+1, gap)
		}
	}
	for _, n := range []struct {
		at  *engine.Engine
		ref store.Ref
	}{{p.nodes["a"].engine, ref}, {p.nodes["b"].engine, other(ref)}} {
		entries, err := n.at.Events(t.Context(), n.ref)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Failure.Kind == fault.Deadline {
				t.Errorf("%s: %s", e.Event, e.Failure.Cause)
			}
		}
	}
	if a.Attempt != b.Attempt || int(a.Attempt) != len(attempts) {
		t.Errorf("attempts: %d, %d, %d calls", a.Attempt, b.Attempt, len(attempts))
	}
	t.Logf("%d attempts in %v", len(attempts), time.Since(began))
}

// TestClockAtStart: a node that starts with a wrong clock, which is set right a little later, keeps nothing waiting
// for as long as the clock was wrong, whatever it waits for; only what has a start time has it.
func TestClockAtStart(t *testing.T) {
	for _, off := range []time.Duration{-400 * day, 400 * day} {
		for _, written := range []bool{false, true} { // whether the clock is wrong when dates are written, or when they are read
			t.Run(fmt.Sprint(off, written), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					clock := new(wrongClock)
					p := newPair(t, func(n *node) {
						n.limits = engine.Config{Patience: 48 * time.Hour}
						if n.name == "a" {
							n.limits.Clock = clock.now
						}
					})
					if written {
						clock.set(off)
					}
					p.stop("b")
					p.file("a", "x", 10)
					p.file("a", "z", 10)
					p.file("b", "w", 1<<20+crashSize)
					waits := p.submit("push", "x", "y")
					late, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: "b", Rule: "push", Source: path(t, "z"), NotAt: time.Now().Add(10 * day)})
					if err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					p.stop("a")
					clock.set(0)
					if !written {
						clock.set(off)
					}
					p.start("a")
					p.start("b")
					time.Sleep(time.Minute)
					clock.set(0)
					p.endWithin(waits, lifecycle.Done, time.Hour)
					p.endWithin(store.RefOf(&late), lifecycle.Done, 11*day)
				})
			})
		}
	}
}

// TestDownPatience: a node that was down for longer than its patience gives nobody up who had no chance to call.
func TestDownPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(n *node) { n.limits.Patience = 2 * time.Hour })
		p.file("a", "x", crashSize)
		reached, open := gateOn(p)
		ref := p.submit("push", "x", "y")
		<-reached
		p.nodes["a"].gate.Shut()
		close(open)
		synctest.Wait()
		p.stop("a")
		if r, _ := p.nodes["b"].engine.Get(t.Context(), other(ref)); r.State != lifecycle.Interrupted {
			t.Fatal(r.State)
		}
		p.stop("b")
		time.Sleep(5 * time.Hour)
		p.start("b")
		time.Sleep(10 * time.Minute)
		p.start("a")
		p.endWithin(ref, lifecycle.Done, time.Hour)
	})
}

// TestRetentionOfShortLives: what is older than the retention is purged by a node whose processes do not live for an
// hour, and nothing younger is.
func TestRetentionOfShortLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(n *node) { n.limits.Retention, n.limits.Failed = 3*time.Hour, 3*time.Hour })
		p.file("a", "x", crashSize)
		done, failed := p.submit("push", "x", "y"), p.submit("push", "absent", "z")
		p.end(done, lifecycle.Done)
		if r, err := p.nodes["a"].engine.Wait(t.Context(), failed); err != nil || r.State != lifecycle.InError {
			t.Fatal(r.State, err)
		}
		for age := time.Duration(0); age < 5*time.Hour; age += 50 * time.Minute {
			p.stop("a")
			p.start("a")
			time.Sleep(50 * time.Minute)
			for _, ref := range []store.Ref{done, failed} {
				_, err := p.nodes["a"].engine.Get(t.Context(), ref)
				if gone := fault.KindOf(err) == fault.NotFound; age < 2*time.Hour && gone || age > 3*time.Hour && !gone {
					t.Errorf("%v is gone after %v: %v, %v", ref.Key.ID, age+50*time.Minute, gone, err)
				}
			}
		}
	})
}

// TestClockPutOff: what an error task of the requested end has put off is served when it is due, and not before, wherever that
// end's clock is set meanwhile.
func TestClockPutOff(t *testing.T) {
	for _, off := range []time.Duration{-day, day} {
		t.Run(off.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock, f := new(wrongClock), &failing{}
				p := newPair(t, func(n *node) {
					if n.name == "b" {
						n.limits.Clock = clock.now
						n.rules["push"].Receiver = engine.Lists{
							Post:  []task.Step{{Name: "failing", Task: f, Timeout: time.Minute}},
							Error: tasks(t, task.Table{Task: "reschedule", Delay: task.Duration(10 * time.Minute)}),
						}
					}
				})
				content := p.file("a", "x", 10)
				ref := p.submit("push", "x", "y")
				time.Sleep(time.Minute)
				clock.set(off)
				f.good.Store(true)
				if _, err := p.nodes["a"].engine.Resume(t.Context(), ref); err != nil { // it calls at once
					t.Fatal(err)
				}
				time.Sleep(7 * time.Minute)
				if n := f.runs.Load(); n != 1 {
					t.Errorf("%d runs of the task in 8 minutes, the delay is 10", n)
				}
				p.endWithin(ref, lifecycle.Done, 10*time.Minute)
				p.has("b", "y", content)
			})
		})
	}
}

// TestStartInZone: a start time is held to the rule's windows on the node's clock, in whatever zone it came.
func TestStartInZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time begins on a Saturday, 2000-01-01 00:00 UTC
		w, err := engine.ParseWindow("Mon 20:00-23:00")
		if err != nil {
			t.Fatal(err)
		}
		zone := time.FixedZone("", -5*60*60)
		p := newPair(t, func(n *node) {
			n.limits.Clock = func() time.Time { return time.Now().In(zone) }
			n.rules["push"].Retry.Windows = engine.Windows{w}
		})
		p.file("a", "x", 100)
		at := time.Date(2000, 1, 3, 21, 0, 0, 0, zone) // Tuesday in UTC
		r, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: "b", Rule: "push", Source: path(t, "x"), Target: path(t, "y"), NotAt: at.UTC()})
		if err != nil {
			t.Fatal(err)
		}
		ref := store.RefOf(&r)
		if x, err := p.nodes["a"].engine.Explain(t.Context(), ref); err != nil || !x.At.Equal(at) || x.Summary != "waits for its start time" {
			t.Errorf("it %q until %v, want %v, %v", x.Summary, x.At, at, err)
		}
		p.stop("a") // what is read from the store has no zone either
		p.start("a")
		end, _ := p.endWithin(ref, lifecycle.Done, 14*day)
		if end.Changed.Before(at) || end.Changed.After(at.Add(time.Minute)) {
			t.Errorf("it ran at %v, want %v", end.Changed.In(zone), at)
		}
	})
}

// TestStartTimeAfterAPause: what has not begun is not begun early because it was paused, or cancelled, meanwhile; a resume
// of what waits for its start time begins it.
func TestStartTimeAfterAPause(t *testing.T) {
	for _, c := range []struct {
		name string
		stop func(*engine.Engine, context.Context, store.Ref) (lifecycle.Record, error)
		on   func(*engine.Engine, context.Context, store.Ref) (lifecycle.Record, error)
	}{
		{"paused", (*engine.Engine).Pause, (*engine.Engine).Resume},
		{"cancelled", func(e *engine.Engine, ctx context.Context, ref store.Ref) (lifecycle.Record, error) {
			return e.Cancel(ctx, ref, "")
		}, (*engine.Engine).Retry},
	} {
		for _, early := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, ", early ", early), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newPair(t, nil)
					p.file("a", "x", 10)
					at, e := time.Now().Add(5*time.Hour), p.nodes["a"].engine
					r, _, err := e.Submit(t.Context(), engine.Order{Partner: "b", Rule: "push", Source: path(t, "x"), NotAt: at})
					if err != nil {
						t.Fatal(err)
					}
					ref := store.RefOf(&r)
					time.Sleep(30 * time.Minute)
					if _, err := c.stop(e, t.Context(), ref); err != nil {
						t.Fatal(err)
					}
					time.Sleep(30 * time.Minute)
					if r, err = c.on(e, t.Context(), ref); err != nil || r.State != lifecycle.ToSubmit || r.Reason != lifecycle.Scheduled || !r.Due.Equal(at) {
						t.Errorf("%v, %v, due %v, %v", r.State, r.Reason, r.Due, err)
					}
					time.Sleep(time.Hour)
					if st, err := e.Get(t.Context(), ref); err != nil || st.Attempt != 0 {
						t.Errorf("it has begun, %v", err)
					}
					if early {
						at = time.Now()
						if _, err := e.Resume(t.Context(), ref); err != nil {
							t.Fatal(err)
						}
					}
					end, _ := p.endWithin(ref, lifecycle.Done, 7*24*time.Hour)
					if end.Changed.Before(at) || end.Changed.After(at.Add(time.Minute)) {
						t.Errorf("it ran at %v, want %v", end.Changed, at)
					}
				})
			})
		}
	}
}
