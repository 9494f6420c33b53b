package engine_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// TestWatchFromItsCall: what ends before somebody looks at what is watched is told, too; and who looks when it is over
// hears that.
func TestWatchFromItsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, nil)
		p.file("a", "x", 1000)
		e := p.nodes["a"].engine
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		watched, late := e.Watch(ctx, store.Query{}), e.Watch(ctx, store.Query{})
		ref := p.submit("push", "x", "y")
		p.endWithin(ref, lifecycle.Done, time.Hour)
		told := false
		for c, err := range watched {
			if told = err == nil && store.RefOf(&c.Record) == ref && c.State == lifecycle.Done; told || err != nil {
				break
			}
		}
		if !told {
			t.Error("its end is not told")
		}
		cancel()
		for _, err := range late {
			if fault.KindOf(err) == fault.Canceled {
				return
			}
		}
		t.Error("who looks late is not told that it is over")
	})
}
