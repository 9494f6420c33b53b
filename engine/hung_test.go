package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
)

// hungPair is a pair with rules of two roots, of which that named hung will not answer at the victim.
func hungPair(t *testing.T, victim string) (p *pair, answer func()) {
	p = newGroup(t, func(n *node) {
		n.limits.Concurrent, n.limits.Serving = 8, 16
		for _, name := range []string{"push", "pull"} {
			other := *n.rules[name]
			other.Name, other.Root = "other "+name, n.dir+"/other"
			n.rules[other.Name] = &other
			n.rules[name].Retry = engine.Retry{Delay: time.Minute, Attempts: 2}
		}
		if n.name == victim {
			n.root = n.dir + "/hung"
			n.rules["push"].Root, n.rules["pull"].Root = n.root, n.root
		}
		for _, dir := range []string{n.root, n.dir + "/other"} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}, "a", "b", "c")
	return p, engine.Hang(t, "/hung")
}

// order submits a request at a node.
func (p *pair) order(node, partner, rule, name string) store.Ref {
	p.t.Helper()
	r, _, err := p.nodes[node].engine.Submit(p.t.Context(), engine.Order{Partner: partner, Rule: rule, Source: path(p.t, name), Target: path(p.t, name+" there")})
	if err != nil {
		p.t.Fatal(err)
	}
	return store.RefOf(&r)
}

// TestRootHung: a rule's root whose file system does not answer, at either end, holds up no request of another rule or
// partner, no start and no end of the node. Its own requests wait for hours without an attempt that counts, say so, and are carried out
// when it answers.
func TestRootHung(t *testing.T) {
	for _, rule := range []string{"push", "pull"} {
		for _, victim := range []string{"a", "b"} {
			t.Run(rule+"/"+victim, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { rootHung(t, rule, victim) })
			})
		}
	}
}

func rootHung(t *testing.T, rule, victim string) {
	engine.Leave(t)
	p, answer := hungPair(t, victim)
	from, to := "a", "b"
	if rule == "pull" {
		from, to = to, from
	}
	content := p.file(from, "x", 3<<20)
	var hung []store.Ref
	for i := range 20 { // more than there are places
		r, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: "b", Rule: rule, Source: path(t, "x"), Target: path(t, fmt.Sprint("y", i))})
		if err != nil {
			t.Fatal(err)
		}
		hung = append(hung, store.RefOf(&r))
	}
	others := func(when string) {
		t.Helper()
		began := time.Now()
		for i, ends := range [][2]string{{"a", "b"}, {"a", "c"}, {"c", "b"}, {"c", "a"}} {
			name := fmt.Sprint("z", i)
			if err := os.WriteFile(filepath.Join(p.nodes[ends[0]].dir, "other", name), []byte("others"), 0o644); err != nil {
				t.Fatal(err)
			}
			ref := p.order(ends[0], ends[1], "other push", name)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			r, err := p.nodes[ends[0]].engine.Wait(ctx, ref)
			cancel()
			if err != nil || r.State != lifecycle.Done {
				t.Errorf("%s: another rule's request of %s to %s is %v after %v: %v, %v", when, ends[0], ends[1], r.State, time.Since(began), r.Failure, err)
			}
		}
	}
	others("at once")
	time.Sleep(3 * time.Hour)
	others("hours later")
	for _, ref := range hung {
		why, err := p.nodes["a"].engine.Explain(t.Context(), ref)
		if err != nil || why.State != lifecycle.Interrupted || why.Streak != 0 {
			t.Fatalf("%v %v, streak %d, %v, %v", why.State, why.Reason, why.Streak, why.Failure, err)
		}
		whose := "its rule's root"
		if victim == "b" {
			whose = "b's root of its rule"
		}
		if want := "waits for the file system of " + whose + ", which does not answer"; why.Summary != want || !strings.Contains(why.Cause, engine.SilentRoot) {
			t.Fatalf("%q, %q; want %q", why.Summary, why.Cause, want)
		}
		if there, err := p.nodes["b"].engine.Explain(t.Context(), other(ref)); victim == "b" && (err != nil || there.Summary != "waits for the file system of its rule's root, which does not answer") {
			t.Fatalf("at b: %q, %v", there.Summary, err)
		}
	}
	began := time.Now()
	p.stop(victim)
	p.start(victim)
	if took := time.Since(began); took > time.Minute {
		t.Errorf("the node took %v to end and to start", took)
	}
	others("after a restart")
	answer()
	for _, ref := range hung {
		p.endWithin(ref, lifecycle.Done, time.Hour)
	}
	for i := range hung {
		p.has(to, fmt.Sprint("y", i), content)
	}
}

// unending is a task that does not come back, as a system call to a file system that does not answer.
type unending struct{ goOn chan struct{} }

