package engine_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/enginetest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/quantity"
	"github.com/pannier/pannier/spec/scorecard/score"
)

// Sizes of the fairness tests, in bytes and bytes a second.
const (
	fairSmall = 64 << 10 // a block of the wire
	fairRate  = 2 << 20
)

// fairNode has partners that a serves through one narrow uplink.
func fairNode(t *testing.T, partners ...string) *pair {
	p := newGroup(t, func(n *node) {
		if n.name == "a" {
			n.limits.Bandwidth = quantity.Always(fairRate)
		}
	}, append([]string{"a"}, partners...)...)
	p.wire.Block = fairSmall
	return p
}

// hole is a file without content at a.
func (p *pair) hole(name string, size int64) {
	p.t.Helper()
	p.holeAt("a", name, size)
}

func (p *pair) holeAt(node, name string, size int64) {
	p.t.Helper()
	at := filepath.Join(p.nodes[node].root, name)
	if err := os.WriteFile(at, nil, 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Truncate(at, size); err != nil {
		p.t.Fatal(err)
	}
}

// send registers a file for a partner.
func (p *pair) send(partner, source, target string) store.Ref {
	r, _, err := p.nodes["a"].engine.Submit(p.t.Context(), engine.Order{Partner: partner, Rule: "push", Source: path(p.t, source), Target: path(p.t, target)})
	if err != nil {
		p.t.Error(err)
	}
	return store.RefOf(&r)
}

// TestFairness is check 25, on an uplink that is the bottleneck: partners that
// have one, eight and thirty-two transfers at a time get as much each, and small
// transfers do not wait for a huge one of the same partner.
func TestFairness(t *testing.T) {
	n := score.N(200)
	var index, apart, ratio float64
	synctest.Test(t, func(t *testing.T) { index, apart = fairShares(t, n) })
	synctest.Test(t, func(t *testing.T) {
		alone := smallOnes(t, n, false)
		beside := smallOnes(t, n, true)
		ratio = float64(beside) / float64(alone)
	})
	if apart > 0.1 || index < 0.99 {
		t.Errorf("a partner's share is %.1f %% off, the index %.3f", 100*apart, index)
	}
	if ratio > 2 {
		t.Errorf("beside a huge transfer 99 of 100 small ones take %.2f times as long", ratio)
	}
	score.Report(t, index, fmt.Sprintf("partners with 1, 8 and 32 transfers at a time are at most %.1f %% off an equal share; %d small transfers beside a huge one take %.2f times as long (99 of 100)", 100*apart, n, ratio))
}

// fairShares is Jain's index of what three partners get, and the largest
// difference from an equal share.
func fairShares(t *testing.T, n int) (index, apart float64) {
	p := fairNode(t, "b", "c", "d")
	each := int64(n) * fairSmall
	var mu sync.Mutex
	got := map[string]float64{}
	p.wire.Fault = func(where enginetest.Place, c enginetest.Call) error {
		if where == enginetest.Block {
			mu.Lock()
			defer mu.Unlock()
			got[c.To] += fairSmall
		}
		return nil
	}
	for partner, at := range map[string]int64{"b": 1, "c": 8, "d": 32} {
		p.hole(partner, each/at)
		for i := range at {
			p.send(partner, partner, fmt.Sprint(i))
		}
	}
	// Two thirds of what all need, without the first part: not all begin at once.
	all := time.Duration(float64(each) * 2 / fairRate * float64(time.Second))
	time.Sleep(all / 8)
	mu.Lock()
	clear(got)
	mu.Unlock()
	time.Sleep(all - all/8)
	mu.Lock()
	defer mu.Unlock()
	sum, squares := 0.0, 0.0
	for _, v := range got {
		sum, squares = sum+v, squares+v*v
	}
	for _, v := range got {
		apart = max(apart, math.Abs(v/sum*3-1))
	}
	return sum * sum / (3 * squares), apart
}

// smallOnes is how long 99 of 100 of n small transfers to b take, all asked for at once.
func smallOnes(t *testing.T, n int, huge bool) time.Duration {
	p := fairNode(t, "b")
	defer func() { // before the next
		p.stop("a")
		p.stop("b")
	}()
	p.hole("small", fairSmall)
	p.hole("huge", int64(n)*fairSmall)
	if huge {
		p.send("b", "huge", "huge")
		time.Sleep(time.Second)
	}
	began := time.Now()
	var mu sync.Mutex
	var took []time.Duration
	inParallel(n, func(i int) {
		ref := p.send("b", "small", fmt.Sprint("small", i))
		if r, err := p.nodes["a"].engine.Wait(t.Context(), ref); err != nil || r.State != lifecycle.Done {
			t.Errorf("%v %v %v", r.State, r.Failure, err)
		}
		mu.Lock()
		defer mu.Unlock()
		took = append(took, time.Since(began))
	})
	slices.Sort(took)
	return took[len(took)*99/100]
}
