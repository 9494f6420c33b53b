package web

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// What is said of the other end, when it does not say it itself, is never more than this end's phase proves.
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
		x := &adminpb.TimelineReply{Here: &adminpb.Steps{Side: c.side, Phase: c.phase, State: adminpb.Request_RUNNING}, Partner: "there"}
		for _, l := range lanesOf(x, c.role) {
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

// What the other end says of itself is what is shown, but never less than this end knows; and how it is
// known is said.
func TestTold(t *testing.T) {
	now := time.Now()
	at := func(n int) *timestamppb.Timestamp { return timestamppb.New(now.Add(time.Duration(n) * time.Second)) }
	failure := &adminpb.Failure{Kind: 2, Name: "refused", Side: "here", Cause: "post task 1 has failed", At: at(4)}
	reply := func(change func(*adminpb.TimelineReply)) []lane {
		x := &adminpb.TimelineReply{
			Partner: "there", Told: at(10),
			Here: &adminpb.Steps{Side: adminpb.Request_SENDER, State: adminpb.Request_RUNNING, Phase: "MOVING", Size: 2048, Durable: 1024},
			There: &adminpb.Steps{
				Side: adminpb.Request_RECEIVER, State: adminpb.Request_INERROR, Phase: "POST", Size: 2048, Durable: 2048, Failure: failure, Clock: at(10),
				Tasks:   []*adminpb.TaskCount{{List: "pre", Done: 1, All: 1}, {List: "post", All: 2}, {List: "error", Done: 1, All: 1}},
				Reached: []*adminpb.Reached{{Phase: "ACCEPTED", At: at(0)}, {Phase: "READY", At: at(1)}, {Phase: "COMMITTED", At: at(3)}, {Phase: "POST", At: at(3)}},
				Runs:    []*adminpb.TaskRun{{List: "pre", Number: 1, Name: "check", Began: at(0), Ended: at(1)}, {List: "post", Number: 1, Began: at(3), Ended: at(4), Failed: true}, {List: "error", Number: 1, Began: at(4)}},
			},
		}
		change(x)
		return lanesOf(x, adminpb.Request_REQUESTER)
	}
	there := reply(func(*adminpb.TimelineReply) {})[1]
	var words []string
	for _, s := range there.Steps {
		words = append(words, s.Word+": "+string(s.Status)+" "+s.Note)
		for _, r := range s.Runs {
			words = append(words, r.Name+" "+r.Took+map[bool]string{true: " failed"}[r.Failed])
		}
	}
	want := "Registered: done |Tasks before: done 1 of 1|task 1, check 1 s|Bytes stored: done 2.0 KiB of 2.0 KiB|Tasks after: failed 0 of 2|task 1 1 s failed|error task 1 |Done: not done "
	if got := strings.Join(words, "|"); got != want {
		t.Errorf("shown is\n%s, want\n%s", got, want)
	}
	if !there.Steps[1].At.Equal(now.Add(time.Second)) || there.Problem != "refused: post task 1 has failed" || there.Hint != "As there says." {
		t.Errorf("%+v", there)
	}
	for hint, change := range map[string]func(*adminpb.TimelineReply){
		"As there says, whose clock is ahead of this node's by 1 min 0 s.":   func(x *adminpb.TimelineReply) { x.There.Clock = at(70) },
		"As there says, whose clock is behind this node's by 3 s.":           func(x *adminpb.TimelineReply) { x.There.Clock = at(7) },
		"and nothing since: it is away.":                                     func(x *adminpb.TimelineReply) { x.Trouble = "it is away" },
		"As far as this node knows: there is being asked.":                   func(x *adminpb.TimelineReply) { x.There, x.Told, x.Asking = nil, nil, true },
		"As far as this node knows: there does not say it. It only calls us": func(x *adminpb.TimelineReply) { x.There, x.Told, x.Trouble = nil, nil, "it only calls us" },
	} {
		if got := reply(change)[1].Hint; !strings.Contains(got, hint) {
			t.Errorf("%q, want %q", got, hint)
		}
	}
	late := reply(func(x *adminpb.TimelineReply) { // it has said less than this end knows by now
		x.Here.Phase = "ACKED"
		x.There.State, x.There.Phase, x.There.Failure = adminpb.Request_RUNNING, "MOVING", nil
	})[1]
	if s := late.Steps[3]; s.Status != over || !s.At.IsZero() {
		t.Errorf("its tasks are done, this node knows: %+v", s)
	}
	cancelled := reply(func(x *adminpb.TimelineReply) {
		x.There.Failure = &adminpb.Failure{Kind: uint32(fault.Canceled), Side: "here"}
	})[1]
	if s := cancelled.Steps[3]; s.Status != undone || cancelled.Problem != "" {
		t.Errorf("a cancelled one: %+v", s)
	}
	mine := reply(func(x *adminpb.TimelineReply) { x.There.Failure.Side = "peer" })[1]
	if s := mine.Steps[3]; s.Status == broken {
		t.Errorf("what has failed here is shown as failed there: %+v", s)
	}
}

// TestBytesOver: of a request that has failed after the bytes, no end says that bytes are to come
// which the receiver has, nor that anything is.
func TestBytesOver(t *testing.T) {
	failure := &adminpb.Failure{Kind: 2, Name: "refused", Side: "peer", Phase: "POST"}
	sender := &adminpb.Steps{Side: adminpb.Request_SENDER, State: adminpb.Request_INERROR, Phase: "ACCEPTED", Size: 12, Durable: 12, Failure: failure}
	receiver := &adminpb.Steps{Side: adminpb.Request_RECEIVER, State: adminpb.Request_INERROR, Phase: "POST", Size: 12, Durable: 12, Failure: &adminpb.Failure{Kind: 2, Name: "refused", Side: "here"}}
	for what, x := range map[string]*adminpb.TimelineReply{
		"both tell": {Partner: "there", Here: sender, There: receiver}, "the sender alone": {Partner: "there", Here: sender}, "seen from the receiver": {Partner: "there", Here: receiver, There: sender},
	} {
		for _, l := range lanesOf(x, adminpb.Request_REQUESTER) {
			for _, s := range l.Steps {
				if s.Status == ahead || strings.HasPrefix(s.Word, "Bytes") && s.Status != over {
					t.Errorf("%s, %s: %s is %q", what, l.Name, s.Word, s.Status)
				}
			}
		}
	}
	half := &adminpb.Steps{Side: adminpb.Request_SENDER, State: adminpb.Request_RUNNING, Phase: "MOVING", Size: 12, Durable: 6}
	if s := laneOf(half, 0).Steps[2]; s.Status != under {
		t.Errorf("half of the bytes: %q", s.Status)
	}
}

// An end that has failed and does not answer is known by how far it said it was.
func TestFailedThere(t *testing.T) {
	for phase, broke := range map[string]int{"PRE": 1, "MOVING": 2, "POST": 3} {
		x := &adminpb.TimelineReply{Partner: "there", Trouble: "it cannot be reached", Here: &adminpb.Steps{
			Side: adminpb.Request_SENDER, Phase: "ACCEPTED", State: adminpb.Request_INERROR, Failure: &adminpb.Failure{Kind: uint32(fault.Refused), Side: "peer", Phase: phase},
		}}
		for _, l := range lanesOf(x, adminpb.Request_REQUESTER) {
			for i, s := range l.Steps {
				if (s.Status == broken) != (!l.Here && i == broke) || !l.Here && i < broke && s.Status != over {
					t.Errorf("failed there in %s: step %q of %s is %q", phase, s.Word, l.Name, s.Status)
				}
			}
		}
	}
}
