package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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

// What an admitted partner that means harm can do to others.

// stuck is the other end of bytes that never move.
type stuck struct{}

func (stuck) Size() int64 { return -1 }

func (stuck) Run(ctx context.Context, _ *sideeffect.Descriptor, _ sideeffect.Await) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// asked is a call of a partner's for a request of its own.
func asked(t *testing.T, from string, n byte, m lifecycle.Move) engine.Ask {
	a := engine.Ask{Move: m, Key: lifecycle.Key{Requester: from, ID: lifecycle.ID{n}}, Side: lifecycle.Sender,
		Call: lifecycle.Call{Attempt: 1, Phase: lifecycle.Moving}, Rule: "push"}
	if m == lifecycle.Prepare {
		a.Call.Phase = lifecycle.Accepted
		a.Source, a.Target, a.Follow = path(t, "x"), path(t, fmt.Sprint("q", n)), lifecycle.ID{n}
	}
	return a
}

func serve(t *testing.T, n *node, a engine.Ask, effect engine.Effect) engine.Answer {
	t.Helper()
	answer, err := n.engine.Serve(t.Context(), a.Key.Requester, a, effect)
	if err != nil {
		t.Error(err)
	}
	return answer
}

// TestPlacesOfOneRequest: calls that wait for one request keep nobody out.
func TestPlacesOfOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newGroup(t, func(n *node) { n.limits.Serving = 16 }, "a", "b", "c")
		b := p.nodes["b"]
		serve(t, b, asked(t, "c", 1, lifecycle.Prepare), nil)
		var busy atomic.Int32
		for range 16 {
			go func() {
				if a, _ := b.engine.Serve(t.Context(), "c", asked(t, "c", 1, lifecycle.Transfer), stuck{}); a.Outcome == engine.Busy {
					busy.Add(1)
				}
			}()
		}
		synctest.Wait()
		if n := busy.Load(); n < 8 {
			t.Errorf("%d of 16 calls for one request were sent away at once", n)
		}
		if a := serve(t, b, asked(t, "a", 1, lifecycle.Prepare), nil); a.Outcome != engine.Served {
			t.Errorf("one request of a partner keeps another one out: %+v", a)
		}
		if a := serve(t, b, asked(t, "c", 2, lifecycle.Prepare), nil); a.Outcome != engine.Served {
			t.Errorf("one request of a partner keeps its others out: %+v", a)
		}
	})
}

// TestPlacesOfOnePartner: however many requests it has, others find places.
func TestPlacesOfOnePartner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newGroup(t, func(n *node) { n.limits.Serving = 16 }, "a", "b", "c", "d")
		b := p.nodes["b"]
		for _, name := range []string{"c", "d"} {
			for i := range byte(20) {
				if a := serve(t, b, asked(t, name, i, lifecycle.Prepare), nil); a.Outcome == engine.Busy && !a.All {
					t.Errorf("%+v", a)
				}
				go func() { _, _ = b.engine.Serve(t.Context(), name, asked(t, name, i, lifecycle.Transfer), stuck{}) }()
				synctest.Wait()
			}
		}
		answer := serve(t, b, asked(t, "c", 99, lifecycle.Prepare), nil)
		if answer.Outcome != engine.Busy || !answer.All || answer.Wait <= 0 || !strings.Contains(answer.Failure.Cause, "keeps the other places for others") {
			t.Errorf("a partner with many calls is told %+v", answer)
		}
		if a := serve(t, b, asked(t, "a", 1, lifecycle.Prepare), nil); a.Outcome != engine.Served {
			t.Errorf("two partners keep a third one out: %+v", a)
		}
	})
}

