package web

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/spec/adminpb"
)

// An attempt lasts as long as it runs: neither the wait for its end's operator nor what comes between is of it,
// and one that runs goes on.
func TestAttempts(t *testing.T) {
	began := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
	at := func(second int) time.Time { return began.Add(time.Duration(second) * time.Second) }
	event := func(second int, name string, attempt uint32, state adminpb.Request_State, safe int64) *adminpb.Event {
		return &adminpb.Event{At: timestamppb.New(at(second)), Event: name, Attempt: attempt, State: state, Durable: safe}
	}
	const toSubmit, running, inError = adminpb.Request_TOSUBMIT, adminpb.Request_RUNNING, adminpb.Request_INERROR
	events := []*adminpb.Event{
		event(0, "Register", 0, toSubmit, 0), event(1, "Claim", 1, running, 0), event(4, "Fail", 1, inError, 2048),
		event(900, "Retry", 1, toSubmit, 2048), event(901, "Claim", 2, running, 2048), event(902, "Advance", 2, running, 2048),
	}
	r := &adminpb.Request{State: running, Attempt: 2, Durable: 2048, Size: 1 << 20, Live: &adminpb.Live{Durable: 2048 + 4096}}
	var got string
	for _, a := range attemptsOf(r, events, at(906)) {
		got += fmt.Sprintf("%d: %s, %s; ", a.Number, a.Took, a.Moved)
	}
	if want := "2: 5 s so far, 4.0 KiB; 1: 3 s, 2.0 KiB; "; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// What is over soon has not taken nothing.
func TestLasted(t *testing.T) {
	for d, want := range map[time.Duration]string{300 * time.Microsecond: "under 1ms", 1600 * time.Microsecond: "2ms", 90 * time.Second: "1 min 30 s"} {
		if got := lasted(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
