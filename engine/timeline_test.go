package engine_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
)

// TestStepsOf: what is told of a record is what its events prove.
func TestStepsOf(t *testing.T) {
	began := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
	second := func(n int) time.Time { return began.Add(time.Duration(n) * time.Second) }
	entries := func(events ...any) (all []store.Entry) { // names and phases by turns, a second each
		for i := 0; i < len(events); i += 2 {
			all = append(all, store.Entry{Seq: uint64(i + 1), At: second(i / 2), Event: events[i].(string), Phase: events[i+1].(lifecycle.Phase)})
		}
		return all
	}
	long := entries("BeginTask", lifecycle.Post, "EndTask+BeginTask", lifecycle.Post)
	for len(long) < store.MaxEvents {
		long = append(long, store.Entry{Seq: 900, At: second(len(long)), Event: "Interrupt", Phase: lifecycle.Post})
	}
	for what, c := range map[string]struct {
		phase   lifecycle.Phase
		done    [3]uint8
		events  []store.Entry
		reached map[lifecycle.Phase]int
		tasks   string
	}{
		"all in few commits": {lifecycle.Posted, [3]uint8{2, 1, 0},
			entries("Register+Claim+Advance+BeginTask", lifecycle.Pre, "EndTask+BeginTask", lifecycle.Pre, "EndTask+Advance+Advance", lifecycle.Moving, "Advance+Advance+Advance+BeginTask", lifecycle.Post, "EndTask+Advance", lifecycle.Posted),
			map[lifecycle.Phase]int{lifecycle.Accepted: 0, lifecycle.Pre: 0, lifecycle.Ready: 2, lifecycle.Moving: 2, lifecycle.Whole: 3, lifecycle.Committed: 3, lifecycle.Post: 3, lifecycle.Posted: 4},
			"pre 1: 0 to 1, pre 2: 1 to 2, post 1: 3 to 4"},
		"a task runs again after a crash": {lifecycle.Pre, [3]uint8{0, 0, 0},
			entries("Register+Claim+Advance+BeginTask", lifecycle.Pre, "Recover", lifecycle.Pre, "Claim+BeginTask", lifecycle.Pre),
			map[lifecycle.Phase]int{lifecycle.Accepted: 0, lifecycle.Pre: 0}, "pre 1: 2"},
		"it has gone back": {lifecycle.Moving, [3]uint8{},
			entries("Register+Claim+Advance+Advance+Advance+Advance", lifecycle.Whole, "Rewind", lifecycle.Moving),
			map[lifecycle.Phase]int{lifecycle.Accepted: 0, lifecycle.Pre: 0, lifecycle.Ready: 0, lifecycle.Moving: 0}, ""},
		"error tasks, a retry, and error tasks again": {lifecycle.Pre, [3]uint8{1, 0, 1},
			entries("Register+Claim+Advance+BeginTask", lifecycle.Pre, "Fail+BeginTask", lifecycle.Pre, "EndTask+Settle", lifecycle.Pre, "Retry+Claim+BeginTask", lifecycle.Pre,
				"EndTask+BeginTask", lifecycle.Pre, "Fail+BeginTask", lifecycle.Pre, "EndTask+Settle", lifecycle.Pre),
			map[lifecycle.Phase]int{lifecycle.Accepted: 0, lifecycle.Pre: 0}, "pre 1: 3 to 4, pre 2: 4 to 5 failed, error 1: 5 to 6"},
		"the events are newer than the record": {lifecycle.Pre, [3]uint8{},
			entries("Register+Claim+Advance+BeginTask", lifecycle.Pre, "EndTask+BeginTask", lifecycle.Pre, "EndTask+BeginTask", lifecycle.Pre),
			map[lifecycle.Phase]int{lifecycle.Accepted: 0, lifecycle.Pre: 0}, "pre 1: 0 to 1, pre 2: 1 to 2, pre 3: 2"},
		"more tasks than a list can have": {lifecycle.Pre, [3]uint8{},
			entries("BeginTask"+strings.Repeat("+EndTask+BeginTask", 300), lifecycle.Pre),
			map[lifecycle.Phase]int{lifecycle.Accepted: 0, lifecycle.Pre: 0}, numbered(254) + "pre 255: 0"},
		"the first events are forgotten": {lifecycle.Post, [3]uint8{3, 5, 0}, long, map[lifecycle.Phase]int{}, "post 5: 0 to 1, post 6: 1"},
	} {
		s := engine.Status{}
		s.Phase, s.Tasks, s.Size, s.Changed = c.phase, c.done, -1, second(900)
		x := engine.StepsOf(&s, c.events, second(1000))
		if !x.Changed.Equal(second(900)) || !x.Clock.Equal(second(1000)) {
			t.Errorf("%s: since %v, told at %v", what, x.Changed, x.Clock)
		}
		for p, at := range x.Reached {
			want := time.Time{}
			if n, ok := c.reached[lifecycle.Phase(p)]; ok {
				want = second(n)
			}
			if !at.Equal(want) {
				t.Errorf("%s: phase %d at %v, want %v", what, p, at, want)
			}
		}
		var tasks []string
		for _, r := range x.Tasks {
			text := fmt.Sprintf("%v %d: %d", r.List, r.Number, int(r.Began.Sub(began).Seconds()))
			if !r.Ended.IsZero() {
				text += fmt.Sprintf(" to %d%s", int(r.Ended.Sub(began).Seconds()), map[bool]string{true: " failed"}[r.Failed])
			}
			tasks = append(tasks, text)
		}
		if got := strings.Join(tasks, ", "); got != c.tasks {
			t.Errorf("%s: tasks %q, want %q", what, got, c.tasks)
		}
	}
}

