package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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
)

// Sizes of which the bytes come with the first call: inside of it, and beside it.
var offered = []int{0, 10_000, 300_000}

// moves are the calls that were made.
func moves(p *pair) (all []lifecycle.Move) {
	for _, c := range p.wire.Calls() {
		all = append(all, c.Move)
	}
	return all
}

// lookout is a task that is too late when the file is there.
type lookout struct{ file string }

func (l *lookout) Run(context.Context, *task.On) (task.Result, error) {
	if _, err := os.Lstat(l.file); err == nil {
		return task.Result{}, fault.New("look", fault.Refused, "the bytes were faster")
	}
	return task.Result{}, nil
}

// TestOffer: a small file takes two calls. It takes three where somebody has to do
// something first, or it is larger; a task before the bytes runs before them.
func TestOffer(t *testing.T) {
	for _, tc := range []struct {
		what  string
		size  int
		tasks string // the node that has a pre task
		calls int
	}{
		{"inside", 10_000, "", 2},
		{"beside", 1 << 20, "", 2},
		{"large", 1<<20 + 1, "", 3},
		{"pre task of the sender", 10_000, "a", 3},
		{"pre task of the receiver", 10_000, "b", 3},
	} {
		t.Run(tc.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				early := &lookout{}
				p := newPair(t, func(n *node) {
					if n.name == tc.tasks {
						lists := n.rules["push"].Lists(map[string]lifecycle.Side{"a": lifecycle.Sender, "b": lifecycle.Receiver}[n.name])
						lists.Pre = []task.Step{{Name: "look", Task: early, Timeout: time.Minute}}
					}
				})
				early.file = filepath.Join(p.nodes["b"].root, "y")
				content := p.file("a", "x", tc.size)
				p.end(p.submit("push", "x", "y"), lifecycle.Done)
				p.has("b", "y", content)
				if got := moves(p); len(got) != tc.calls {
					t.Errorf("calls: %v", got)
				}
			})
		})
	}
}

// TestCrashOfOffer ends one node, or both, at each commit of a request without tasks,
// before and after it is kept.
func TestCrashOfOffer(t *testing.T) {
	for _, size := range offered {
		for _, victim := range []string{"a", "b"} {
			for _, both := range []bool{false, true} {
				for _, after := range []bool{false, true} {
					for at, more := 1, true; more && at < 20; at++ {
						t.Run(fmt.Sprintf("%d/%s/both=%v/%d/kept=%v", size, victim, both, at, after), func(t *testing.T) {
							synctest.Test(t, func(t *testing.T) { more = crashOfOffer(t, size, victim, at, after, both) })
						})
					}
				}
			}
		}
	}
}

func crashOfOffer(t *testing.T, size int, victim string, at int, after, both bool) bool {
	p := newPair(t, nil)
	v := p.nodes[victim]
	p.stop(victim)
	v.shutAt, v.after = at, after
	p.start(victim)
	content := p.file("a", "x", size)
	order := engine.Order{ID: lifecycle.ID{9}, Partner: "b", Rule: "push", Source: path(t, "x"), Target: path(t, "y")}
	ref := store.Ref{Key: lifecycle.Key{Requester: "a", ID: order.ID}, Role: lifecycle.Requester}
	crashed := p.crash(v, order, ref, both, func() {})
	p.end(ref, lifecycle.Done)
	p.has("b", "y", content)
	return crashed
}

// TestLossOfOffer loses each call, answer, block and verdict of a request without tasks.
func TestLossOfOffer(t *testing.T) {
	for _, size := range offered {
		for _, place := range []enginetest.Place{enginetest.Asking, enginetest.Answering, enginetest.Block, enginetest.Verdict} {
			for at, more := int64(1), true; more && at < 20; at++ {
				t.Run(fmt.Sprintf("%d/%d/%d", size, place, at), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						p := newPair(t, nil)
						var count atomic.Int64
						p.wire.Fault = func(where enginetest.Place, c enginetest.Call) error {
							if where == place && count.Add(1) == at {
								return fault.Concluded("call", fault.Lost, "the connection was cut: %v", c)
							}
							return nil
						}
						content := p.file("a", "x", size)
						p.end(p.submit("push", "x", "y"), lifecycle.Done)
						p.has("b", "y", content)
						more = count.Load() >= at
					})
				})
			}
		}
	}
}
