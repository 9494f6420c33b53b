package engine_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/enginetest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
)

// What waits comes when it is due, not before, and not all at once.

// failing is a task that fails until it is mended.
type failing struct {
	runs atomic.Int32
	good atomic.Bool
}

func (f *failing) Run(context.Context, *task.On) (task.Result, error) {
	f.runs.Add(1)
	if f.good.Load() {
		return task.Result{}, nil
	}
	return task.Result{}, fault.New("x", fault.Refused, "no")
}

// TestRescheduleWindows: what an error task makes due again in a window is called for when that opens,
// and neither before nor, if it fails there too, outside of the next one.
func TestRescheduleWindows(t *testing.T) {
	for _, end := range []string{"a", "b"} { // sender, receiver
		t.Run(end, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { rescheduleWindows(t, end) }) })
	}
}

func rescheduleWindows(t *testing.T, end string) {
	window, err := quantity.ParseWindow("22:00-23:00")
	if err != nil {
		t.Fatal(err)
	}
	f := &failing{}
	p := newPair(t, func(n *node) {
		failing := []task.Step{{Name: "failing", Task: f, Timeout: time.Minute}}
		later := tasks(t, task.Table{Task: "reschedule", Delay: task.Duration(10 * time.Minute), Windows: []quantity.Window{window}})
		switch {
		case n.name != end:
		case end == "a":
			n.rules["push"].Sender = engine.Lists{Pre: failing, Error: later}
		default:
			n.rules["push"].Receiver = engine.Lists{Post: failing, Error: later}
		}
	})
	content := p.file("a", "x", 10)
	midnight := time.Now().Truncate(24 * time.Hour).In(time.Local)
	midnight = time.Date(midnight.Year(), midnight.Month(), midnight.Day(), 0, 0, 0, 0, time.Local)
	at := func(days, hour, minute int) {
		time.Sleep(time.Until(midnight.AddDate(0, 0, days).Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)))
	}
	at(1, 12, 0)
	ref := p.submit("push", "x", "y")
	at(1, 21, 59)
	if n := f.runs.Load(); n != 1 {
		t.Errorf("%d runs before the window", n)
	}
	if r, err := p.nodes["a"].engine.Get(t.Context(), ref); err != nil || r.State != lifecycle.ToSubmit && r.State != lifecycle.Interrupted || r.Due.In(time.Local).Hour() != 22 {
		t.Errorf("%v, due %v, %v", r.State, r.Due, err)
	}
	if x, err := p.nodes["a"].engine.Explain(t.Context(), ref); end == "a" && (err != nil || !strings.Contains(x.Summary, "an error task")) {
		t.Errorf("it is said that it %q, %v", x.Summary, err)
	}
	at(1, 22, 5)
	if n := f.runs.Load(); n != 2 {
		t.Errorf("%d runs when the window has opened", n)
	}
	at(2, 21, 59)
	night := f.runs.Load()
	if night < 5 || night > 7 { // each ten minutes, while it was open
		t.Errorf("%d runs after the first night", night)
	}
	f.good.Store(true)
	at(2, 22, 5)
	p.end(ref, lifecycle.Done)
	p.has("b", "y", content)
	if n := f.runs.Load(); n != night+1 {
		t.Errorf("%d runs in all, %d after the first night", n, night)
	}
}

