package engine_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/enginetest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// booked is a line that calls whom the book has, as package peer does. before is told of each call.
type booked struct {
	engine.Line
	of     *node
	before func(engine.Ask)
}

func (l *booked) known(partner string) error {
	book := l.of.engine.Book()
	p, err := book.Partner(partner)
	if err == nil && p.Address == "" {
		err = fault.New("reach partner", fault.Invalid, "it has no address")
	}
	return err
}

func (l *booked) Reach(ctx context.Context, partner string) (time.Duration, error) {
	if err := l.known(partner); err != nil {
		return 0, err
	}
	return l.Line.Reach(ctx, partner)
}

func (l *booked) Call(ctx context.Context, partner string, a engine.Ask, d *sideeffect.Descriptor) (engine.Answer, error) {
	l.before(a)
	if err := l.known(partner); err != nil {
		return engine.Answer{}, err
	}
	return l.Line.Call(ctx, partner, a, d)
}

// TestRuleGoneAtTheEnd: a requester that has done all of its part, but has not heard that the other end has
// finished, needs neither its rule nor its root for that.
func TestRuleGoneAtTheEnd(t *testing.T) {
	for what, gone := range map[string]func(p *pair, rule string) error{
		"rule": func(p *pair, rule string) error {
			book := p.nodes["a"].engine.Book()
			book.Rules = maps.Clone(book.Rules)
			delete(book.Rules, rule)
			return p.nodes["a"].engine.SetBook(book)
		},
		"root": func(p *pair, _ string) error { return os.Rename(p.nodes["a"].root, p.nodes["a"].root+".away") },
	} {
		for rule, phases := range map[string][]lifecycle.Phase{"push": {lifecycle.Posted}, "pull": {lifecycle.Posted, lifecycle.Finished}} {
			for _, at := range phases {
				t.Run(fmt.Sprintf("%s of a %s in %d", what, rule, at), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						p := newPair(t, func(n *node) { n.rules[rule].Retry.Attempts = 20 })
						var lost atomic.Int32
						times := int32(1)
						if what == "root" { // the rule is there, and says how many attempts there are
							times = engine.DefaultAttempts + 3
						}
						p.wire.Fault = func(where enginetest.Place, c enginetest.Call) error {
							if where != enginetest.Answering || c.Call.Phase != at || lost.Load() == times {
								return nil
							}
							if lost.Add(1) == 1 {
								if err := gone(p, rule); err != nil {
									t.Error(err)
								}
							}
							return fault.Concluded("call", fault.Lost, "the answer is lost")
						}
						p.file("a", "x", 1000)
						p.file("b", "x", 1000)
						p.endWithin(p.submit(rule, "x", "y"), lifecycle.Done, 24*time.Hour)
						if lost.Load() != times {
							t.Errorf("%d answers were lost, want %d", lost.Load(), times)
						}
					})
				})
			}
		}
	}
}

// TestPartnerRemoved: requests of a partner that a new book does not have, or without an address,
// wait for it, whether they were queued or ran, and go on when it is there again. To those that were
// queued this is no attempt.
func TestPartnerRemoved(t *testing.T) {
	for what, without := range map[string]*engine.Partner{"not there": nil, "no address": {Name: "b"}} {
		t.Run(what+" while nothing runs", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { partnerRemoved(t, without, 0) })
		})
		for _, at := range []lifecycle.Move{lifecycle.Prepare, lifecycle.Transfer, lifecycle.EndRequest} {
			t.Run(what+" at "+at.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { partnerRemoved(t, without, at) })
			})
		}
	}
}

func partnerRemoved(t *testing.T, without *engine.Partner, at lifecycle.Move) {
	var p *pair
	var old engine.Book
	var armed atomic.Bool
	remove := func() {
		old = p.nodes["a"].engine.Book()
		book := old
		book.Partners = maps.Clone(old.Partners)
		if delete(book.Partners, "b"); without != nil {
			book.Partners["b"] = without
		}
		if err := p.nodes["a"].engine.SetBook(book); err != nil {
			t.Error(err)
		}
	}
	p = newPair(t, func(n *node) {
		n.line = func(l engine.Line) engine.Line {
			return &booked{Line: l, of: n, before: func(a engine.Ask) {
				if a.Move == at && armed.CompareAndSwap(true, false) {
					remove()
				}
			}}
		}
	})
	a := p.nodes["a"]
	content := p.file("a", "x", 2<<20)
	p.end(p.submit("push", "x", "first"), lifecycle.Done) // the partner is connected
	order := engine.Order{Partner: "b", Rule: "push", Source: path(t, "x"), Target: path(t, "queued"), NotAt: time.Now().Add(time.Minute)}
	queued, _, err := a.engine.Submit(t.Context(), order)
	if err != nil {
		t.Fatal(err)
	}
	refs := map[string]store.Ref{"queued": store.RefOf(&queued)}
	if at == 0 {
		remove()
	} else {
		armed.Store(true)
		refs["ran"] = p.submit("push", "x", "ran")
	}
	time.Sleep(10 * time.Minute)
	for what, ref := range refs {
		why, err := a.engine.Explain(t.Context(), ref)
		if err != nil || why.State.Final() || why.State == lifecycle.Running || !strings.Contains(why.Summary, "no address any more") {
			t.Errorf("%s: %v %v %q %v", what, why.State, why.Failure, why.Summary, err)
		}
		if what == "queued" && why.Attempt != 0 {
			t.Errorf("%d attempts of what was queued", why.Attempt)
		}
	}
	if err := a.engine.SetBook(old); err != nil {
		t.Fatal(err)
	}
	for name, ref := range refs {
		p.end(ref, lifecycle.Done)
		p.has("b", name, content)
	}
}

// TestNotKnown: a partner that does not know this node's key any more, or has another, is waited for
// like one that is down, though the session stands over which it says so; nothing is INERROR for that.
func TestNotKnown(t *testing.T) {
	for _, size := range []int{10, 3 << 20} { // offered, and asked for first
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, func(n *node) { n.rules["push"].Retry = engine.Retry{Attempts: 3, Delay: time.Second} })
			content := p.file("a", "x", size)
			p.end(p.submit("push", "x", "first"), lifecycle.Done) // the partner is connected
			var known atomic.Bool
			p.wire.Fault = func(where enginetest.Place, _ enginetest.Call) error {
				if known.Load() || where != enginetest.Dialling && where != enginetest.Asking {
					return nil
				}
				return fault.FromPeer("find caller", fault.Unauthenticated, "key sha256:12 is of no partner of this node")
			}
			var all []store.Ref
			for i := range 5 {
				all = append(all, p.submit("push", "x", fmt.Sprint("y", i)))
			}
			time.Sleep(time.Hour)
			for _, ref := range all {
				x, err := p.nodes["a"].engine.Explain(t.Context(), ref)
				if err != nil || x.State.Final() || !strings.Contains(x.Cause, "is of no partner of this node") {
					t.Errorf("%v: %s: %s; %v", x.State, x.Summary, x.Cause, err)
				}
			}
			known.Store(true)
			for i, ref := range all {
				p.endWithin(ref, lifecycle.Done, 10*time.Minute)
				p.has("b", fmt.Sprint("y", i), content)
			}
		})
	}
}
