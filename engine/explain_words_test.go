package engine_test

import (
	"errors"
	"slices"
	"strings"
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

// TestFailuresAreReadable: what an operator reads at either end is one sentence: when
// it failed, whose failure it is, what was done, why. Nothing of the layers that passed
// it on, and nothing twice.
func TestFailuresAreReadable(t *testing.T) {
	p := newPair(t, func(n *node) {
		n.rules["push"].Receiver.Post = tasks(t, task.Table{Task: "exec", Argv: []string{"/bin/sh", "-c", "echo refused: not today; exit 3"}})
	})
	p.file("a", "x", 10)
	ref := p.submit("push", "x", "y")
	a, b := p.end(ref, lifecycle.InError)
	if want := `task exec "y": run command "/bin/sh": exit status 3: refused: not today`; b.Failure.Cause != want {
		t.Errorf("at the receiver: %q, want %q", b.Failure.Cause, want)
	}
	if want := "task exec: run command: the log there says more"; a.Failure.Cause != want || a.Failure.Side != fault.Peer {
		t.Errorf("at the sender: %q, want %q", a.Failure.Cause, want)
	}
	x, err := p.nodes["b"].engine.Explain(t.Context(), other(ref))
	if err != nil || x.Summary != "failed in the tasks after the bytes (phase POST)" || !strings.HasPrefix(x.Cause, "refused, here: task exec") {
		t.Errorf("%q, %q, %v", x.Summary, x.Cause, err)
	}
	x, err = p.nodes["a"].engine.Explain(t.Context(), ref)
	if err != nil || x.Summary != "failed at b, in the tasks after the bytes (phase POST there, MOVING here). The file is there, under its name" || x.Size != 10 || x.Rank != 10 {
		t.Errorf("%q, %d of %d bytes, %v", x.Summary, x.Rank, x.Size, err)
	}
	ref = p.submit("pull", "absent", "z")
	a, _ = p.end(ref, lifecycle.InError)
	if want := "open source: no such file or directory"; a.Failure.Cause != want || a.Failure.Kind != fault.NotFound {
		t.Errorf("at the requester: %q, want %q", a.Failure.Cause, want)
	}
	for node, ref := range map[string]store.Ref{"a": ref, "b": other(ref)} {
		if x, err := p.nodes[node].engine.Explain(t.Context(), ref); err != nil || !strings.Contains(x.Summary, "before the bytes moved") {
			t.Errorf("a file that is not there, at %s: %q, %v", node, x.Summary, err)
		}
	}
	_, err = p.nodes["a"].engine.Resume(t.Context(), ref)
	var f *fault.Error
	if !errors.As(err, &f) || !strings.HasSuffix(err.Error(), "the request is INERROR (phase MOVING): only what waits or was paused can be resumed") {
		t.Errorf("resume: %v", err)
	}
}

// TestFailedThere: each end tells how far the other was that has failed.
func TestFailedThere(t *testing.T) {
	fails := task.Table{Task: "exec", Argv: []string{"/bin/false"}}
	for what, c := range map[string]struct {
		at, rule string
		set      func(t *testing.T, r *engine.Rule)
		size     int
		want     string // at the other end
	}{
		"before the bytes": {"b", "push", func(t *testing.T, r *engine.Rule) { r.Receiver.Pre = tasks(t, fails) }, 2 << 20,
			"failed at b, in the tasks before the bytes (phase PRE there, ACCEPTED here)"},
		"after many bytes": {"b", "push", func(t *testing.T, r *engine.Rule) { r.Receiver.Post = tasks(t, fails) }, 2 << 20,
			"failed at b, in the tasks after the bytes (phase POST there, MOVING here). The file is there, under its name"},
		"a sender that is asked": {"b", "pull", func(t *testing.T, r *engine.Rule) { r.Sender.Pre = tasks(t, fails) }, 10,
			"failed at b, in the tasks before the bytes (phase PRE there, ACCEPTED here)"},
		"the requester": {"a", "push", func(t *testing.T, r *engine.Rule) { r.Sender.Post = tasks(t, fails) }, 10,
			"failed at a, in the tasks after the bytes (phase POST there, POSTED here)"},
	} {
		t.Run(what, func(t *testing.T) {
			p := newPair(t, func(n *node) { c.set(t, n.rules[c.rule]) })
			p.file(map[string]string{"push": "a", "pull": "b"}[c.rule], "x", c.size)
			ref := p.submit(c.rule, "x", "y")
			p.end(ref, lifecycle.InError)
			n, of := p.nodes["a"], ref
			if c.at == "a" {
				n, of = p.nodes["b"], other(ref)
			}
			x, err := n.engine.Explain(t.Context(), of)
			if err != nil || x.Summary != c.want {
				t.Errorf("%q, %v\nwant %q", x.Summary, err, c.want)
			}
		})
	}
}

// TestWarned: a task that is done with a warning is told of, and of several which.
func TestWarned(t *testing.T) {
	p := newPair(t, func(n *node) {
		n.rules["push"].Sender.Post = tasks(t, task.Table{Task: "log", Text: "x"},
			task.Table{Task: "exec", Argv: []string{"/bin/sh", "-c", "echo look at me; exit 3"}, Warning: []int{3}})
	})
	p.file("a", "x", 10)
	ref := p.submit("push", "x", "y")
	a, b := p.end(ref, lifecycle.Done)
	const want = "post task 2, exec: exit status 3: look at me"
	if a.Warnings != 1 || a.Warning != want || b.Warnings != 0 {
		t.Errorf("%d %q, there %d", a.Warnings, a.Warning, b.Warnings)
	}
	e := p.nodes["a"].engine
	x, err := e.Explain(t.Context(), ref)
	if err != nil || !strings.HasSuffix(x.Summary, "all tasks run, one with a warning") || x.Cause != want {
		t.Errorf("%q, %q, %v", x.Summary, x.Cause, err)
	}
	var said []string
	events, err := e.Events(t.Context(), ref)
	for _, v := range events {
		if v.Warning != "" {
			said = append(said, v.Event+": "+v.Warning)
		}
	}
	if err != nil || len(said) != 1 || !strings.Contains(said[0], "EndTask") || !strings.HasSuffix(said[0], want) {
		t.Errorf("%q, %v", said, err)
	}
	steps, err := p.nodes["a"].engine.Timeline(t.Context(), ref, false)
	if err != nil || len(steps.Here.Tasks) != 2 || steps.Here.Tasks[0].Warned || !steps.Here.Tasks[1].Warned {
		t.Errorf("%+v, %v", steps.Here.Tasks, err)
	}
}

// TestWhichTask: of several tasks the one that has failed is named by its place.
func TestWhichTask(t *testing.T) {
	p := newPair(t, func(n *node) {
		n.rules["push"].Receiver.Post = tasks(t, task.Table{Task: "exec", Argv: []string{"/bin/true"}},
			task.Table{Task: "exec", Argv: []string{"/bin/sh", "-c", "echo no; exit 3"}})
	})
	p.file("a", "x", 10)
	a, b := p.end(p.submit("push", "x", "y"), lifecycle.InError)
	if want := `post task 2, exec "y": run command "/bin/sh": exit status 3: no`; b.Failure.Cause != want {
		t.Errorf("%q, want %q", b.Failure.Cause, want)
	}
	if want := "post task 2, exec: run command: the log there says more"; a.Failure.Cause != want {
		t.Errorf("%q, want %q", a.Failure.Cause, want)
	}
}

// TestLimitThere: who waits is told that it was in a task of the partner's that time ran out.
func TestLimitThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(n *node) {
			n.rules["push"].Receiver.Post = tasks(t, task.Table{Task: "wait", Path: "never", Timeout: task.Duration(time.Minute)})
		})
		p.file("a", "x", 10)
		a, b := p.endWithin(p.submit("push", "x", "y"), lifecycle.InError, time.Hour)
		if f := a.Failure; f.Kind != fault.Deadline || f.Side != fault.Peer || f.Phase != lifecycle.Post {
			t.Errorf("%+v", f)
		}
		if f := b.Failure; f.Kind != fault.Deadline || f.Side != fault.Here {
			t.Errorf("%+v", f)
		}
	})
}

