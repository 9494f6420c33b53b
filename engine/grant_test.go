package engine_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
)

// listening is a line on which Requests and their answers are noted, and which says nothing of
// rates if its other end is to be one from before there were any.
type listening struct {
	engine.Line

	mu      sync.Mutex
	old     bool
	asked   []int64
	granted []int64
}

func (l *listening) Call(ctx context.Context, partner string, a engine.Ask, d *sideeffect.Descriptor) (engine.Answer, error) {
	l.mu.Lock()
	old := l.old
	l.mu.Unlock()
	if old {
		a.Bandwidth = 0
	}
	answer, err := l.Line.Call(ctx, partner, a, d)
	if old {
		answer.Bandwidth = 0
	}
	if a.Move == lifecycle.Prepare {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.asked, l.granted = append(l.asked, a.Bandwidth), append(l.granted, answer.Bandwidth)
	}
	return answer, err
}

// TestGrant: a request goes at the least rate that either end has for it, which both know, each end
// says whose that is, and it is the same in the next attempt. All rates are in KiB a second.
func TestGrant(t *testing.T) {
	const kib = 1 << 10
	for name, tc := range map[string]struct {
		rule    string
		request int64                // of the request
		here    func(b *engine.Book) // the requester's
		there   func(b *engine.Book)
		node    int64 // of all at b
		old     bool

		granted      int64
		goes         int64  // 0: at once
		says, saysTo string // whose limit it is, by the word of a and of b
	}{
		"request":         {request: 64, granted: 64, goes: 64, says: "bandwidth of the request", saysTo: "bandwidth of the request"},
		"request pulls":   {rule: "pull", request: 64, granted: 64, goes: 64, says: "bandwidth of the request", saysTo: "bandwidth of the request"},
		"its partner":     {request: 64, here: partnerAt(32 * kib), granted: 64, goes: 32, says: "bandwidth of the partner"},
		"the other's":     {request: 64, there: partnerAt(32 * kib), granted: 32, goes: 32, says: "bandwidth of b, which grants 32KiB/s", saysTo: "bandwidth of the partner"},
		"the other's all": {there: partnerAt(32 * kib), granted: 32, goes: 32, says: "bandwidth of b, which grants 32KiB/s", saysTo: "bandwidth of the partner"},
		"its node":        {request: 64, there: partnerAt(48 * kib), node: 32, granted: 32, goes: 32, says: "bandwidth of b, which grants 32KiB/s", saysTo: "bandwidth of the node"},
		"pool of its rule": {rule: "pull", request: 64, there: func(b *engine.Book) {
			b.Pools = map[string]*engine.Pool{"wan": {Name: "wan", Bandwidth: quantity.Always(32 * kib)}}
			b.Rules["pull"].Pool = "wan"
		}, granted: 32, goes: 32, says: "bandwidth of b, which grants 32KiB/s", saysTo: "bandwidth of pool wan"},
		"more than asked": {request: 64, there: partnerAt(128 * kib), granted: 64, goes: 64, says: "bandwidth of the request", saysTo: "bandwidth of the request"},
		"by the time": {request: 64, there: func(b *engine.Book) {
			b.Partners["a"].Bandwidth = tableOf(t, "00:00-12:00 32KiB/s", "12:00-24:00 32KiB/s")
		}, granted: 64, goes: 32, saysTo: "bandwidth of the partner"},
		"nothing said":      {request: 64, old: true, goes: 64, says: "bandwidth of the request"},
		"nothing said pull": {rule: "pull", request: 64, old: true, goes: 64, says: "bandwidth of the request"},
		"none":              {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var line *listening
				p := newGroup(t, func(n *node) {
					n.limits.Clock = func() time.Time { return time.Now().UTC() }
					if n.name == "b" {
						n.limits.Bandwidth = quantity.Always(tc.node * kib)
						return
					}
					n.line = func(l engine.Line) engine.Line {
						line = &listening{Line: l, old: tc.old}
						return line
					}
				}, "a", "b")
				p.wire.Block = 8 << 10 // several a second
				if tc.here != nil {
					p.rebookOf("a", tc.here)
				}
				if tc.there != nil {
					p.rebookOf("b", tc.there)
				}
				rule, from := tc.rule, "a"
				if rule == "" {
					rule = "push"
				} else {
					from = "b"
				}
				size := int64(15 << 20) // a mebibyte goes at once
				p.holeAt(from, "x", size)
				began := time.Now()
				r, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: "b", Rule: rule, Source: path(t, "x"), Target: path(t, "y"), Bandwidth: tc.request * kib})
				if err != nil {
					t.Fatal(err)
				}
				ref := store.RefOf(&r)
				there := store.Ref{Key: ref.Key, Role: lifecycle.Requested}
				if tc.goes > 0 {
					time.Sleep(2 * time.Minute)
					p.held("a", ref, tc.says)
					p.held("b", there, tc.saysTo)
					if s, err := p.nodes["b"].engine.Get(t.Context(), there); err != nil || (s.Spec.Bandwidth != tc.request*kib) != tc.old {
						t.Errorf("b has written down %d, %v", s.Spec.Bandwidth, err)
					}
					line.mu.Lock() // what was from before is not any more
					line.old = false
					line.mu.Unlock()
					p.stop("b") // another attempt has the same
					p.start("b")
					if tc.there != nil {
						p.rebookOf("b", tc.there)
					}
				}
				p.endWithin(ref, lifecycle.Done, time.Hour)
				least, most := time.Duration(0), time.Minute
				if tc.goes > 0 { // each attempt has a mebibyte at once at either end, and a moment to begin
					whole := time.Duration(size/(tc.goes*kib)) * time.Second
					least, most = whole-100*time.Second, whole+time.Minute
				}
				if took := time.Since(began); took < least || took > most {
					t.Errorf("it took %v, want %v to %v", took, least, most)
				}
				line.mu.Lock()
				defer line.mu.Unlock()
				if len(line.asked) == 0 {
					t.Fatal("nobody has asked")
				}
				for i := range line.asked {
					if want := tc.request * kib; !tc.old && (line.asked[i] != want || line.granted[i] != tc.granted*kib && line.granted[i] != 0) {
						t.Errorf("asked for %d and granted %d, want %d and %d", line.asked[i], line.granted[i], want, tc.granted*kib)
					}
				}
				if !tc.old && line.granted[0] != tc.granted*kib {
					t.Errorf("granted %d, want %d", line.granted[0], tc.granted*kib)
				}
			})
		})
	}
}

