package engine

import (
	"testing"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
)

// TestWhoseFailure: a cause says at which end it is; a sender has no quota, so one that is exceeded is
// not said to be here; of attempts it is said which are counted.
func TestWhoseFailure(t *testing.T) {
	over := lifecycle.Failure{Kind: fault.QuotaExceeded, Cause: "too many"}
	for want, r := range map[string]lifecycle.Record{
		"quota exceeded, the quota of b's rule: too many": {Side: lifecycle.Sender, Failure: over},
		"quota exceeded, here: too many":                  {Side: lifecycle.Receiver, Failure: over},
		"no space, at b: full":                            {Side: lifecycle.Sender, Failure: lifecycle.Failure{Kind: fault.NoSpace, Side: fault.Peer, Cause: "full"}},
	} {
		if r.Spec.Partner = "b"; cause(&r) != want {
			t.Errorf("%q, want %q", cause(&r), want)
		}
	}
	for streak, want := range map[uint32]string{
		0: "waits for another attempt; the last one has got further, which is not counted: 1 in a row may make no progress",
		2: "waits for another attempt; of the 3 in a row that may make no progress 2 have",
	} {
		x := Explanation{Attempts: int(streak) + 1}
		x.State, x.Reason, x.Streak = lifecycle.Interrupted, lifecycle.Retrying, streak
		x.At = x.At.AddDate(1, 0, 0)
		if x.waits(x.At.AddDate(-1, 0, 0), false, false, false, false, false); x.Summary != want {
			t.Errorf("%q, want %q", x.Summary, want)
		}
	}
	for _, why := range []string{"crowded", "full", "alone"} { // of which nobody knows how long it takes
		turn := Explanation{Partner: PartnerStatus{Connected: true}}
		now := turn.At.AddDate(1, 0, 0)
		turn.State, turn.At = lifecycle.ToSubmit, now.Add(-1)
		if turn.waits(now, why == "full", why == "crowded", why == "alone", false, false); !turn.At.IsZero() {
			t.Errorf("%s is due at %v", turn.Summary, turn.At)
		}
	}
}
