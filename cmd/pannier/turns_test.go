package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
)

// TestTurns: of more requests than the calls of a command may name, none is out of sight for long, each
// is told to be final once, and no more calls are made at a time than may be.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const parts = 3 * mostCalls
		began := time.Now()
		ends := map[string]time.Time{} // those of the first parts long after the others
		var all []*adminpb.Request
		for i := range parts * admin.MaxRefs {
			r := &adminpb.Request{Id: fmt.Sprint(i), Requester: "here", State: adminpb.Request_RUNNING}
			all = append(all, r)
			ends[r.Id] = began.Add(time.Second)
			if part := i / admin.MaxRefs; part < parts/2 && i%admin.MaxRefs == 0 {
				ends[r.Id] = began.Add(time.Hour)
			}
		}
		calls, ended := make(chan bool, mostCalls), errors.New("the call has ended")
		watch := func(ctx context.Context, refs []*adminpb.Ref, tell func(*adminpb.Change) error) error {
			select {
			case calls <- true:
				defer func() { <-calls }()
			default:
				t.Error("too many calls")
			}
			refs = slices.Clone(refs)
			slices.SortStableFunc(refs, func(a, b *adminpb.Ref) int { return ends[a.Id].Compare(ends[b.Id]) })
			for _, r := range refs {
				if wait := time.Until(ends[r.Id]); wait > 0 { // a timer for each of them is more than the race detector bears in a bubble
					select {
					case <-time.After(wait):
					case <-ctx.Done():
						return ended
					}
				}
				if err := tell(&adminpb.Change{Request: &adminpb.Request{Id: r.Id, Requester: r.Requester, State: adminpb.Request_DONE}}); err != nil {
					return err
				}
			}
			return nil
		}
		told := map[string]bool{}
		for got := range changesOf(t.Context(), watch, all) {
			if got.err != nil {
				if !errors.Is(got.err, io.EOF) {
					t.Error(got.err)
				}
				break
			}
			id := got.change.GetRequest().GetId()
			if told[id] {
				t.Errorf("%s is told twice", id)
			}
			told[id] = true
			if late := time.Since(ends[id]); late > parts/mostCalls*turn {
				t.Fatalf("%s is told after %v", id, late)
			}
		}
		if len(told) != len(all) {
			t.Errorf("%d of %d are told", len(told), len(all))
		}
	})
}