// TestPausedIsExplained: of a paused request it is said that it is paused, what ends that, and when it
// is given up; not what went wrong before.
func TestPausedIsExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(n *node) { n.rules["push"].Retry = engine.Retry{Attempts: 4, Delay: time.Minute} })
		p.file("a", "x", 10)
		p.wire.Fault = func(where enginetest.Place, _ enginetest.Call) error {
			if where != enginetest.Asking {
				return nil
			}
			return fault.FromPeer("call", fault.NoSpace, "the disk is full")
		}
		ref := p.submit("push", "x", "y")
		time.Sleep(time.Second)
		r, err := p.nodes["a"].engine.Pause(t.Context(), ref)
		if err != nil || r.Failure.Kind != fault.NoSpace {
			t.Fatal(r.Failure, err)
		}
		x, err := p.nodes["a"].engine.Explain(t.Context(), ref)
		if err != nil || x.Summary != "paused by this node's operator" || x.Cause != "" || !x.At.Equal(r.Due) || x.Do[0] != "resume "+ref.Key.ID.String() {
			t.Errorf("%+v, %v", x, err)
		}
	})
}

// TestUnknownNames: who misspells a partner or a rule is told which is near.
func TestUnknownNames(t *testing.T) {
	p := newPair(t, func(*node) {})
	book := p.nodes["a"].engine.Book()
	if _, err := book.Rule("psuh"); err == nil || !strings.Contains(err.Error(), `no rule is called "psuh"; did you mean "push"?`) {
		t.Error(err)
	}
	if _, err := book.Partner("zzzzzz"); err == nil || strings.Contains(err.Error(), "did you mean") {
		t.Error(err)
	}
}

