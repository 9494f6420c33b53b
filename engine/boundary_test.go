package engine_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/pannier/pannier/engine/enginetest"
	"github.com/pannier/pannier/spec/scorecard/score"
)

// TestBoundaries is check 13: at every boundary of a phase one end dies, both do,
// or a message is lost; both ends are DONE after it, and no task has run twice but
// one that was cut off. The scorecard says how many boundaries of each sort are
// tried, spread over all of them; by hand a few, as TestCrashAtEveryCommit tries all.
func TestBoundaries(t *testing.T) {
	const most = 36 // boundaries of a sort, at most
	step := max(1, most/score.N(4))
	first := 1 + int(score.Seed())%step
	passed := 0
	point := func(name string, try func(t *testing.T) bool) (more bool) {
		if t.Failed() {
			return false
		}
		if t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { more = try(t) }) }) && more {
			passed++
		}
		return more
	}
	for _, rule := range []string{"push", "pull"} {
		for _, victim := range []string{"a", "b"} {
			for mode, name := range []string{"one, not kept", "one, kept", "both, not kept", "both, kept"} {
				for at := first; point(fmt.Sprintf("%s/%s/%s/%d", rule, victim, name, at), func(t *testing.T) bool {
					return crashAt(t, rule, victim, at, mode%2 == 1, mode > 1)
				}); at += step {
				}
			}
		}
		for place, name := range map[enginetest.Place]string{enginetest.Asking: "call", enginetest.Answering: "answer", enginetest.Block: "block"} {
			for at := first; point(fmt.Sprintf("%s/%s/%d", rule, name, at), func(t *testing.T) bool { return lossAt(t, rule, place, int64(at)) }); at += step {
			}
		}
	}
	score.Report(t, float64(passed), fmt.Sprintf("%d boundaries: one or both ends died there, before or after the commit, or a message was lost", passed))
}
