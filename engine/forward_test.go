package engine_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
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

// TestForwardInItsPlace: a request whose task waits for another one lends it its place, so that
// one place is enough for both, and for those behind them.
func TestForwardInItsPlace(t *testing.T) {
	for name, limit := range map[string]func(n *node){
		"of the partner": func(n *node) { n.concurrent = 1 },
		"of the node":    func(n *node) { n.limits.Concurrent = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, func(n *node) {
					limit(n)
					n.rules["on"] = &engine.Rule{Name: "on", Direction: engine.Send, Partners: []string{"*"}, Root: n.root, Quota: sideeffect.NoQuota}
					n.rules["push"].Sender.Post = tasks(t, task.Table{Task: "transfer", Partner: "b", Rule: "on", Wait: true, Timeout: task.Duration(time.Minute)})
				})
				content := map[string][]byte{}
				var all []store.Ref
				for i := range 4 {
					source := fmt.Sprint("x", i)
					content[source] = p.file("a", source, 1000)
					all = append(all, p.submit("push", source, fmt.Sprint("y", i)))
				}
				for _, ref := range all {
					p.endWithin(ref, lifecycle.Done, time.Minute)
				}
				for source, want := range content {
					p.has("b", source, want)
				}
				synctest.Wait() // a place is given back after the end is known
				for _, s := range p.nodes["a"].engine.Partners() {
					if s.Running != 0 {
						t.Errorf("%d places of %s are not given back", s.Running, s.Name)
					}
				}
			})
		})
	}
}

// TestForwardCrowded: a place that is lent is one at the node. The partner of who has it lent gets no
// more requests at a time than it may have, and those that wait for others do not count there.
func TestForwardCrowded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newGroup(t, func(n *node) {
			n.concurrent = 4
			n.rules["on"] = &engine.Rule{Name: "on", Direction: engine.Send, Partners: []string{"*"}, Root: n.root, Quota: sideeffect.NoQuota}
			if n.name == "a" {
				n.rules["push"].Sender.Post = tasks(t, task.Table{Task: "transfer", Partner: "c", Rule: "on", Wait: true})
			} else {
				n.rules["on"].Receiver.Post = tasks(t, task.Table{Task: "wait", Path: "go"})
			}
		}, "a", "b", "c")
		a, c := p.nodes["a"], p.nodes["c"]
		book := a.engine.Book()
		few := *book.Partners["c"]
		few.Concurrent = 1
		book.Partners = maps.Clone(book.Partners)
		book.Partners["c"] = &few
		if err := a.engine.SetBook(book); err != nil {
			t.Fatal(err)
		}
		var all []store.Ref
		for i := range 4 {
			source := fmt.Sprint("x", i)
			p.file("a", source, 1000)
			all = append(all, p.submit("push", source, fmt.Sprint("y", i)))
		}
		time.Sleep(time.Minute)
		n := 0
		for _, err := range c.engine.Find(t.Context(), store.Query{Rule: "on"}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 1 {
			t.Errorf("%d requests at a time with a partner that has one", n)
		}
		p.file("c", "go", 1)
		if err := os.Chtimes(filepath.Join(c.root, "go"), time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		for _, ref := range all {
			p.endWithin(ref, lifecycle.Done, time.Minute)
		}
		for _, s := range a.engine.Partners() {
			if s.Running != 0 {
				t.Errorf("%d places of %s are not given back", s.Running, s.Name)
			}
		}
	})
}

// TestForwardCrosswise: requests of two partners that wait for requests with the other one get ahead
// although all places of both are theirs.
func TestForwardCrosswise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newGroup(t, func(n *node) {
			n.concurrent = 1
			for _, rule := range []string{"on", "cross"} {
				n.rules[rule] = &engine.Rule{Name: rule, Direction: engine.Send, Partners: []string{"*"}, Root: n.root, Quota: sideeffect.NoQuota}
			}
			if n.name == "a" {
				limit := task.Duration(time.Minute)
				n.rules["push"].Sender.Post = tasks(t, task.Table{Task: "transfer", Partner: "c", Rule: "on", Wait: true, Timeout: limit})
				n.rules["cross"].Sender.Post = tasks(t, task.Table{Task: "transfer", Partner: "b", Rule: "on", Wait: true, Timeout: limit})
			}
		}, "a", "b", "c")
		p.file("a", "x", 1000)
		p.file("a", "z", 1000)
		a := p.nodes["a"]
		for _, o := range []engine.Order{{Partner: "b", Rule: "push", Source: path(t, "x")}, {Partner: "c", Rule: "cross", Source: path(t, "z")}} {
			if _, _, err := a.engine.Submit(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		n := 0
		for s, err := range a.engine.Find(t.Context(), store.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
			if s.State != lifecycle.Done {
				t.Errorf("%s: %v", s.Spec.Rule, s.State)
			}
		}
		if n != 4 {
			t.Errorf("%d requests, want 4", n)
		}
	})
}