// TestOpenRequests: a partner has no more open ones than it may; the others come later.
func TestOpenRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &gated{open: make(chan struct{})}
		p := newPair(t, func(n *node) {
			if n.name == "b" {
				n.open = 3
				n.rules["push"].Receiver.Post = []task.Step{{Name: "gated", Task: gate, Timeout: 5 * time.Hour}}
			}
		})
		p.file("a", "x", 10)
		var refs []store.Ref
		for i := range 10 {
			refs = append(refs, p.submit("push", "x", fmt.Sprint("y", i)))
		}
		time.Sleep(10 * time.Minute)
		count := func() (n int) {
			for _, err := range p.nodes["b"].engine.Find(t.Context(), store.Query{}) {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			return n
		}
		if n := count(); n != 3 {
			t.Errorf("%d records, 3 may be open", n)
		}
		told := 0
		for _, ref := range refs {
			if r, _ := p.nodes["a"].engine.Get(t.Context(), ref); r.State == lifecycle.Interrupted && r.Failure.Kind == fault.Overloaded && strings.Contains(r.Failure.Cause, "are open here") {
				told++
			}
			if r, _ := p.nodes["a"].engine.Get(t.Context(), ref); r.Streak > 1 {
				t.Errorf("being told to come later counts as failed: %d", r.Streak)
			}
		}
		if told != 7 {
			t.Errorf("%d of 7 say why they wait", told)
		}
		p.stop("b") // it is counted anew
		p.start("b")
		time.Sleep(10 * time.Minute)
		if n := count(); n != 3 {
			t.Errorf("%d records after a restart, 3 may be open", n)
		}
		close(gate.open)
		for _, ref := range refs {
			p.endWithin(ref, lifecycle.Done, 6*time.Hour)
		}
	})
}

// gated is a task that waits.
type gated struct {
	open chan struct{}
	runs atomic.Int32
	now  atomic.Int32
	most atomic.Int32
}

func (g *gated) Run(ctx context.Context, _ *task.On) (task.Result, error) {
	g.runs.Add(1)
	g.most.Store(max(g.most.Load(), g.now.Add(1)))
	defer g.now.Add(-1)
	select {
	case <-g.open:
		return task.Result{}, nil
	case <-ctx.Done():
		return task.Result{}, ctx.Err()
	}
}

// TestFailedRequests: those that fail are bounded, too, until they are purged, by an
// operator or by age.
func TestFailedRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(n *node) { n.open = 1; n.limits.Failed = 30 * 24 * time.Hour })
		b := p.nodes["b"]
		fail := func(i byte) engine.Answer {
			a := asked(t, "a", i, lifecycle.Prepare)
			if answer, err := b.engine.Serve(t.Context(), "a", a, nil); err != nil || answer.Outcome == engine.Busy {
				return answer
			}
			a.Move, a.Why = lifecycle.Mismatch, lifecycle.Failure{Kind: fault.Refused, Cause: "no"}
			return serve(t, b, a, nil)
		}
		for i := range byte(10) {
			if answer := fail(i); answer.Outcome != engine.Failed {
				t.Fatalf("%d: %+v", i, answer)
			}
		}
		if answer := fail(10); answer.Outcome != engine.Busy || answer.All || !strings.Contains(answer.Failure.Cause, "have failed here") {
			t.Errorf("one more: %+v", answer)
		}
		if n, err := b.engine.PurgeFailed(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil {
			t.Errorf("%d of the last hour purged, %v", n, err)
		}
		time.Sleep(2 * time.Hour)
		if n, err := b.engine.Purge(t.Context(), time.Now()); n != 0 || err != nil {
			t.Errorf("%d that are not DONE purged, %v", n, err)
		}
		if n, err := b.engine.PurgeFailed(t.Context(), time.Now()); n != 10 || err != nil {
			t.Errorf("%d purged, %v", n, err)
		}
		for i := range byte(10) {
			if answer := fail(20 + i); answer.Outcome != engine.Failed {
				t.Fatalf("after the purge: %+v", answer)
			}
		}
		time.Sleep(31 * 24 * time.Hour)
		if answer := fail(40); answer.Outcome != engine.Failed {
			t.Errorf("after a month: %+v", answer)
		}
	})
}

// liar is a line on which the partner answers the same whatever is asked.
type liar struct {
	engine.Line
	lie   func(a engine.Ask, d *sideeffect.Descriptor) engine.Answer
	calls atomic.Int32
}

func (l *liar) Call(ctx context.Context, partner string, a engine.Ask, d *sideeffect.Descriptor) (engine.Answer, error) {
	if a.Move == lifecycle.Mismatch {
		return l.Line.Call(ctx, partner, a, d)
	}
	l.calls.Add(1)
	return l.lie(a, d), ctx.Err()
}

