package peer

import (
	"testing"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/peerpb"
)

// TestTraceTravels: with each call; what is no traceparent is passed over, and the call is
// read all the same.
func TestTraceTravels(t *testing.T) {
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, trace := range []string{good, "", "00-x", good + "-more", "01" + good[2:], "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"} {
		a := engine.Ask{Move: lifecycle.Transfer, Key: lifecycle.Key{Requester: "a"}, Side: lifecycle.Sender, Call: lifecycle.Call{Attempt: 1, Phase: lifecycle.Moving}, Trace: trace}
		_, m, err := writeAsk(&a)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readTransfer(m.(*peerpb.TransferAsk))
		want := trace
		if trace != good {
			want = ""
		}
		if err != nil || got.Trace != want {
			t.Errorf("%q: %q, %v", trace, got.Trace, err)
		}
	}
}