// TestForwardLeft: a request whose task has waited for long enough takes its place back, and the
// other one, which goes on, has a place of its own from then on.
func TestForwardLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(n *node) {
			n.concurrent = 1
			n.rules["on"] = &engine.Rule{Name: "on", Direction: engine.Send, Partners: []string{"*"}, Root: n.root, Quota: sideeffect.NoQuota}
			if n.name == "a" {
				n.rules["push"].Sender.Post = tasks(t, task.Table{Task: "transfer", Partner: "b", Rule: "on", Wait: true, Timeout: task.Duration(30 * time.Second)})
			} else { // the other one takes long
				n.rules["on"].Receiver.Post = tasks(t, task.Table{Task: "wait", Path: "go"})
			}
		})
		content := p.file("a", "x", 1000)
		ref := p.submit("push", "x", "y")
		a := p.nodes["a"]
		r, err := a.engine.Wait(t.Context(), ref)
		if err != nil || r.State != lifecycle.InError || r.Failure.Kind != fault.Deadline {
			t.Fatalf("%v, %+v", err, r)
		}
		running := func() (n int) {
			for _, s := range a.engine.Partners() {
				n += s.Running
			}
			return n
		}
		time.Sleep(time.Second)
		if n := running(); n != 1 {
			t.Errorf("%d places are taken, for the one that goes on", n)
		}
		p.file("b", "go", 1)
		if err := os.Chtimes(filepath.Join(p.nodes["b"].root, "go"), time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		p.has("b", "x", content)
		if n := running(); n != 0 {
			t.Errorf("%d places are not given back", n)
		}
	})
}

// TestForwardAgain: a transfer task that runs again finds the request it has made, although that is
// done meanwhile and has removed the file.
func TestForwardAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newGroup(t, func(n *node) {
			n.rules["on"] = &engine.Rule{Name: "on", Direction: engine.Send, Partners: []string{"*"}, Root: n.root, Quota: sideeffect.NoQuota}
			if n.name == "b" {
				n.rules["on"].Sender.Post = tasks(t, task.Table{Task: "delete"})
				n.rules["push"].Receiver.Post = tasks(t, task.Table{Task: "transfer", Partner: "c", Rule: "on", Wait: true})
			}
		}, "a", "b", "c")
		b := p.nodes["b"]
		p.stop("c")
		content := p.file("a", "x", 1000)
		ref := p.submit("push", "x", "y")
		time.Sleep(10 * time.Second) // the task waits
		if _, err := b.engine.Pause(t.Context(), other(ref)); err != nil {
			t.Fatal(err)
		}
		p.start("c")
		onward := 0
		for s, err := range b.engine.Find(t.Context(), store.Query{Rule: "on"}) {
			if err != nil {
				t.Fatal(err)
			}
			onward++
			if r, err := b.engine.Wait(t.Context(), store.RefOf(&s.Record)); err != nil || r.State != lifecycle.Done {
				t.Fatalf("%v, %v: %s", err, r.State, r.Failure.Cause)
			}
		}
		if onward != 1 {
			t.Fatalf("%d requests go on", onward)
		}
		if _, err := os.Lstat(filepath.Join(b.root, "y")); err == nil {
			t.Fatal("the file is still there")
		}
		if _, err := b.engine.Resume(t.Context(), other(ref)); err != nil {
			t.Fatal(err)
		}
		p.endWithin(ref, lifecycle.Done, time.Hour)
		p.has("c", "y", content)
	})
}