// TestLiar: answers that lead nowhere are failed attempts, and not asked for again at
// once.
func TestLiar(t *testing.T) {
	for name, c := range map[string]struct {
		lie  func(engine.Ask, *sideeffect.Descriptor) engine.Answer
		kind fault.Kind
	}{
		"ACCEPTED each time": {func(engine.Ask, *sideeffect.Descriptor) engine.Answer {
			return engine.Answer{Outcome: engine.Served, Phase: lifecycle.Accepted, Size: -1}
		}, fault.Protocol},
		"MOVING after the bytes": {func(a engine.Ask, d *sideeffect.Descriptor) engine.Answer {
			if d == nil {
				return engine.Answer{Outcome: engine.Served, Phase: lifecycle.Ready, Size: -1}
			}
			if d.LocalStatus != sideeffect.Success {
				if err := d.Ledger.Ended(10, sideeffect.Sum{}); err != nil {
					t.Error(err)
				}
				d.LocalStatus = sideeffect.Success
			}
			return engine.Answer{Outcome: engine.Served, Phase: lifecycle.Moving, Size: -1}
		}, fault.Protocol},
		"busy, and not for how long": {func(engine.Ask, *sideeffect.Descriptor) engine.Answer {
			return engine.Answer{Outcome: engine.Busy, Size: -1}
		}, fault.Overloaded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &liar{lie: c.lie}
				p := newPair(t, func(n *node) {
					n.rules["push"].Retry = engine.Retry{Delay: time.Minute}
					if n.name == "a" {
						n.line = func(e engine.Line) engine.Line { l.Line = e; return l }
					}
				})
				p.file("a", "x", 10)
				ref := p.submit("push", "x", "y")
				time.Sleep(20 * time.Second)
				if n := l.calls.Load(); n > 60 || c.kind == fault.Protocol && n > 3 {
					t.Fatalf("%d calls in 20 s", n)
				}
				time.Sleep(30 * time.Minute)
				r, err := p.nodes["a"].engine.Get(t.Context(), ref)
				if err != nil || r.Failure.Kind != c.kind || (r.State == lifecycle.InError) != (c.kind == fault.Protocol) {
					t.Errorf("%v %+v %v", r.State, r.Failure, err)
				}
				if r.State == lifecycle.InError && r.Attempt < engine.DefaultAttempts {
					t.Errorf("given up after %d attempts", r.Attempt)
				}
			})
		})
	}
}

// deaf is a line on which a move is never answered, on a session that lives.
type deaf struct {
	engine.Line
	move lifecycle.Move
}

func (l *deaf) Call(ctx context.Context, partner string, a engine.Ask, d *sideeffect.Descriptor) (engine.Answer, error) {
	if a.Move != l.move {
		return l.Line.Call(ctx, partner, a, d)
	}
	<-ctx.Done()
	return engine.Answer{}, fault.Wrap("call", partner, ctx.Err())
}

// TestNobodyAnswers: no call is waited for without end.
func TestNobodyAnswers(t *testing.T) {
	for _, move := range []lifecycle.Move{lifecycle.Prepare, lifecycle.Transfer} {
		t.Run(move.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, func(n *node) {
					n.rules["push"].Retry = engine.Retry{Delay: time.Minute, Attempts: 3}
					if n.name == "a" {
						n.line = func(e engine.Line) engine.Line { return &deaf{e, move} }
					}
				})
				p.file("a", "x", map[lifecycle.Move]int{lifecycle.Prepare: 10, lifecycle.Transfer: 2 << 20}[move]) // a small one comes with the first call
				ref := p.submit("push", "x", "y")
				time.Sleep(3 * time.Hour)
				r, err := p.nodes["a"].engine.Get(t.Context(), ref)
				if err != nil || r.State != lifecycle.InError || r.Failure.Kind != fault.Deadline || r.Attempt > 4 {
					t.Errorf("%v, attempt %d, %+v %v", r.State, r.Attempt, r.Failure, err)
				}
			})
		})
	}
}