// numbered is the first n tasks of a list, each of which has begun and ended at once.
func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "pre %d: 0 to 0, ", i+1)
	}
	return b.String()
}

// TestTimeline: each end sees what the other has done, and who is no party to a request hears nothing of it.
func TestTimeline(t *testing.T) {
	p := newGroup(t, func(n *node) {
		r := n.rules["push"]
		r.Sender.Post = tasks(t, task.Table{Task: "rename", To: "{stem}-sent"})
		r.Receiver.Pre = tasks(t, task.Table{Task: "check", Name: "*"})
		r.Receiver.Post = tasks(t, task.Table{Task: "rename", To: "{stem}-here"}, task.Table{Task: "exec", Argv: []string{"/bin/sh", "-c", "echo secret; test {path} != bad-here"}})
	}, "a", "b", "c")
	p.file("a", "good", 1000)
	ref := p.submit("push", "good", "good")
	p.end(ref, lifecycle.Done)
	for _, c := range []struct {
		at                string
		ref               store.Ref
		partner           string
		here, there       lifecycle.Side
		hereAll, thereAll [3]uint8
	}{
		{"a", ref, "b", lifecycle.Sender, lifecycle.Receiver, [3]uint8{0, 1, 0}, [3]uint8{1, 2, 0}},
		{"b", other(ref), "a", lifecycle.Receiver, lifecycle.Sender, [3]uint8{1, 2, 0}, [3]uint8{0, 1, 0}},
	} {
		x, err := p.nodes[c.at].engine.Timeline(t.Context(), c.ref, true)
		if err != nil || x.Trouble != nil || x.Told.IsZero() || x.Partner != c.partner {
			t.Fatalf("at %s: %+v, %v", c.at, x, err)
		}
		for where, e := range map[string]struct {
			x    engine.Steps
			side lifecycle.Side
			all  [3]uint8
		}{"here": {x.Here, c.here, c.hereAll}, "there": {x.There, c.there, c.thereAll}} {
			if e.x.Side != e.side || e.x.State != lifecycle.Done || e.x.Phase != lifecycle.Finished || e.x.All != e.all || e.x.Done != e.all || e.x.Rank != 1000 {
				t.Errorf("at %s, %s: %+v", c.at, where, e.x)
			}
			if n := int(e.all[0] + e.all[1]); len(e.x.Tasks) != n {
				t.Errorf("at %s, %s: %d tasks ran, want %d", c.at, where, len(e.x.Tasks), n)
			}
			for p := lifecycle.Accepted; p <= lifecycle.Finished; p++ {
				if e.x.Reached[p].IsZero() {
					t.Errorf("at %s, %s: nobody knows when it was %v", c.at, where, p.Name(e.side))
				}
			}
		}
	}
	p.file("a", "bad", 10)
	bad := p.submit("push", "bad", "bad")
	p.end(bad, lifecycle.InError)
	x, err := p.nodes["a"].engine.Timeline(t.Context(), bad, true)
	if err != nil || x.There.State != lifecycle.InError || x.There.Failure.Kind != fault.Refused || x.There.Done != [3]uint8{1, 1, 0} {
		t.Errorf("%+v, %v", x, err)
	}
	own, err := p.nodes["b"].engine.Get(t.Context(), other(bad))
	if err != nil || !strings.Contains(own.Failure.Cause, "secret") || strings.Contains(fmt.Sprintf("%+v", x.There), "secret") || strings.Contains(fmt.Sprintf("%+v", x.There), "bad") {
		t.Errorf("b says of itself %q, and to a %+v", own.Failure.Cause, x.There)
	}
	for _, c := range []struct {
		at, from string
		ref      store.Ref
	}{{"a", "c", ref}, {"b", "c", other(ref)}, {"a", "a", ref}, {"b", "b", other(ref)}, {"b", "a", ref}, {"a", "b", store.Ref{Key: lifecycle.Key{Requester: "a"}, Role: lifecycle.Requester}}} {
		x, err := p.nodes[c.at].engine.Steps(t.Context(), c.from, c.ref.Key, c.ref.Role)
		if err == nil || err.Error() != "tell steps: not found: no request of that id between the two is known here" {
			t.Errorf("%s tells %s of %v: %+v, %v", c.at, c.from, c.ref, x, err)
		}
	}
}

