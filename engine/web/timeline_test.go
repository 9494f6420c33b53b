package web

import (
	"testing"

	"github.com/pannier/pannier/spec/adminpb"
)

// What is said of the other end is never more than this end's phase proves.
func TestLanes(t *testing.T) {
	sender, receiver := adminpb.Request_SENDER, adminpb.Request_RECEIVER
	asked, was := adminpb.Request_REQUESTER, adminpb.Request_REQUESTED
	for _, c := range []struct {
		side  adminpb.Request_Side
		role  adminpb.Request_Role
		phase string
		here  int // steps that are over
		there int
	}{
		{sender, asked, "ACCEPTED", 1, 0}, {sender, asked, "PRE", 1, 0}, {sender, asked, "READY", 2, 0}, {sender, asked, "MOVING", 2, 2},
		{sender, asked, "ENDED", 3, 2}, {sender, asked, "ACKED", 3, 4}, {sender, asked, "POSTED", 4, 4}, {sender, asked, "FINISHED", 5, 5},
		{receiver, asked, "READY", 2, 0}, {receiver, asked, "MOVING", 2, 2}, {receiver, asked, "WHOLE", 2, 2}, {receiver, asked, "COMMITTED", 3, 2},
		{receiver, asked, "POSTED", 4, 2}, {receiver, asked, "FINISHED", 5, 4},
		{sender, was, "ACCEPTED", 1, 1}, {receiver, was, "PRE", 1, 1}, {receiver, was, "FINISHED", 5, 4}, {sender, was, "FINISHED", 5, 5},
	} {
		r := &adminpb.Request{Side: c.side, Role: c.role, Phase: c.phase, State: adminpb.Request_RUNNING, Partner: "there"}
		for _, l := range lanesOf(r, nil) {
			done, want := 0, c.there
			if l.Here {
				want = c.here
			}
			for _, s := range l.Steps {
				if s.Status == over {
					done++
				}
			}
			if done != want {
				t.Errorf("%v, %v in %s: %d steps of %s are over, want %d", c.side, c.role, c.phase, done, l.Name, want)
			}
		}
	}
}