// TestNobodySends: nor does the requested end wait for bytes without end.
func TestNobodySends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, nil)
		b := p.nodes["b"]
		serve(t, b, asked(t, "a", 1, lifecycle.Prepare), nil)
		began := time.Now()
		_, err := b.engine.Serve(t.Context(), "a", asked(t, "a", 1, lifecycle.Transfer), stuck{})
		if took := time.Since(began); fault.KindOf(err) != fault.Deadline || took > time.Hour {
			t.Errorf("after %v: %v", took, err)
		}
		r, err := b.engine.Get(t.Context(), store.Ref{Key: lifecycle.Key{Requester: "a", ID: lifecycle.ID{1}}, Role: lifecycle.Requested})
		if err != nil || r.State != lifecycle.Interrupted || r.Reason != lifecycle.Awaiting {
			t.Errorf("%v %v %v", r.State, r.Reason, err)
		}
	})
}

// TestChainEnds: tasks that send a file round in a circle do so a few times.
func TestChainEnds(t *testing.T) {
	for hops, want := range map[int]int{0: engine.DefaultHops + 1, 3: 4, 999: engine.MaxHops + 1} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, func(n *node) {
				n.limits.Hops = hops
				n.rules["push"].Receiver.Post = tasks(t, task.Table{Task: "transfer", Partner: map[string]string{"a": "b", "b": "a"}[n.name], Rule: "push"})
			})
			p.file("a", "x", 10)
			ref := p.submit("push", "x", "x")
			time.Sleep(time.Hour)
			made := 0
			for _, n := range p.nodes {
				for r, err := range n.engine.Find(t.Context(), store.Query{Follow: ref.Key.ID}) {
					if err != nil {
						t.Fatal(err)
					}
					if r.Role == lifecycle.Requester {
						made++
					}
					if r.State == lifecycle.InError && !strings.Contains(r.Failure.Cause, "in its chain") {
						t.Errorf("%+v", r.Failure)
					}
				}
			}
			if made != want {
				t.Errorf("%d requests in the chain, want %d", made, want)
			}
			far := asked(t, "a", 1, lifecycle.Prepare)
			far.Hops = uint8(want)
			if _, err := p.nodes["b"].engine.Serve(t.Context(), "a", far, nil); fault.KindOf(err) != fault.Refused {
				t.Errorf("a request after %d others: %v", far.Hops, err)
			}
		})
	}
}

// TestLateStop: the Stop of an attempt does not end the run of a later one.
func TestLateStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &gated{open: make(chan struct{})}
		p := newPair(t, func(n *node) {
			n.rules["push"].Receiver.Pre = []task.Step{{Name: "gated", Task: gate, Timeout: time.Hour}}
		})
		b := p.nodes["b"]
		a := asked(t, "a", 1, lifecycle.Prepare)
		a.Call.Attempt = 2
		answered := make(chan engine.Answer, 1)
		go func() { answered <- serve(t, b, a, nil) }()
		time.Sleep(time.Second)
		stop := a
		stop.Move, stop.Why, stop.Call.Attempt = lifecycle.Mismatch, lifecycle.Failure{Kind: fault.Canceled, Cause: "by an operator"}, 1
		var late sync.WaitGroup
		late.Go(func() { serve(t, b, stop, nil) })
		time.Sleep(time.Second)
		close(gate.open)
		late.Wait()
		if answer := <-answered; answer.Outcome != engine.Served || answer.Phase != lifecycle.Ready || gate.runs.Load() != 1 {
			t.Errorf("%+v after %d runs of the task", answer, gate.runs.Load())
		}
	})
}