// TestRescheduleFar: what an error task of the requested end has put off by days, longer than a requester waits and than
// that end waits for one, is not run before its time: not when the requester calls each day, not when its operator
// resumes, and not after a restart. Its own operator's resume goes on at once.
func TestRescheduleFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time begins on a Saturday, 2000-01-01 00:00 UTC
		window, err := quantity.ParseWindow("Thu 02:00-23:00")
		if err != nil {
			t.Fatal(err)
		}
		f := &failing{}
		p := newPair(t, func(n *node) {
			n.limits = engine.Config{Patience: time.Hour}
			if n.name == "b" {
				n.rules["push"].Receiver = engine.Lists{
					Post:  []task.Step{{Name: "failing", Task: f, Timeout: time.Minute}},
					Error: tasks(t, task.Table{Task: "reschedule", Delay: task.Duration(10 * time.Minute), Windows: []quantity.Window{window}}),
				}
			}
		})
		content, opens := p.file("a", "x", 10), time.Date(2000, 1, 6, 2, 0, 0, 0, time.Local)
		ref, early := p.submit("push", "x", "y"), p.submit("push", "x", "early")
		time.Sleep(time.Minute)
		calls := len(p.wire.Calls())
		for i := range 4 {
			if i == 2 {
				p.stop("b")
				time.Sleep(time.Minute)
				p.start("b")
			}
			if _, err := p.nodes["a"].engine.Resume(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
			time.Sleep(22 * time.Hour)
			x, err := p.nodes["b"].engine.Explain(t.Context(), other(ref))
			if err != nil || !x.At.Equal(opens) || !strings.Contains(x.Summary, "error task") || x.State != lifecycle.Interrupted || x.Delays != 1 {
				t.Errorf("day %d: %q at %v, %v, %d delays, %v", i+1, x.Summary, x.At, x.State, x.Delays, err)
			}
		}
		if n := f.runs.Load(); n != 2 {
			t.Errorf("%d runs of two requests' task before the window", n)
		}
		if n := len(p.wire.Calls()) - calls; n < 7 || n > 100 {
			t.Errorf("%d calls in four days", n)
		}
		f.good.Store(true)
		if _, err := p.nodes["b"].engine.Resume(t.Context(), other(early)); err != nil {
			t.Fatal(err)
		}
		if _, err := p.nodes["a"].engine.Resume(t.Context(), early); err != nil {
			t.Fatal(err)
		}
		p.endWithin(early, lifecycle.Done, time.Minute)
		time.Sleep(time.Until(opens))
		if n := f.runs.Load(); n != 3 {
			t.Errorf("%d runs when the window opens", n)
		}
		p.endWithin(ref, lifecycle.Done, time.Minute)
		p.has("b", "y", content)
	})
}

// TestRescheduleThere: what an error task of the requested end makes due again is
// called for again when it is due, and not for ever.
func TestRescheduleThere(t *testing.T) {
	reschedule := func(f *failing, attempts int) func(*node) {
		return func(n *node) {
			if n.name == "b" {
				n.rules["push"].Receiver = engine.Lists{
					Post:  []task.Step{{Name: "failing", Task: f, Timeout: time.Minute}},
					Error: tasks(t, task.Table{Task: "reschedule", Delay: task.Duration(10 * time.Minute), Attempts: attempts}),
				}
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		f := &failing{}
		p := newPair(t, reschedule(f, 0))
		content := p.file("a", "x", 10)
		ref := p.submit("push", "x", "y")
		time.Sleep(9 * time.Minute)
		if n := f.runs.Load(); n != 1 {
			t.Errorf("%d runs of the task in 9 minutes, the delay is 10", n)
		}
		if r, err := p.nodes["a"].engine.Get(t.Context(), ref); err != nil || r.State != lifecycle.Interrupted || r.Failure.Kind != fault.Overloaded || r.Streak > 0 {
			t.Errorf("%v %+v, streak %d, %v", r.State, r.Failure, r.Streak, err)
		}
		time.Sleep(30 * time.Minute)
		if n := f.runs.Load(); n < 3 || n > 4 {
			t.Errorf("%d runs of the task in 39 minutes, the delay is 10", n)
		}
		f.good.Store(true)
		p.endWithin(ref, lifecycle.Done, time.Hour)
		p.has("b", "y", content)
	})
	synctest.Test(t, func(t *testing.T) {
		f := &failing{}
		p := newPair(t, reschedule(f, 3))
		p.file("a", "x", 10)
		ref := p.submit("push", "x", "y")
		a, _ := p.endWithin(ref, lifecycle.InError, 2*time.Hour)
		if n := f.runs.Load(); n != 4 || a.Failure.Kind != fault.Refused {
			t.Errorf("%d runs of the task, 3 after the first are allowed; %+v", n, a.Failure)
		}
		if a.Size != 10 || a.Rank != 10 {
			t.Errorf("the sender knows of %d of %d bytes; all 10 are there", a.Rank, a.Size)
		}
		if _, err := p.nodes["a"].engine.Retry(t.Context(), ref); err != nil { // counted anew
			t.Fatal(err)
		}
		p.endWithin(ref, lifecycle.InError, 2*time.Hour)
		if n := f.runs.Load(); n != 8 {
			t.Errorf("%d runs of the task after an operator's retry", n)
		}
	})
}

// TestResumeThere: the requester soon hears that the other end's operator goes on.
func TestResumeThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, nil)
		content := p.file("a", "x", crashSize)
		reached, open := gateOn(p)
		ref := p.submit("push", "x", "y")
		<-reached
		go func() { time.Sleep(time.Second); close(open) }()
		if _, err := p.nodes["b"].engine.Pause(t.Context(), other(ref)); err != nil {
			t.Fatal(err)
		}
		before := len(p.wire.Calls())
		time.Sleep(6 * time.Hour)
		if n := len(p.wire.Calls()) - before; n > 400 {
			t.Errorf("%d calls in six hours of pause", n)
		}
		if _, err := p.nodes["b"].engine.Resume(t.Context(), other(ref)); err != nil {
			t.Fatal(err)
		}
		p.endWithin(ref, lifecycle.Done, 4*time.Minute)
		p.has("b", "y", content)
	})
}