// TestAdvice: what explain advises for a request that waits is taken, and leads on.
func TestAdvice(t *testing.T) {
	explain := func(t *testing.T, p *pair, ref store.Ref) engine.Explanation {
		x, err := p.nodes["a"].engine.Explain(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	resume := func(ref store.Ref) string { return "resume " + ref.Key.ID.String() }
	t.Run("start time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, nil)
			p.file("a", "x", 10)
			r, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: "b", Rule: "push", Source: path(t, "x"), NotAt: time.Now().Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			ref := store.RefOf(&r)
			if x := explain(t, p, ref); !slices.Contains(x.Do, resume(ref)) {
				t.Errorf("%s, do %q", x.Summary, x.Do)
			}
			if _, err := p.nodes["a"].engine.Resume(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
			p.endWithin(ref, lifecycle.Done, time.Minute)
		})
	})
	t.Run("window", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			window, err := quantity.ParseWindow(time.Now().Add(2*time.Hour).Format("15:04") + "-" + time.Now().Add(3*time.Hour).Format("15:04"))
			if err != nil {
				t.Fatal(err)
			}
			p := newPair(t, func(n *node) { n.rules["push"].Retry.Windows = []quantity.Window{window} })
			p.file("a", "x", 10)
			ref := p.submit("push", "x", "y")
			if x := explain(t, p, ref); slices.Contains(x.Do, resume(ref)) || !x.At.After(time.Now()) {
				t.Errorf("%s at %v, do %q", x.Summary, x.At, x.Do)
			}
			p.endWithin(ref, lifecycle.Done, 4*time.Hour)
		})
	})
	t.Run("partner", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, nil)
			p.file("a", "x", 10)
			p.stop("b")
			ref := p.submit("push", "x", "y")
			time.Sleep(time.Minute)
			if x := explain(t, p, ref); !slices.Contains(x.Do, "partner test b") || slices.Contains(x.Do, resume(ref)) && x.State == lifecycle.ToSubmit {
				t.Errorf("%s, do %q", x.Summary, x.Do)
			}
			p.start("b")
			p.endWithin(ref, lifecycle.Done, time.Hour)
		})
	})
}