func (s unending) Run(context.Context, *task.On) (task.Result, error) {
	<-s.goOn
	return task.Result{}, nil
}

// TestHungMeanwhile: what is in a system call when the file system becomes silent, at either end, keeps no place from
// others, says so, and is carried out when it answers. Places are counted as before then.
func TestHungMeanwhile(t *testing.T) {
	for _, victim := range []string{"a", "b"} {
		t.Run(victim, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { hungMeanwhile(t, victim) })
		})
	}
}

func hungMeanwhile(t *testing.T, victim string) {
	const places, many = 8, 20
	is := unending{make(chan struct{})}
	answer := engine.HangFrom(t, "/hung", time.Now().Add(5*time.Minute))
	p := newPair(t, func(n *node) {
		n.limits.Concurrent, n.limits.Serving = 2*many, places
		if n.name == "a" && victim == "a" {
			n.limits.Concurrent = places
		}
		other := *n.rules["push"]
		other.Name = "other push"
		n.rules[other.Name] = &other
		if n.name != victim {
			return
		}
		push := n.rules["push"]
		push.Root = filepath.Join(n.dir, "hung")
		if err := os.Mkdir(push.Root, 0o755); err != nil {
			t.Fatal(err)
		}
		lists := map[string]*engine.Lists{"a": &push.Sender, "b": &push.Receiver}[victim]
		lists.Pre = []task.Step{{Name: "unending", Task: is, Timeout: 24 * time.Hour}}
	})
	goOn := sync.OnceFunc(func() { close(is.goOn) })
	t.Cleanup(goOn)
	content := []byte("content")
	for _, dir := range []string{p.nodes["a"].root, p.nodes["a"].rules["push"].Root} {
		if err := os.WriteFile(filepath.Join(dir, "x"), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var hung []store.Ref
	for i := range many {
		r, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: "b", Rule: "push", Source: path(t, "x"), Target: path(t, fmt.Sprint("y", i))})
		if err != nil {
			t.Fatal(err)
		}
		hung = append(hung, store.RefOf(&r))
	}
	time.Sleep(10 * time.Minute) // in the middle of which it becomes silent
	for i := range 3 {
		p.endWithin(p.order("a", "b", "other push", "x"), lifecycle.Done, 5*time.Minute)
		time.Sleep(time.Duration(i) * 10 * time.Minute)
	}
	inside := 0
	for _, ref := range hung {
		if victim == "b" {
			ref = other(ref)
		}
		why, err := p.nodes[victim].engine.Explain(t.Context(), ref)
		if err == nil && why.State == lifecycle.Running {
			inside++
			if why.Cause != "the file system of its rule's root does not answer" || !strings.HasPrefix(why.Summary, "pre task 1") || !strings.Contains(why.Next, "no place") || len(why.Do) != 1 {
				t.Errorf("%q, %q, %q, %q", why.Summary, why.Cause, why.Next, why.Do)
			}
		}
	}
	if inside == 0 || inside > places {
		t.Errorf("%d run in it", inside)
	}
	if victim == "b" {
		why, err := p.nodes["a"].engine.Explain(t.Context(), hung[0])
		if want := "waits for the file system of b's root of its rule, which does not answer"; err != nil || why.Summary != want || why.Streak != 0 {
			t.Errorf("%q, streak %d, %v; want %q", why.Summary, why.Streak, err, want)
		}
	}
	counted := func(when string, right func(n int) bool) {
		t.Helper()
		for name, n := range p.nodes {
			for what, n := range engine.Places(n.engine) {
				if !right(n) {
					t.Errorf("%s %d are %s at %s", when, n, what, name)
				}
			}
		}
	}
	goOn()
	time.Sleep(time.Second)
	counted("when the calls are over, and nothing answers yet,", func(n int) bool { return n >= 0 })
	answer()
	for _, ref := range hung {
		p.endWithin(ref, lifecycle.Done, time.Hour)
	}
	synctest.Wait()
	counted("at the end", func(n int) bool { return n == 0 })
}

// TestDrainUnending: a node ends although a request of it cannot be ended, and the next process carries it out.
func TestDrainUnending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine.Leave(t)
		is := unending{make(chan struct{})}
		p := newPair(t, func(n *node) {
			if n.name == "a" {
				n.rules["push"].Sender.Pre = []task.Step{{Name: "unending", Task: is, Timeout: 24 * time.Hour}}
			}
		})
		content := p.file("a", "x", 1000)
		ref := p.submit("push", "x", "y")
		time.Sleep(time.Minute)
		began := time.Now()
		p.stop("a")
		if took := time.Since(began); took > time.Minute {
			t.Errorf("the node took %v to end", took)
		}
		close(is.goOn)
		synctest.Wait()
		p.start("a")
		p.end(ref, lifecycle.Done)
		p.has("b", "y", content)
	})
}