// TestLongTask: a task of the requested end that takes longer than a call is waited
// for, runs once, and holds no call for long.
func TestLongTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &gated{open: make(chan struct{})}
		p := newPair(t, func(n *node) {
			if n.name == "b" {
				n.rules["push"].Receiver.Post = []task.Step{{Name: "gated", Task: gate, Timeout: 5 * time.Hour}}
			}
		})
		content := p.file("a", "x", 10)
		ref := p.submit("push", "x", "y")
		time.Sleep(90 * time.Minute)
		if s, err := p.nodes["b"].engine.Get(t.Context(), other(ref)); err != nil || s.State != lifecycle.Running || s.Live == nil {
			t.Errorf("%v %+v %v", s.State, s.Live, err)
		}
		if n := len(p.wire.Calls()); n < 80 || n > 200 {
			t.Errorf("%d calls in 90 minutes", n)
		}
		close(gate.open)
		p.endWithin(ref, lifecycle.Done, 2*time.Minute)
		p.has("b", "y", content)
		if n := gate.runs.Load(); n != 1 {
			t.Errorf("the task ran %d times", n)
		}
		entries, err := p.nodes["a"].engine.Events(t.Context(), ref)
		for _, e := range entries {
			if err != nil || e.Failure.Kind != 0 && e.Failure.Kind != fault.Overloaded {
				t.Fatalf("%v %+v, %v", e.Event, e.Failure, err)
			}
		}
	})
}

// TestOverdueInTurn: requests that were overdue at a start, and for which nobody calls after it, are given up within
// the limits of what runs.
func TestOverdueInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &gated{open: make(chan struct{})}
		p := newPair(t, func(n *node) {
			n.limits = engine.Config{Patience: time.Hour, Concurrent: 3}
			n.rules["push"].Receiver.Error = []task.Step{{Name: "gated", Task: gate, Timeout: 5 * time.Hour}}
		})
		var refs []store.Ref
		for i := range byte(20) {
			a := asked(t, "a", i, lifecycle.Prepare)
			serve(t, p.nodes["b"], a, nil)
			refs = append(refs, store.Ref{Key: a.Key, Role: lifecycle.Requested})
		}
		p.stop("b")
		time.Sleep(3 * time.Hour)
		p.start("b")
		time.Sleep(time.Hour + time.Minute)
		if n := gate.most.Load(); n != 3 {
			t.Errorf("%d run at a time, 3 may", n)
		}
		close(gate.open)
		for _, ref := range refs {
			if r, err := p.nodes["b"].engine.Wait(t.Context(), ref); err != nil || r.State != lifecycle.InError || r.Failure.Kind != fault.Deadline {
				t.Errorf("%v %+v %v", r.State, r.Failure, err)
			}
		}
	})
}

