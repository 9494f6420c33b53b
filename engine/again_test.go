package engine_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/scorecard/score"
)

// tally is a task that counts its runs, by node and task key.
type tally struct {
	mu   sync.Mutex
	runs map[string]int
}

func (c *tally) Run(_ context.Context, on *task.On) (task.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runs == nil {
		c.runs = map[string]int{}
	}
	c.runs[on.Vars["node"]+" "+on.Key.String()]++
	return task.Result{}, nil
}

// step is the tally as the only task of a list.
func (c *tally) step() []task.Step {
	return []task.Step{{Name: "tally", Task: c, Timeout: time.Hour}}
}

// lists has rules count pre and post tasks at both sides.
func (c *tally) lists(n *node) {
	for _, r := range n.rules {
		r.Sender = engine.Lists{Pre: c.step(), Post: c.step()}
		r.Receiver = engine.Lists{Pre: c.step(), Post: c.step()}
	}
}

// twice is how many tasks ran more than once, and how many ran.
func (c *tally) twice() (more, all int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.runs {
		if n > 1 {
			more++
		}
	}
	return more, len(c.runs)
}

// repeating is a line on which calls without bytes come one to five times at once.
type repeating struct {
	engine.Line
	over *sync.WaitGroup
	mu   sync.Mutex
	rnd  *rand.Rand
}

func (l *repeating) times() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rnd.IntN(5)
}

func (l *repeating) Call(ctx context.Context, partner string, a engine.Ask, d *sideeffect.Descriptor) (engine.Answer, error) {
	if d == nil {
		for range l.times() {
			l.over.Go(func() { _, _ = l.Line.Call(context.WithoutCancel(ctx), partner, a, nil) })
		}
	}
	return l.Line.Call(ctx, partner, a, d)
}

// idOf is the id of the i-th request of a test.
func idOf(i int) (id lifecycle.ID) {
	binary.BigEndian.PutUint64(id[8:], uint64(i+1))
	return id
}

// TestAskedOften is check 12: the same request, submitted and called one to
// five times at once and again after a restart of both nodes, is one record and is
// carried out once; another of its id is refused at either end.
func TestAskedOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests, rnd := score.N(100), rand.New(rand.NewPCG(score.Seed(), 12))
		count := new(tally)
		var repeated sync.WaitGroup
		p := newPair(t, func(n *node) {
			count.lists(n)
			n.line = func(l engine.Line) engine.Line {
				return &repeating{Line: l, over: &repeated, rnd: rand.New(rand.NewPCG(score.Seed(), uint64(n.name[0])))}
			}
		})
		p.file("a", "x", 100)
		order := func(i int) engine.Order {
			return engine.Order{ID: idOf(i), Partner: "b", Rule: "push", Source: path(t, "x"), Target: path(t, fmt.Sprintf("d%d/y%d", i%100, i))}
		}
		wrong := 0
		submit := func() {
			var each []int
			for i := range requests {
				for range 1 + rnd.IntN(5) {
					each = append(each, i)
				}
			}
			inParallel(len(each), func(k int) {
				if _, _, err := p.nodes["a"].engine.Submit(t.Context(), order(each[k])); err != nil {
					t.Error(err)
				}
			})
		}
		submit()
		for _, name := range []string{"a", "b"} { // in the middle of it
			p.stop(name)
		}
		repeated.Wait()
		for _, name := range []string{"b", "a"} {
			p.start(name)
		}
		submit()
		for i := range requests {
			ref := store.Ref{Key: lifecycle.Key{Requester: "a", ID: idOf(i)}, Role: lifecycle.Requester}
			p.endWithin(ref, lifecycle.Done, 24*time.Hour)
		}
		repeated.Wait()
		for i := range requests {
			o := order(i)
			o.Info = "another"
			if _, _, err := p.nodes["a"].engine.Submit(t.Context(), o); fault.KindOf(err) != fault.Exists {
				wrong++
			}
			a := engine.Ask{Move: lifecycle.Prepare, Key: lifecycle.Key{Requester: "a", ID: o.ID}, Side: lifecycle.Sender, Rule: o.Rule,
				Source: path(t, "other"), Target: o.Target, Follow: o.ID, Call: lifecycle.Call{Attempt: 9, Phase: lifecycle.Accepted}}
			if _, err := p.nodes["b"].engine.Serve(t.Context(), "a", a, nil); fault.KindOf(err) != fault.Exists {
				wrong++
			}
		}
		records := 0
		for _, n := range p.nodes {
			for _, err := range n.engine.Find(t.Context(), store.Query{}) {
				if err != nil {
					t.Fatal(err)
				}
				records++
			}
		}
		more, ran := count.twice()
		if more > 0 || ran != 4*requests || records != 2*requests || wrong > 0 {
			t.Errorf("%d tasks ran more than once, %d of %d ran, %d records of %d, %d others of the same id were taken", more, ran, 4*requests, records, 2*requests, wrong)
		}
		score.Report(t, float64(more+max(records-2*requests, 0)+wrong), fmt.Sprintf("%d requests, %d tasks, %d calls on the wire", requests, ran, len(p.wire.Calls())))
	})
}
