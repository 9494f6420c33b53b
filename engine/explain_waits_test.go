package engine_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// asksForTime is a line to a partner that does, for an hour.
type asksForTime struct {
	engine.Line
	all   bool
	until time.Time
}

func (l asksForTime) Call(ctx context.Context, partner string, a engine.Ask, d *sideeffect.Descriptor) (engine.Answer, error) {
	if left := time.Until(l.until); left > 0 {
		return engine.Answer{Outcome: engine.Busy, Wait: left, All: l.all, Size: -1, Failure: lifecycle.Failure{Kind: fault.Overloaded, Cause: "it has much to do"}}, nil
	}
	return l.Line.Call(ctx, partner, a, d)
}

// TestWhyItWaits: of a request that waits it is said for what, until when, and what happens then, which does. What an
// operator is told to do can be done.
func TestWhyItWaits(t *testing.T) {
	window := func(n *node) { // time begins on a Saturday, 2000-01-01 00:00 UTC
		w, err := engine.ParseWindow("Mon 20:00-06:00")
		if err != nil {
			t.Fatal(err)
		}
		n.rules["push"].Retry.Windows = engine.Windows{w}
	}
	busy := func(all bool) func(n *node) {
		return func(n *node) {
			until := time.Now().Add(time.Hour)
			n.line = func(l engine.Line) engine.Line { return asksForTime{l, all, until} }
		}
	}
	start := func(in time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(in) } }
	for what, c := range map[string]struct {
		set                  func(n *node)
		at                   func() time.Time // its start time
		then                 func(p *pair)    // before it is submitted
		state                lifecycle.State
		summary, cause, next string
		due                  func(began, at time.Time) bool // when it says that it goes on
		do                   string                         // what comes in the commands
	}{
		"start time": {at: start(5 * time.Hour), state: lifecycle.ToSubmit, summary: "waits for its start time", next: "it starts when it is due", do: "resume ",
			due: func(began, at time.Time) bool { return at.Equal(began.Add(5 * time.Hour)) }},
		"window": {set: window, state: lifecycle.ToSubmit, summary: "waits for the rule's time window", next: "it starts when that opens",
			due: func(_, at time.Time) bool {
				return at.In(time.Local).Weekday() == time.Monday && at.In(time.Local).Hour() == 20
			}},
		"start time and window": {set: window, at: start(5 * time.Hour), state: lifecycle.ToSubmit,
			summary: "waits for its start time, 2000-01-01T05:00:00Z, and then for the rule's time window", next: "it starts when that opens",
			due: func(_, at time.Time) bool {
				return at.In(time.Local).Weekday() == time.Monday && at.In(time.Local).Hour() == 20
			}},
		"back-off": {then: func(p *pair) { p.stop("b") }, state: lifecycle.ToSubmit, summary: "waits for the partner, which cannot be reached",
			cause: "b", next: "the partner is tried again; the request starts when it answers", do: "partner test b",
			due: func(began, at time.Time) bool { return at.After(began) && at.Before(began.Add(10*time.Minute)) }},
		"asked for time, all": {set: busy(true), then: func(p *pair) { p.submit("push", "x", "first") }, state: lifecycle.ToSubmit,
			summary: "waits because the partner has asked for time, for all requests", cause: "it has much to do", next: "the partner is called again; the request starts when it answers",
			due: func(began, at time.Time) bool { return at.After(began.Add(50 * time.Minute)) }},
		"asked for time, this one": {set: busy(false), state: lifecycle.Interrupted, summary: "waits because the partner has asked for time",
			cause: "overloaded, at b: it has much to do", next: "it is tried again when it is due", do: "resume ",
			due: func(began, at time.Time) bool { return at.After(began.Add(50 * time.Minute)) }},
		"its turn": {set: func(n *node) {
			n.concurrent = 1
			n.rules["pull"].Sender.Pre = tasks(t, task.Table{Task: "wait", Path: "ready"})
		},
			then: func(p *pair) { p.file("b", "x", 10); p.submit("pull", "x", "first") }, state: lifecycle.ToSubmit,
			summary: "waits for its turn: as many run with this partner as may", next: "it starts when one of them is over",
			due: func(began, at time.Time) bool { return !at.After(began) }},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, c.set)
				p.file("a", "x", 10)
				if c.then != nil {
					c.then(p)
					time.Sleep(3 * time.Second)
				}
				o := engine.Order{Partner: "b", Rule: "push", Source: path(t, "x"), Target: path(t, "y")}
				began := time.Now()
				if c.at != nil {
					o.NotAt = c.at()
				}
				e := p.nodes["a"].engine
				r, _, err := e.Submit(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				ref := store.RefOf(&r)
				time.Sleep(time.Second)
				x, err := e.Explain(t.Context(), ref)
				if err != nil || x.State != c.state || x.Summary != c.summary || !strings.Contains(x.Cause, c.cause) || x.Next != c.next || !c.due(began, x.At) {
					t.Errorf("%v %v: %q, because %q; then %q, at %v", x.State, err, x.Summary, x.Cause, x.Next, x.At)
				}
				do := strings.Join(x.Do, "\n")
				if !strings.Contains(do, c.do) || c.do == "" && (strings.Contains(do, "resume ") || strings.Contains(do, "partner ")) {
					t.Errorf("it is said to do %q", x.Do)
				}
				if strings.Contains(do, "resume ") {
					if _, err := e.Resume(t.Context(), ref); err != nil {
						t.Errorf("%q, and then %v", x.Do, err)
					}
				} else if c.due(began, x.At) && x.At.After(time.Now()) {
					time.Sleep(time.Until(x.At) - time.Second)
					if r, err := e.Get(t.Context(), ref); err != nil || r.State == lifecycle.Done {
						t.Errorf("it was %v before that, %v", r.State, err)
					}
				}
				if p.nodes["b"].engine == nil {
					p.start("b")
				}
				p.file("b", "ready", 0)
				p.endWithin(ref, lifecycle.Done, 3*time.Hour)
			})
		})
	}
}