// TestWindowsAnew: what waits for a window goes by the rules of a new book.
func TestWindowsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time begins on a Saturday, 2000-01-01 00:00 UTC
		w, err := engine.ParseWindow("Thu 20:00-06:00")
		if err != nil {
			t.Fatal(err)
		}
		p := newPair(t, func(n *node) { n.rules["push"].Retry.Windows = engine.Windows{w} })
		p.file("a", "x", 100)
		early, late := p.submit("push", "x", "y"), store.Ref{}
		time.Sleep(time.Hour)
		book := p.nodes["a"].engine.Book()
		change := func(ws engine.Windows) {
			rule := *book.Rules["push"]
			rule.Retry.Windows = ws
			if err := p.nodes["a"].engine.SetBook(engine.Book{Partners: book.Partners, Rules: map[string]*engine.Rule{"push": &rule}}); err != nil {
				t.Fatal(err)
			}
		}
		change(nil)
		p.endWithin(early, lifecycle.Done, time.Minute)
		p.stop("b") // one that is ready while the window shuts
		late = p.submit("push", "x", "z")
		time.Sleep(time.Hour)
		change(engine.Windows{w})
		p.start("b")
		time.Sleep(24 * time.Hour)
		if r, err := p.nodes["a"].engine.Get(t.Context(), late); err != nil || r.State == lifecycle.Done {
			t.Errorf("%v outside of its window, %v", r.State, err)
		}
		p.endWithin(late, lifecycle.Done, 7*24*time.Hour)
	})
}

// TestPurgeByWrongClock: a clock that is set ahead makes nothing old that has ended
// just now.
func TestPurgeByWrongClock(t *testing.T) {
	for name, steps := range map[string][]time.Duration{"ahead": {day}, "behind and back": {-day, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock := new(wrongClock)
				p := newPair(t, func(n *node) {
					n.limits.Retention = time.Hour
					if n.name == "b" {
						n.limits.Clock = clock.now
					}
				})
				p.file("a", "x", 10)
				for i, off := range steps {
					if i == len(steps)-1 {
						time.Sleep(55 * time.Minute)
						p.end(p.submit("push", "x", "y"), lifecycle.Done)
					}
					clock.set(off)
				}
				time.Sleep(10 * time.Minute) // the hourly purge has been there
				if n, err := p.nodes["b"].engine.Purge(t.Context(), clock.now()); err != nil || n != 0 {
					t.Errorf("%d purged, %v", n, err)
				}
				left := 0
				for range p.nodes["b"].engine.Find(t.Context(), store.Query{}) {
					left++
				}
				if left != 1 {
					t.Errorf("%d left of a record that has ended 10 minutes ago", left)
				}
				time.Sleep(2*day + 2*time.Hour)
				for s := range p.nodes["b"].engine.Find(t.Context(), store.Query{}) {
					t.Errorf("%v is there for ever", s.Changed)
				}
			})
		})
	}
}

// TestPoisonousErrorTask: an error task that ends the process each time is not run for
// ever.
func TestPoisonousErrorTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p *pair
		kill := &killing{}
		p = newPair(t, func(n *node) {
			if n.name == "a" {
				n.rules["push"].Sender = engine.Lists{
					Pre:   []task.Step{{Name: "failing", Task: &failing{}, Timeout: time.Minute}},
					Error: []task.Step{{Name: "killing", Task: kill, Timeout: time.Minute}},
				}
			}
		})
		kill.gate = func() *enginetest.Gate { return p.nodes["a"].gate }
		p.file("a", "x", 10)
		ref := p.submit("push", "x", "y")
		deaths := 0
		for over := false; !over && deaths < 10; {
			select {
			case <-p.nodes["a"].gate.Dead:
				deaths++
				p.stop("a")
				p.start("a")
			case <-time.After(time.Hour):
				over = true
			}
		}
		r, err := p.nodes["a"].engine.Get(t.Context(), ref)
		if err != nil || r.State != lifecycle.InError || deaths != 3 || r.Failure.Kind != fault.Refused {
			t.Errorf("after %d deaths: %v %v %v", deaths, r.State, r.Failure, err)
		}
	})
}

// killing is a task that ends the process.
type killing struct{ gate func() *enginetest.Gate }

func (k *killing) Run(context.Context, *task.On) (task.Result, error) {
	k.gate().Shut()
	return task.Result{}, nil
}

