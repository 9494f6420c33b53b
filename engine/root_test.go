package engine_test

import (
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/enginetest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
)

// TestRootAway: a root that is not there for a while, as one on a file system that is mounted late, is
// waited for within the rule's attempts, at either end, before anything was moved and in the middle of
// it; nothing that has arrived is given up.
func TestRootAway(t *testing.T) {
	for rule, receiver := range map[string]string{"push": "b", "pull": "a"} {
		for _, victim := range []string{"a", "b"} {
			for _, middle := range []bool{false, true} {
				t.Run(rule+"/"+victim+map[bool]string{true: "/middle"}[middle], func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { rootAway(t, rule, receiver, victim, middle) })
				})
			}
		}
	}
}

func rootAway(t *testing.T, rule, receiver, victim string, middle bool) {
	p := newPair(t, func(n *node) {
		n.rules[rule].Retry = engine.Retry{Delay: time.Hour, Attempts: 3}
		n.limits.SyncEvery = 64 << 10
	})
	root := p.nodes[victim].root
	move := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Error(err)
		}
	}
	var blocks atomic.Int64
	p.wire.Fault = func(where enginetest.Place, _ enginetest.Call) error {
		if middle && where == enginetest.Block && blocks.Add(1) == 8 {
			move(root, root+".away")
			return fault.Concluded("call", fault.Lost, "the connection was cut")
		}
		return nil
	}
	content := p.file(map[string]string{"b": "a", "a": "b"}[receiver], "x", 4<<20)
	if !middle {
		move(root, root+".away")
	}
	ref := p.submit(rule, "x", "y")
	at := ref
	if receiver == "b" {
		at = other(ref)
	}
	time.Sleep(10 * time.Minute)
	why, err := p.nodes["a"].engine.Explain(t.Context(), ref)
	if err != nil || why.State != lifecycle.Interrupted || why.Reason != lifecycle.Retrying || !strings.Contains(why.Cause, "is its file system mounted?") {
		t.Fatalf("%v %v %q %v", why.State, why.Reason, why.Cause, err)
	}
	if r, err := p.nodes[receiver].engine.Get(t.Context(), at); middle && (err != nil || r.Rank == 0) {
		t.Errorf("rank %d, %v", r.Rank, err)
	}
	move(root+".away", root)
	p.endWithin(ref, lifecycle.Done, 24*time.Hour)
	p.has(receiver, "y", content)
}
