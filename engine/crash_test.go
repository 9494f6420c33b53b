package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	"github.com/pannier/pannier/engine/task/catalogue"
	"github.com/pannier/pannier/spec/fault"
)

// crashPair is a pair whose rules have tasks that count their runs in a file of
// the test, and whose sender deletes the source at last.
func crashPair(t *testing.T, log string) *pair {
	note := func(what string) task.Table {
		return task.Table{Task: "exec", Argv: []string{"/bin/sh", "-c", `echo "$1" >> "$0"`, log, what}}
	}
	return newPair(t, func(n *node) {
		for _, r := range n.rules {
			r.Retry.Delay = time.Millisecond
			r.Sender = engine.Lists{Pre: tasks(t, note("sender-pre")), Post: tasks(t, note("sender-post"), task.Table{Task: "delete"})}
			r.Receiver = engine.Lists{Pre: tasks(t, note("receiver-pre")), Post: tasks(t, note("receiver-post"), task.Table{Task: "move", To: "done/{name}"})}
		}
	})
}

const crashSize = 300_000

// sourceSafe wants that the source is there as long as the receiver is not POSTED.
func (p *pair) sourceSafe(from, to *node, ref store.Ref) {
	_, err := os.Stat(filepath.Join(from.root, "x"))
	if !errors.Is(err, fs.ErrNotExist) {
		return
	}
	if ref.Role = lifecycle.Requester; to.name == "b" {
		ref.Role = lifecycle.Requested
	}
	r, err := to.store.Get(context.Background(), ref)
	if err != nil || r.Phase < lifecycle.Posted {
		p.t.Errorf("the source is deleted, the receiver in %v (%v)", r.Phase, err)
	}
}

// runs wants each task to have run once, but for extra runs.
func (p *pair) ran(log string, extra int) {
	p.t.Helper()
	b, _ := os.ReadFile(log)
	total := 0
	for _, name := range []string{"sender-pre", "receiver-pre", "receiver-post", "sender-post"} {
		n := strings.Count(string(b), name+"\n")
		if n < 1 {
			p.t.Errorf("%s has not run", name)
		}
		total += n - 1
	}
	if total > extra {
		p.t.Errorf("%d runs more than once, at most %d are allowed:\n%s", total, extra, b)
	}
}

// TestCrashAtEveryCommit ends one node at each of its commits, before and after it
// is kept, and starts it again.
func TestCrashAtEveryCommit(t *testing.T) {
	for _, rule := range []string{"push", "pull"} {
		for _, victim := range []string{"a", "b"} {
			for _, after := range []bool{false, true} {
				for at, more := 1, true; more && at < 100; at++ {
					t.Run(fmt.Sprintf("%s/%s/%d/kept=%v", rule, victim, at, after), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { more = crashAt(t, rule, victim, at, after, false) })
					})
					if testing.Short() && at > 3 {
						break
					}
				}
			}
		}
	}
}

// crashAt reports false when the run was over before the victim's at-th commit.
// With both the other node ends at that moment, too.
func crashAt(t *testing.T, rule, victim string, at int, after, both bool) bool {
	log := filepath.Join(t.TempDir(), "log")
	p := crashPair(t, log)
	v := p.nodes[victim]
	p.stop(victim)
	// NewEpoch is no commit of the gate's, Submit is a's first.
	v.shutAt, v.after = at, after
	p.start(victim)
	from, to := p.nodes["a"], p.nodes["b"]
	if rule == "pull" {
		from, to = to, from
	}
	content := p.file(from.name, "x", crashSize)
	order := engine.Order{ID: lifecycle.ID{9}, Partner: "b", Rule: rule, Source: path(t, "x"), Target: path(t, "y")}
	ref := store.Ref{Key: lifecycle.Key{Requester: "a", ID: order.ID}, Role: lifecycle.Requester}
	crashed := p.crash(v, order, ref, both, func() { p.sourceSafe(from, to, ref) })
	p.end(ref, lifecycle.Done)
	p.has(to.name, "done/y", content)
	extra := 0
	if crashed {
		extra = 1 // the task that was running, or whose end was not kept
	}
	if crashed && both {
		extra = 2
	}
	p.ran(log, extra)
	return crashed
}

// crash submits an order until v's gate shuts or the request is over. After a crash it
// starts v again, with both the other node too, and submits the same once more.
func (p *pair) crash(v *node, order engine.Order, ref store.Ref, both bool, dead func()) (crashed bool) {
	p.t.Helper()
	a := p.nodes["a"].engine
	_, _, err := a.Submit(p.t.Context(), order)
	over := make(chan struct{})
	go func() {
		defer close(over)
		if err == nil {
			_, _ = a.Wait(p.t.Context(), ref)
		}
	}()
	select {
	case <-v.gate.Dead:
	case <-over:
		synctest.Wait()
	}
	select {
	case <-v.gate.Dead:
	default:
		return false
	}
	ended := []string{v.name}
	if both {
		ended = []string{"a", "b"}
		for _, n := range p.nodes {
			n.gate.Shut()
		}
	}
	for _, name := range ended {
		p.stop(name)
	}
	dead() // behind the last commit, which may be kept
	v.shutAt = 0
	for _, name := range ended {
		p.start(name)
	}
	if _, _, err := p.nodes["a"].engine.Submit(p.t.Context(), order); err != nil { // the same again: nothing was lost or doubled
		p.t.Fatal(err)
	}
	return true
}