// questioned is a line that counts questions, and answers as a test says.
type questioned struct {
	engine.Line
	n      atomic.Int32
	answer func(ctx context.Context) (engine.Steps, error)
}

func (a *questioned) Steps(ctx context.Context, _ string, _ lifecycle.Key, _ lifecycle.Role) (engine.Steps, error) {
	a.n.Add(1)
	return a.answer(ctx)
}

// TestTimelineAsks: who looks often asks seldom, and a partner that does not answer holds up nobody who
// does not want to wait.
func TestTimelineAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := &questioned{}
		p := newPair(t, func(n *node) {
			if n.name == "a" {
				n.line = func(l engine.Line) engine.Line { line.Line = l; return line }
			}
		})
		p.file("a", "x", 10)
		ref := p.submit("push", "x", "x")
		p.end(ref, lifecycle.Done)
		a := p.nodes["a"].engine
		look := func(wait bool) engine.Timeline {
			t.Helper()
			x, err := a.Timeline(t.Context(), ref, wait)
			if err != nil {
				t.Fatal(err)
			}
			return x
		}
		want := func(n int32) {
			t.Helper()
			if got := line.n.Load(); got != n {
				t.Errorf("asked %d times, want %d", got, n)
			}
		}
		running := engine.Steps{Side: lifecycle.Receiver, State: lifecycle.Running, Phase: lifecycle.Post, Size: -1}
		line.answer = func(context.Context) (engine.Steps, error) { return running, nil }
		if x := look(false); !x.Asking || !x.Told.IsZero() || x.Trouble != nil {
			t.Errorf("before the answer: %+v", x)
		}
		synctest.Wait()
		for range 100 {
			if x := look(true); x.There.Phase != lifecycle.Post || x.Told.IsZero() {
				t.Errorf("%+v", x)
			}
		}
		want(1)
		time.Sleep(3 * time.Second)
		running.State, running.Phase = lifecycle.Done, lifecycle.Finished
		if x := look(true); x.There.State != lifecycle.Done {
			t.Errorf("%+v", x)
		}
		want(2)
		time.Sleep(30 * time.Second)
		look(true)
		want(2) // both have come to an end
		time.Sleep(time.Minute)
		line.answer = func(ctx context.Context) (engine.Steps, error) {
			<-ctx.Done()
			return engine.Steps{}, fault.Wrap("ask", "b", ctx.Err())
		}
		began := time.Now()
		if x := look(false); !x.Asking || time.Since(began) != 0 || x.There.State != lifecycle.Done {
			t.Errorf("without waiting, after %v: %+v", time.Since(began), x)
		}
		if x := look(true); x.Trouble == nil || x.There.State != lifecycle.Done || time.Since(began) > 11*time.Second {
			t.Errorf("after %v: %+v", time.Since(began), x)
		}
		for range 20 {
			look(true)
			time.Sleep(time.Second)
		}
		want(3)
		time.Sleep(11 * time.Second)
		line.answer = func(context.Context) (engine.Steps, error) {
			return engine.Steps{Side: lifecycle.Sender, State: lifecycle.Done, Phase: lifecycle.Finished}, nil
		}
		if x := look(true); fault.KindOf(x.Trouble) != fault.Protocol {
			t.Errorf("two senders: %+v", x)
		}
	})
}

