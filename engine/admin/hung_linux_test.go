package admin_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/spec/adminpb"
)

// TestCheckHung: a rule's root whose file system does not answer is told of, and all others are looked at.
func TestCheckHung(t *testing.T) {
	n := newNode(t)
	hung := t.TempDir()
	end, err := flowtest.HungMount(hung)
	if err != nil {
		t.Skip("a file system that does not answer: ", err)
	}
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
	n.engine.Book().Rules["hung"] = &engine.Rule{Name: "hung", Direction: engine.Receive, Root: hung}
	n.engine.Set(received(1, "missing", "x", 2))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := n.Check(ctx, &adminpb.CheckRequest{})
	var found []string
	for _, r := range all(t, s, err) {
		if f := r.GetFinding(); f != nil {
			found = append(found, f.GetRule()+": "+f.GetText()[max(0, len(f.GetText())-len(engine.SilentRoot)):])
		}
	}
	if len(found) != 2 || !slices.Contains(found, "hung: "+engine.SilentRoot) {
		t.Errorf("%q", found)
	}
}