// TestSenderCrashAtTasks ends the sender at each of its commits, before and after it is kept, while tasks
// that move, make or remove files are in its pre or post list: the file arrives once, and what the tasks make is there.
func TestSenderCrashAtTasks(t *testing.T) {
	for name, lists := range map[string][2][]task.Table{
		"move":     {{{Task: "move", To: "busy/{id}"}}, {{Task: "move", To: "sent/{id}"}}},
		"rename":   {{{Task: "rename", To: "x.busy"}}, {{Task: "rename", To: "x.sent"}}},
		"copy":     {{{Task: "copy", To: "copies/{id}"}}, {{Task: "delete"}}},
		"link":     {{{Task: "link", To: "second"}}, {{Task: "delete"}}},
		"compress": {{{Task: "compress", To: "packed.gz"}, {Task: "decompress", To: "unpacked", Remove: true}}, {{Task: "archive", To: "all.tar", Remove: true}}},
		"moves":    {{{Task: "move", To: "one/{id}"}, {Task: "move", To: "two/{id}"}}, {{Task: "move", To: "three/{id}"}, {Task: "snapshot", To: "snap"}}},
	} {
		wants := map[string][]string{
			"move": {"sent/{id}"}, "rename": {"x.sent"}, "copy": {"copies/{id}"}, "link": {"second"}, "compress": {"all.tar", "x"}, "moves": {"three/{id}", "snap"},
		}[name]
		for _, after := range []bool{false, true} {
			for at, more := 1, true; more && at < 100; at++ {
				t.Run(fmt.Sprintf("%s/%d/kept=%v", name, at, after), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						p := newPair(t, func(n *node) {
							for side, list := range map[int]*[]task.Step{0: &n.rules["push"].Sender.Pre, 1: &n.rules["push"].Sender.Post} {
								steps, err := task.Make(catalogue.Tasks(), lists[side])
								if err != nil {
									t.Fatal(err)
								}
								*list = steps
							}
						})
						p.stop("a")
						a := p.nodes["a"]
						a.shutAt, a.after = at, after
						p.start("a")
						content := p.file("a", "x", 10_000)
						order := engine.Order{ID: lifecycle.ID{9}, Partner: "b", Rule: "push", Source: path(t, "x"), Target: path(t, "y")}
						ref := store.Ref{Key: lifecycle.Key{Requester: "a", ID: order.ID}, Role: lifecycle.Requester}
						more = p.crash(a, order, ref, false, func() {})
						p.end(ref, lifecycle.Done)
						p.has("b", "y", content)
						var there []string
						err := filepath.WalkDir(a.root, func(file string, d fs.DirEntry, err error) error {
							if err == nil && !d.IsDir() {
								name, _ := filepath.Rel(a.root, file)
								there = append(there, strings.ReplaceAll(name, order.ID.String(), "{id}"))
							}
							return err
						})
						slices.Sort(there)
						slices.Sort(wants)
						if err != nil || !slices.Equal(there, wants) {
							t.Errorf("the sender has %q, want %q, %v", there, wants, err)
						}
					})
				})
			}
		}
	}
}

// TestLossOfEveryMessage loses each call, each answer and each block once.
func TestLossOfEveryMessage(t *testing.T) {
	for _, rule := range []string{"push", "pull"} {
		for place, name := range map[enginetest.Place]string{enginetest.Asking: "call", enginetest.Answering: "answer", enginetest.Block: "block", enginetest.Verdict: "verdict"} {
			for at, more := int64(1), true; more && at < 100; at++ {
				t.Run(fmt.Sprintf("%s/%s/%d", rule, name, at), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { more = lossAt(t, rule, place, at) })
				})
			}
		}
	}
}

func lossAt(t *testing.T, rule string, place enginetest.Place, at int64) bool {
	log := filepath.Join(t.TempDir(), "log")
	p := crashPair(t, log)
	var count atomic.Int64
	p.wire.Fault = func(where enginetest.Place, c enginetest.Call) error {
		if where == place && count.Add(1) == at {
			return fault.Concluded("call", fault.Lost, "the connection was cut: %v", c)
		}
		return nil
	}
	from, to := p.nodes["a"], p.nodes["b"]
	if rule == "pull" {
		from, to = to, from
	}
	content := p.file(from.name, "x", crashSize)
	ref := p.submit(rule, "x", "y")
	p.end(ref, lifecycle.Done)
	p.has(to.name, "done/y", content)
	p.ran(log, 0)
	return count.Load() >= at
}
