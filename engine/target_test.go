package engine_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// asPartner calls b as the partner c, by hand.
func (p *pair) asPartner(m lifecycle.Move, id byte, target string, why lifecycle.Failure) (engine.Answer, error) {
	a := engine.Ask{
		Move: m, Key: lifecycle.Key{Requester: "c", ID: lifecycle.ID{id}}, Side: lifecycle.Sender, Call: lifecycle.Call{Attempt: 1, Phase: lifecycle.Accepted},
		Rule: "push", Source: path(p.t, "x"), Target: path(p.t, target), Follow: lifecycle.ID{id}, Why: why,
	}
	return p.nodes["b"].engine.Serve(p.t.Context(), "c", a, nil)
}

// TestCancelOfAnother: who gives up a request takes nothing from another one to
// the same target, neither while that runs nor while it waits.
func TestCancelOfAnother(t *testing.T) {
	for _, waits := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newGroup(t, nil, "a", "b", "c")
			p.nodes["b"].limits.SyncEvery = 64 << 10
			p.stop("b")
			p.start("b")
			content := p.file("a", "x", crashSize)
			reached, open := gateOn(p)
			ref := p.submit("push", "x", "y")
			<-reached
			if waits {
				close(open)
				if _, err := p.nodes["a"].engine.Pause(t.Context(), ref); err != nil {
					t.Fatal(err)
				}
			}
			before, err := p.nodes["b"].engine.Get(t.Context(), other(ref))
			if err != nil {
				t.Fatal(err)
			}
			if ans, err := p.asPartner(lifecycle.Prepare, 7, "y", lifecycle.Failure{}); err != nil || ans.Phase != lifecycle.Ready {
				t.Fatal(ans, err)
			}
			if ans, err := p.asPartner(lifecycle.Mismatch, 7, "y", lifecycle.Failure{Kind: fault.Canceled}); err != nil || ans.Outcome != engine.Failed {
				t.Fatal(ans, err)
			}
			kept, err := sideeffect.PartialName(path(t, "y"), engine.PartialKey(ref.Key))
			if err != nil {
				t.Fatal(err)
			}
			if !exists(p, "b", kept.String()) {
				t.Errorf("the partial file of another request is gone (waits: %v, rank %d)", waits, before.Rank)
			}
			if waits {
				_, err = p.nodes["a"].engine.Resume(t.Context(), ref)
			} else {
				close(open)
			}
			if err != nil {
				t.Fatal(err)
			}
			p.endWithin(ref, lifecycle.Done, time.Hour)
			p.has("b", "y", content)
		})
	}
}

func exists(p *pair, node, name string) bool {
	_, err := os.Lstat(filepath.Join(p.nodes[node].root, name))
	return err == nil
}
