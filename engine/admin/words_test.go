package admin

import (
	"testing"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// TestWords: a third-party copy is told as what it is, and a failure at the other end with its phase.
func TestWords(t *testing.T) {
	for want, s := range map[string]lifecycle.Spec{
		"hostb":          {Partner: "hostb", Rule: "push"},
		"hostb to hostc": {Partner: "hostb", Third: "hostc", Rule: engine.ThirdRule("push")},
		"hostc to hostb": {Partner: "hostb", Third: "hostc", Fetch: true, Rule: engine.ThirdRule("push")},
	} {
		r := requestOf(&engine.Status{Record: lifecycle.Record{Spec: s, Side: lifecycle.Sender}})
		if got := Partner(r); got != want || r.GetRule() != "push" {
			t.Errorf("%q by rule %q, want %q", got, r.GetRule(), want)
		}
	}
	f := lifecycle.Failure{Kind: fault.Refused, Side: fault.Peer, Phase: lifecycle.Whole, Cause: "no"}
	for side, want := range map[lifecycle.Side]string{lifecycle.Sender: "refused at the partner, in WHOLE: no", lifecycle.Receiver: "refused at the partner, in ENDED: no"} {
		r := requestOf(&engine.Status{Record: lifecycle.Record{Side: side, Failure: f}})
		if got := Problem(r.GetFailure()); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := Problem(&adminpb.Failure{Name: "refused", Side: "here", Cause: "no"}); got != "refused: no" {
		t.Error(got)
	}
}
