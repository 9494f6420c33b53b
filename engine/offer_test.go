package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	"github.com/pannier/pannier/sideeffect"
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

// opening is a line that opens what is sent before it calls, as that of package peer does.
type opening struct{ engine.Line }

func (l opening) Call(ctx context.Context, partner string, a engine.Ask, d *sideeffect.Descriptor) (engine.Answer, error) {
	if d != nil && d.Direction == sideeffect.ClientToServer {
		s, err := d.Local.OpenSource(sideeffect.SourceSpec{})
		if err != nil {
			return engine.Answer{}, err
		}
		_ = s.Close()
	}
	return l.Line.Call(ctx, partner, a, d)
}

// TestOfferReplaced: a request that may send one version of its source only, whose file has arrived and
// whose answer is lost, asks before it looks at the source again, which is another by then.
func TestOfferReplaced(t *testing.T) {
	for _, size := range offered {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, func(n *node) { n.line = func(l engine.Line) engine.Line { return opening{l} } })
			content := p.file("a", "x", size)
			source := filepath.Join(p.nodes["a"].root, "x")
			fi, err := os.Stat(source)
			if err != nil {
				t.Fatal(err)
			}
			lost := false
			p.wire.Fault = func(where enginetest.Place, _ enginetest.Call) error {
				if where != enginetest.Answering || lost {
					return nil
				}
				lost = true
				if err := errors.Join(os.WriteFile(source+".new", make([]byte, size), 0o644), os.Rename(source+".new", source)); err != nil {
					t.Error(err)
				}
				return fault.Concluded("call", fault.Lost, "the connection was cut")
			}
			r, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: "b", Rule: "push", Source: path(t, "x"), Target: path(t, "y"), Version: sideeffect.VersionOf(fi)})
			if err != nil {
				t.Fatal(err)
			}
			p.end(store.RefOf(&r), lifecycle.Done)
			p.has("b", "y", content)
			if !lost {
				t.Error("no answer was lost")
			}
		})
	}
}

// packing is a line that has read a small source before it calls, as the real one does.
type packing struct {
	engine.Line
	file string
}

func (l packing) Call(ctx context.Context, partner string, a engine.Ask, d *sideeffect.Descriptor) (engine.Answer, error) {
	if d != nil && a.Move == lifecycle.Prepare {
		fi, err := os.Stat(l.file)
		if err == nil {
			err = d.Ledger.Ended(fi.Size(), sideeffect.Sum{})
		}
		if err != nil {
			return engine.Answer{}, err
		}
	}
	return l.Line.Call(ctx, partner, a, d)
}

// TestOfferOverwritten: the answer to a small file is lost, and the file is overwritten before the
// next attempt. Both ends end with the size of what has arrived, and neither speaks of what was not sent.
func TestOfferOverwritten(t *testing.T) {
	for _, size := range offered {
		for _, then := range []int{0, size / 2, size + 1000} {
			t.Run(fmt.Sprintf("%d, then %d", size, then), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newPair(t, func(n *node) {
						n.line = func(l engine.Line) engine.Line { return packing{l, filepath.Join(n.root, "x")} }
					})
					var lost atomic.Bool
					content := p.file("a", "x", size)
					p.wire.Fault = func(where enginetest.Place, c enginetest.Call) error {
						if where != enginetest.Answering || !lost.CompareAndSwap(false, true) {
							return nil
						}
						p.file("a", "x", then)
						return fault.Concluded("call", fault.Lost, "the connection was cut: %v", c)
					}
					a, b := p.end(p.submit("push", "x", "y"), lifecycle.Done)
					p.has("b", "y", content)
					if !lost.Load() || b.Size != int64(size) || a.Size != b.Size || a.Rank != b.Rank || a.Proof != "" && !strings.Contains(b.Proof, a.Proof) {
						t.Errorf("sent %d bytes, proof %q; received %d, proof %q", a.Size, a.Proof, b.Size, b.Proof)
					}
				})
			})
		}
	}
}