// TestPurgeFailedBytes: with a request that has failed goes what it has kept.
func TestPurgeFailedBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(n *node) {
			n.rules["push"].Retry = engine.Retry{Attempts: 2, Delay: time.Second}
			n.limits.SyncEvery = 64 << 10
		})
		p.wire.Fault = func(where enginetest.Place, c enginetest.Call) error {
			if where == enginetest.Block && c.Offset >= 128<<10 {
				return fault.Concluded("call", fault.Lost, "the connection was cut")
			}
			return nil
		}
		p.file("a", "x", crashSize)
		ref := p.submit("push", "x", "y")
		r, err := p.nodes["a"].engine.Wait(t.Context(), ref)
		if err != nil || r.State != lifecycle.InError {
			t.Fatal(r.State, err)
		}
		serve(t, p.nodes["b"], engine.Ask{Move: lifecycle.Mismatch, Key: ref.Key, Side: r.Side, Call: lifecycle.Call{Attempt: r.Attempt, Phase: r.Phase},
			Why: lifecycle.Failure{Kind: fault.Lost, Cause: "no connection"}}, nil)
		kept := func() int {
			all, err := os.ReadDir(p.nodes["b"].root)
			if err != nil {
				t.Fatal(err)
			}
			return len(all)
		}
		if kept() == 0 {
			t.Fatal("nothing is kept for a retry")
		}
		time.Sleep(2 * time.Hour)
		if n, err := p.nodes["b"].engine.PurgeFailed(t.Context(), time.Now()); n != 1 || err != nil || kept() != 0 {
			t.Errorf("%d purged, %d files left, %v", n, kept(), err)
		}
	})
}

// TestFailuresAreNoPoison: attempts that fail are no processes that die: not when the next one is drained, nor when
// a process dies once with it.
func TestFailuresAreNoPoison(t *testing.T) {
	for _, dies := range []bool{false, true} {
		t.Run(fmt.Sprint(dies), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, func(n *node) { n.rules["push"].Retry = engine.Retry{Attempts: 10, Delay: time.Second, Factor: 1} })
				p.file("a", "x", 10)
				var calls atomic.Int64
				fourth, goOn := make(chan bool), make(chan bool)
				p.wire.Fault = func(where enginetest.Place, c enginetest.Call) error {
					if where != enginetest.Asking || c.Move == lifecycle.Mismatch {
						return nil
					}
					switch n := calls.Add(1); {
					case n < 4:
						return fault.FromPeer("call", fault.NoSpace, "the disk is full")
					case n == 4:
						if dies {
							p.nodes["a"].gate.Shut()
						}
						close(fourth)
						<-goOn
						return fault.Concluded("call", fault.Canceled, "the call was ended")
					}
					return nil
				}
				ref := p.submit("push", "x", "y")
				<-fourth
				stopped := make(chan bool)
				go func() { p.stop("a"); close(stopped) }()
				synctest.Wait()
				close(goOn)
				<-stopped
				p.start("a")
				p.endWithin(ref, lifecycle.Done, time.Hour)
			})
		})
	}
}

// TestPoisonThere: a request whose task ends the process of the requested end is poison there, and both ends say so.
func TestPoisonThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kill := &killing{}
		p := newPair(t, func(n *node) {
			n.rules["push"].Retry = engine.Retry{Attempts: 1000, Delay: time.Second, Factor: 1}
			if n.name == "b" {
				n.rules["push"].Receiver = engine.Lists{Pre: []task.Step{{Name: "killing", Task: kill, Timeout: time.Minute}}}
			}
		})
		kill.gate = func() *enginetest.Gate { return p.nodes["b"].gate }
		p.file("a", "x", 10)
		ref := p.submit("push", "x", "y")
		deaths := 0
		for over := false; !over && deaths < 10; {
			select {
			case <-p.nodes["b"].gate.Dead:
				deaths++
				p.stop("b")
				p.start("b")
			case <-time.After(time.Hour):
				over = true
			}
		}
		for name, ref := range map[string]store.Ref{"a": ref, "b": other(ref)} {
			r, err := p.nodes[name].engine.Get(t.Context(), ref)
			if err != nil || r.State != lifecycle.InError || deaths > 4 || !strings.Contains(r.Failure.Cause, "the process has ended 3 times") {
				t.Errorf("%s, after %d deaths: %v %+v %v", name, deaths, r.State, r.Failure, err)
			}
		}
	})
}
