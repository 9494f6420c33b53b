package admin

import (
	"strconv"
	"strings"
	"testing"
	"time"

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

// TestWaits: a request that is paused says so, and at which end.
func TestWaits(t *testing.T) {
	for want, r := range map[string]lifecycle.Record{
		"paused here":           {Reason: lifecycle.Stopped, Role: lifecycle.Requested, Owner: lifecycle.Requested},
		"paused at the partner": {Reason: lifecycle.Stopped, Role: lifecycle.Requested, Owner: lifecycle.Requester},
		"retrying":              {Reason: lifecycle.Retrying, Role: lifecycle.Requester, Owner: lifecycle.Requester},
	} {
		r.State = lifecycle.Interrupted
		got := requestOf(&engine.Status{Record: r})
		if Waits(got) != want || Paused(got) != (r.Reason == lifecycle.Stopped) {
			t.Errorf("%q, paused %v: want %q", Waits(got), Paused(got), want)
		}
	}
}

// TestLeft: only of bytes that move, and whose end is known, is it said how long they take.
func TestLeft(t *testing.T) {
	for _, c := range []struct {
		live *adminpb.Live
		want time.Duration
	}{
		{nil, 0},
		{&adminpb.Live{Total: 100, Durable: 10}, 0},
		{&adminpb.Live{Total: -1, Rate: 10}, 0},
		{&adminpb.Live{Total: 100, Durable: 10, Received: 60, Rate: 10}, 4 * time.Second},
		{&adminpb.Live{Total: 100, Durable: 60, Rate: 10}, 4 * time.Second},
		{&adminpb.Live{Total: 100, Durable: 100, Rate: 10}, 0},
		{&adminpb.Live{Total: 1 << 40, Rate: 1}, 0},
	} {
		if got := Left(c.live); got != c.want {
			t.Errorf("%v: %v, want %v", c.live, got, c.want)
		}
	}
}

// TestAttempt: which attempt of how many it is, where that can be said.
func TestAttempt(t *testing.T) {
	for _, c := range []struct {
		attempt, streak, most uint32
		state                 adminpb.Request_State
		want                  string
	}{
		{0, 0, 5, adminpb.Request_TOSUBMIT, "none has begun"},
		{1, 1, 5, adminpb.Request_RUNNING, "1 of 5"},
		{2, 2, 5, adminpb.Request_INTERRUPTED, "2 of 5"},
		{5, 5, 5, adminpb.Request_INERROR, "5 of 5"},
		{7, 2, 5, adminpb.Request_INTERRUPTED, "7; 2 of 5 in a row without progress"},
		{7, 0, 5, adminpb.Request_INTERRUPTED, "7; it has got further, and 5 in a row may bring no progress"},
		{7, 0, 5, adminpb.Request_INTERRUPTED, "7; put off, which is not counted, and 5 in a row may bring no progress"},
		{7, 0, 5, adminpb.Request_INERROR, "7"},
		{3, 3, 0, adminpb.Request_RUNNING, "3"}, // its rule is gone
		{1, 1, 5, adminpb.Request_DONE, "1"},
	} {
		r := &adminpb.Request{Role: adminpb.Request_REQUESTER, Attempt: c.attempt, Streak: c.streak, State: c.state}
		if strings.Contains(c.want, "put off") {
			r.Failure = &adminpb.Failure{Kind: uint32(fault.Overloaded), Side: "peer"}
		}
		if got := Attempt(r, c.most); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
		if r.Role = adminpb.Request_REQUESTED; c.attempt > 0 && Attempt(r, c.most) != strconv.Itoa(int(c.attempt)) { // the requester decides
			t.Errorf("requested: %q", Attempt(r, c.most))
		}
	}
}
