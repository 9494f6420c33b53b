package web

import (
	"fmt"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

// TestViewers: who follows too many pages keeps nobody else out, and a place that is left is free.
func TestViewers(t *testing.T) {
	var v viewers
	var leave []func()
	enter := func(caller string, want bool) {
		t.Helper()
		l, err := v.enter(caller)
		if (err == nil) != want || err != nil && fault.KindOf(err) != fault.Overloaded {
			t.Fatalf("%s, with %d there: %v", caller, v.all, err)
		}
		if err == nil {
			leave = append(leave, l)
		}
	}
	for range mostOfOne {
		enter("one", true)
	}
	enter("one", false)
	for i := range mostViewers - mostOfOne {
		enter(fmt.Sprint("other ", i), true)
	}
	enter("last", false)
	leave[0]()
	enter("last", true)
	enter("one", false)
	for _, l := range leave[1:] {
		l()
	}
	if v.all != 0 || len(v.of) != 0 {
		t.Errorf("%d are there still: %v", v.all, v.of)
	}
	enter("one", true)
}