// partnerAt gives each partner a rate.
func partnerAt(rate int64) func(*engine.Book) {
	return func(b *engine.Book) {
		for _, p := range b.Partners {
			p.Bandwidth = quantity.Always(rate)
		}
	}
}

// held looks whose limit an end says it is that holds the request up; empty: none of its own.
func (p *pair) held(node string, ref store.Ref, want string) {
	p.t.Helper()
	x, err := p.nodes[node].engine.Explain(p.t.Context(), ref)
	if want != "" {
		want = "held up by the " + want
	}
	if err != nil || x.Cause != want {
		p.t.Errorf("%s: %q, want %q, %v", node, x.Cause, want, err)
	}
}

// TestBandwidthRefused: a rate with which an end would take long pauses for the end is none.
func TestBandwidthRefused(t *testing.T) {
	p := newPair(t, nil)
	p.hole("x", 1)
	for _, rate := range []int64{-1, 1, lifecycle.MinBandwidth - 1} {
		_, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: "b", Rule: "push", Source: path(t, "x"), Bandwidth: rate})
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("%d: %v", rate, err)
		}
	}
}

// before is a line to nodes that pass over the bandwidth of a commission.
type before struct {
	engine.Line
	engine.Commissioner
}

func (b before) Commission(ctx context.Context, partner string, c engine.Commission) (engine.Commissioned, error) {
	c.Bandwidth = 0
	return b.Commissioner.Commission(ctx, partner, c)
}

// TestThirdPartyBandwidth: the request of a third-party copy has the bandwidth of the caller's, and a
// node that would make it without one is not asked to.
func TestThirdPartyBandwidth(t *testing.T) {
	for _, old := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newGroup(t, func(n *node) {
				if n.name == "c" && old {
					n.line = func(l engine.Line) engine.Line { return before{l, l.(engine.Commissioner)} }
				}
			}, "a", "b", "c")
			p.allow("a", "push")
			p.file("a", "x", 1000)
			r, err := p.copies(engine.Order{Bandwidth: 5e6})
			if old {
				if fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), "holds no copy to a bandwidth") {
					t.Errorf("%v", err)
				}
				if _, err := p.copies(engine.Order{}); err != nil {
					t.Errorf("without one: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if end, err := p.nodes["c"].engine.Wait(t.Context(), store.RefOf(&r)); err != nil || end.State != lifecycle.Done {
				t.Fatalf("%v: %v, %v", end.State, end.Failure, err)
			}
			n := 0
			for _, at := range []string{"a", "b"} {
				for s, err := range p.nodes[at].engine.Find(t.Context(), store.Query{}) {
					if n++; err != nil || s.Spec.Bandwidth != 5e6 {
						t.Errorf("%s has %d, %v", at, s.Spec.Bandwidth, err)
					}
				}
			}
			if n != 2 {
				t.Errorf("%d records", n)
			}
		})
	}
}