// TestTimelineAgain: the other end is asked again at once when this end goes on and when it ends, and what
// it had failed with before a retry is told no more.
func TestTimelineAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := &questioned{}
		p := newPair(t, func(n *node) {
			if n.name == "a" {
				n.line = func(l engine.Line) engine.Line { line.Line = l; return line }
			}
		})
		steps := engine.Steps{Side: lifecycle.Receiver, State: lifecycle.InError, Phase: lifecycle.Post, Size: -1}
		line.answer = func(context.Context) (engine.Steps, error) { return steps, nil }
		ref := p.submit("push", "x", "x") // which is not there
		p.end(ref, lifecycle.InError)
		a := p.nodes["a"].engine
		look := func(wait bool) engine.Timeline {
			t.Helper()
			x, err := a.Timeline(t.Context(), ref, wait)
			if err != nil {
				t.Fatal(err)
			}
			return x
		}
		for range 10 {
			if x := look(true); x.There.State != lifecycle.InError || line.n.Load() != 1 {
				t.Errorf("asked %d times: %+v", line.n.Load(), x)
			}
		}
		p.file("a", "x", 10)
		if _, err := a.Retry(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		steps.State = lifecycle.Running
		if x := look(false); !x.Told.IsZero() || !x.Asking {
			t.Errorf("it goes on, and the other end is as it was: %+v", x)
		}
		if x := look(true); x.There.State != lifecycle.Running {
			t.Errorf("it goes on: %+v", x)
		}
		p.end(ref, lifecycle.Done)
		synctest.Wait()
		steps.State, steps.Phase = lifecycle.Done, lifecycle.Finished
		if x := look(true); x.There.State != lifecycle.Done {
			t.Errorf("it has ended: %+v", x)
		}
		asked := line.n.Load()
		time.Sleep(10 * time.Second)
		if look(true); line.n.Load() != asked {
			t.Error("both have come to an end, and it is asked still")
		}
	})
}

// TestTimelineMany: no more questions to a partner are under way than may be, whatever it does others are
// asked, no more answers are kept, and the end of the node ends them.
func TestTimelineMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := &questioned{answer: func(ctx context.Context) (engine.Steps, error) {
			<-ctx.Done()
			return engine.Steps{}, fault.Wrap("ask", "b", ctx.Err())
		}}
		p := newGroup(t, func(n *node) {
			if n.name == "a" {
				n.line = func(l engine.Line) engine.Line { line.Line = l; return line }
			}
		}, "a", "b", "c")
		p.file("a", "x", 10)
		ask := func(partner string, n int) (full int) {
			for i := range n {
				r, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: partner, Rule: "push", Source: path(t, "x"), Target: path(t, fmt.Sprint("x", i))})
				if err != nil {
					t.Fatal(err)
				}
				ref := store.RefOf(&r)
				if r, err = p.nodes["a"].engine.Wait(t.Context(), ref); err != nil || r.State != lifecycle.Done {
					t.Fatal(r.State, err)
				}
				x, err := p.nodes["a"].engine.Timeline(t.Context(), ref, false)
				if err != nil {
					t.Fatal(err)
				}
				if fault.KindOf(x.Trouble) == fault.Overloaded && x.Trouble != nil {
					full++
				}
			}
			return full
		}
		for _, partner := range []string{"b", "c"} {
			before := line.n.Load()
			full := ask(partner, 10)
			synctest.Wait()
			if n := line.n.Load() - before; n != 4 || full != 6 {
				t.Errorf("%s: %d questions, %d times there was no room for one", partner, n, full)
			}
		}
		time.Sleep(time.Minute) // all are over, and nobody is deaf any more
		if full := ask("b", 5); full != 1 {
			t.Errorf("later there is no room for %d of 5", full)
		}
		began := time.Now()
		p.stop("a")
		if time.Since(began) > time.Second {
			t.Errorf("the node ends after %v", time.Since(began))
		}
	})
}