// TestForwardBandwidth: the bandwidth of a request is its own, and not that of the one that its task makes.
func TestForwardBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(n *node) {
			n.rules["on"] = &engine.Rule{Name: "on", Direction: engine.Send, Partners: []string{"*"}, Root: n.root, Quota: sideeffect.NoQuota}
			n.rules["push"].Sender.Post = tasks(t, task.Table{Task: "transfer", Partner: "b", Rule: "on"})
		})
		p.file("a", "x", 1000)
		a := p.nodes["a"].engine
		r, _, err := a.Submit(t.Context(), engine.Order{Partner: "b", Rule: "push", Source: path(t, "x"), Target: path(t, "y"), Bandwidth: 5e6})
		if err != nil {
			t.Fatal(err)
		}
		p.end(store.RefOf(&r), lifecycle.Done)
		n := 0
		for s, err := range a.Find(t.Context(), store.Query{Rule: "on"}) {
			if n++; err != nil || s.Spec.Bandwidth != 0 || s.Spec.Follow != r.Key.ID {
				t.Errorf("%v: bandwidth %d, follows %v", err, s.Spec.Bandwidth, s.Spec.Follow)
			}
		}
		if n != 1 || r.Spec.Bandwidth != 5e6 {
			t.Errorf("%d requests, and the first has a bandwidth of %d", n, r.Spec.Bandwidth)
		}
	})
}

// TestForwardVersion: what a transfer task has asked for is the file as it was then, also if the
// request comes to it later; a mode or a link more makes no other file of it.
func TestForwardVersion(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(file string) error
		end    lifecycle.State
		writes bool // a pre task of the onward rule may write to the file
	}{
		"replaced": {func(file string) error {
			if err := os.WriteFile(file+".new", []byte("another"), 0o644); err != nil {
				return err
			}
			return os.Rename(file+".new", file)
		}, lifecycle.InError, false},
		"written to":           {func(file string) error { return os.WriteFile(file, []byte("another"), 0o644) }, lifecycle.InError, false},
		"written to by a task": {func(file string) error { return os.WriteFile(file, []byte("another"), 0o644) }, lifecycle.Done, true},
		"touched": {func(file string) error {
			return os.Link(file, file+".link")
		}, lifecycle.Done, false},
		"untouched": {func(string) error { return nil }, lifecycle.Done, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newGroup(t, func(n *node) {
					n.rules["on"] = &engine.Rule{Name: "on", Direction: engine.Send, Partners: []string{"*"}, Root: n.root, Quota: sideeffect.NoQuota}
					if n.name == "b" {
						n.rules["push"].Receiver.Post = tasks(t, task.Table{Task: "transfer", Partner: "c", Rule: "on"})
						if tc.writes {
							n.rules["on"].Sender.Pre = tasks(t, task.Table{Task: "check", Name: "*"})
							n.rules["on"].Sender.Pre[0].Other = true
						}
					}
				}, "a", "b", "c")
				p.stop("c")
				content := p.file("a", "x", 1000)
				ref := p.submit("push", "x", "y")
				p.endWithin(ref, lifecycle.Done, time.Minute)
				b := p.nodes["b"]
				if err := tc.change(filepath.Join(b.root, "y")); err != nil {
					t.Fatal(err)
				}
				p.stop("b") // it is remembered
				p.start("b")
				p.start("c")
				n := 0
				for s, err := range p.nodes["b"].engine.Find(t.Context(), store.Query{Rule: "on"}) {
					if err != nil {
						t.Fatal(err)
					}
					n++
					r, err := p.nodes["b"].engine.Wait(t.Context(), store.RefOf(&s.Record))
					if err != nil || r.State != tc.end {
						t.Errorf("%v, %v: %s", err, r.State, r.Failure.Cause)
					}
					if tc.end == lifecycle.InError && (r.Failure.Kind != fault.NotFound || !strings.Contains(r.Failure.Cause, "was changed after it was submitted")) {
						t.Errorf("%v: %s", r.Failure.Kind, r.Failure.Cause)
					}
				}
				if n != 1 {
					t.Errorf("%d requests", n)
				}
				if tc.writes {
					content = []byte("another")
				}
				if tc.end == lifecycle.Done {
					p.has("c", "y", content)
				} else if _, err := os.Lstat(filepath.Join(p.nodes["c"].root, "y")); err == nil {
					t.Error("another file is there")
				}
			})
		})
	}
}