// TestStopDuringErrorTasks: the Stop of the attempt whose call runs error tasks has none of them skipped.
func TestStopDuringErrorTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, last := &gated{open: make(chan struct{})}, &gated{open: make(chan struct{})}
		close(last.open)
		p := newPair(t, func(n *node) {
			n.rules["push"].Receiver.Pre = tasks(t, task.Table{Task: "exec", Argv: []string{"/bin/sh", "-c", "exit 3"}})
			n.rules["push"].Receiver.Error = []task.Step{{Name: "gated", Task: gate, Timeout: time.Hour}, {Name: "last", Task: last, Timeout: time.Hour}}
		})
		b, a := p.nodes["b"], asked(t, "a", 1, lifecycle.Prepare)
		go func() { _, _ = b.engine.Serve(t.Context(), "a", a, nil) }()
		for gate.runs.Load() == 0 {
			time.Sleep(time.Second)
		}
		stop := a
		stop.Move, stop.Why = lifecycle.Mismatch, lifecycle.Failure{Kind: fault.Canceled, Cause: "by an operator"}
		for range 3 { // repeated, as one whose answer was lost
			go func() { _, _ = b.engine.Serve(t.Context(), "a", stop, nil) }()
			time.Sleep(10 * time.Second)
		}
		if gate.now.Load() != 1 || gate.runs.Load() != 2 {
			t.Errorf("the first error task has run %d times, %d run: it goes on, and no later call ends that", gate.runs.Load(), gate.now.Load())
		}
		close(gate.open)
		r, err := b.engine.Wait(t.Context(), store.Ref{Key: a.Key, Role: lifecycle.Requested})
		if err != nil || r.State != lifecycle.InError || r.Tasks[lifecycle.ErrorList] != 2 || last.runs.Load() != 1 || r.Failure.Side != fault.Here {
			t.Errorf("%v, %d error tasks are done, the last has run %d times: %v, %v", r.State, r.Tasks[lifecycle.ErrorList], last.runs.Load(), r.Failure, err)
		}
		if answer := serve(t, b, stop, nil); answer.Outcome != engine.Failed {
			t.Errorf("%+v", answer)
		}
	})
}

// TestBusyOfOne: a partner that asks for time for one request gets the others.
func TestBusyOfOne(t *testing.T) {
	for _, all := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			l := &busyOnce{all: all}
			p := newPair(t, func(n *node) {
				if n.name == "a" {
					n.line = func(e engine.Line) engine.Line { l.Line = e; return l }
				}
			})
			p.file("a", "x", 10)
			one := p.submit("push", "x", "first")
			time.Sleep(time.Second)
			began := time.Now()
			two := p.submit("push", "x", "second")
			p.endWithin(two, lifecycle.Done, 3*time.Hour)
			if took := time.Since(began); (took > time.Minute) != all {
				t.Errorf("of all %v: another request took %v", all, took)
			}
			p.endWithin(one, lifecycle.Done, 3*time.Hour)
			if took := time.Since(began); took < 29*time.Minute {
				t.Errorf("the request went on after %v", took)
			}
		})
	}
}

// busyOnce asks for an hour at the first call.
type busyOnce struct {
	engine.Line
	all  bool
	once sync.Once
}

func (l *busyOnce) Call(ctx context.Context, partner string, a engine.Ask, d *sideeffect.Descriptor) (answer engine.Answer, err error) {
	l.once.Do(func() { answer = engine.Answer{Outcome: engine.Busy, Wait: time.Hour, Size: -1, All: l.all} })
	if answer.Outcome != 0 {
		return answer, nil
	}
	return l.Line.Call(ctx, partner, a, d)
}

// TestOpenAgain: a request that has failed and is tried again by the requester's operator counts as open
// then, and waits like a new one while there are as many as there may be.
func TestOpenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &gated{open: make(chan struct{})}
		p := newPair(t, func(n *node) {
			if n.name == "b" {
				n.open = 1
				n.rules["push"].Receiver.Post = []task.Step{{Name: "gated", Task: gate, Timeout: 5 * time.Hour}}
			}
		})
		content := p.file("b", "far", 10)
		failed := p.submit("pull", "none", "near")
		p.end(failed, lifecycle.InError)
		p.file("a", "x", 10)
		open := p.submit("push", "x", "y")
		time.Sleep(time.Minute)
		if err := os.Rename(filepath.Join(p.nodes["b"].root, "far"), filepath.Join(p.nodes["b"].root, "none")); err != nil {
			t.Fatal(err)
		}
		if _, err := p.nodes["a"].engine.Retry(t.Context(), failed); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if r, err := p.nodes["b"].engine.Get(t.Context(), other(failed)); err != nil || r.State != lifecycle.InError {
			t.Errorf("one is open, and another is %v again, %v", r.State, err)
		}
		if r, err := p.nodes["a"].engine.Get(t.Context(), failed); err != nil || !strings.Contains(r.Failure.Cause, "are open here") {
			t.Errorf("%v %q, %v", r.State, r.Failure.Cause, err)
		}
		close(gate.open)
		p.endWithin(open, lifecycle.Done, 6*time.Hour)
		p.endWithin(failed, lifecycle.Done, 6*time.Hour)
		p.has("a", "near", content)
	})
}
