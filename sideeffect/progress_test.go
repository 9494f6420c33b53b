package sideeffect

import (
	"testing"
)

// heard is a stream on which the sink has said how far it is.
type heard struct {
	Outgoing
	received, durable int64
}

func (h heard) Received() int64 { return h.received }
func (h heard) Durable() int64  { return h.durable }

// TestProgressFollowsAckPoint: received bytes always move; acknowledged ones
// mean what the ack point says.
func TestProgressFollowsAckPoint(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name              string
		point             AckPoint
		start             int64
		received, durable int64
		want              Progress
	}{
		{"nothing heard", AckDurable, 0, 0, 0, Progress{Moved: 80, Total: 100}},
		{"written, not synced", AckDurable, 0, 60, 0, Progress{Moved: 80, Received: 60, Total: 100}},
		{"partly synced", AckDurable, 0, 60, 40, Progress{Moved: 80, Received: 60, Acknowledged: 40, Durable: 40, Total: 100}},
		{"stored", AckStored, 0, 60, 40, Progress{Moved: 80, Received: 60, Acknowledged: 60, Durable: 40, Total: 100}},
		{"received", AckReceived, 0, 60, 0, Progress{Moved: 80, Received: 60, Acknowledged: 60, Total: 100}},
		{"resumed", AckDurable, 30, 30, 30, Progress{Moved: 80, Received: 30, Acknowledged: 30, Durable: 30, Total: 100}},
		{"more than was sent", AckStored, 0, 1000, 1000, Progress{Moved: 80, Received: 80, Acknowledged: 80, Durable: 80, Total: 100}},
	} {
		s := sender{out: heard{received: tc.received, durable: tc.durable}, plan: SendPlan{Start: tc.start, AckPoint: tc.point}, at: 80, total: 100}
		if got := s.progress(); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}
