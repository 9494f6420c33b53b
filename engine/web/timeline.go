package web

import (
	"fmt"
	"time"

	"github.com/pannier/pannier/spec/adminpb"
)

// The steps of a transfer at both ends. What the other end has done this one knows by
// what it has been told, which its own phase says: spec/engine.md, "Phases and steps".

// lane is one end.
type lane struct {
	Name  string // of the node; of the other end: of the partner
	Here  bool
	Steps []step
}

// step is one of an end.
type step struct {
	Word   string
	Status status
	At     time.Time // when this node saw it done; zero: not
	Note   string    // as "1 of 2 tasks"
}

// status of a step.
type status string

const (
	over    status = "done"
	under   status = "under way"
	broken  status = "failed"
	ahead   status = "to come"
	unknown status = "not known"
)

// A rung is a phase by its number, the same for both sides: lifecycle.Phase.
var rungs = map[string]int{
	"ACCEPTED": 1, "PRE": 2, "READY": 3, "MOVING": 4, "WHOLE": 5, "ENDED": 5, "COMMITTED": 6, "ACKED": 6, "POST": 7, "POSTED": 8, "FINISHED": 9,
}

// steps are the words of an end's, and from which rung on each is over. A sender's bytes
// are over when the receiver has them, a receiver's when the file has its name.
func stepsOf(side adminpb.Request_Side) []struct {
	word  string
	until int
} {
	bytes := struct {
		word  string
		until int
	}{"Bytes sent", 5}
	if side == adminpb.Request_RECEIVER {
		bytes.word, bytes.until = "Bytes stored", 6
	}
	return []struct {
		word  string
		until int
	}{{"Registered", 1}, {"Tasks before", 3}, bytes, {"Tasks after", 8}, {"Done", 9}}
}

// lanesOf are both ends, the sender first.
func lanesOf(r *adminpb.Request, events []*adminpb.Event) []lane {
	there := adminpb.Request_RECEIVER
	if r.GetSide() == adminpb.Request_RECEIVER {
		there = adminpb.Request_SENDER
	}
	rung := rungs[r.GetPhase()]
	seen := func(least func(rung int) bool) time.Time {
		for _, e := range events {
			if least(rungs[e.GetPhase()]) {
				return e.GetAt().AsTime()
			}
		}
		return time.Time{}
	}
	here := lane{Name: "this node", Here: true}
	broke := r.GetState() == adminpb.Request_INERROR && groupOf(r) == failed
	peer := r.GetFailure().GetSide() == "peer"
	for _, s := range stepsOf(r.GetSide()) {
		x := step{Word: s.word, Status: statusOf(rung, s.until, false), Note: noteOf(r, s.word)}
		if x.Status == over {
			x.At = seen(func(at int) bool { return at >= s.until })
		}
		here.Steps = append(here.Steps, x)
	}
	other := lane{Name: r.GetPartner()}
	heard := partnersRung(r, rung)
	for _, s := range stepsOf(there) {
		x := step{Word: s.word, Status: statusOf(heard, s.until, true)}
		if x.Status == over {
			x.At = seen(func(at int) bool { return partnersRung(r, at) >= s.until })
		}
		other.Steps = append(other.Steps, x)
	}
	begins(here.Steps, broke && !peer, r.GetState() == adminpb.Request_RUNNING)
	begins(other.Steps, broke && peer, r.GetState() == adminpb.Request_RUNNING && heard > 0)
	if r.GetSide() == adminpb.Request_SENDER {
		return []lane{here, other}
	}
	return []lane{other, here}
}

func statusOf(rung, until int, other bool) status {
	switch {
	case rung >= until:
		return over
	case other && rung == 0:
		return unknown
	}
	return ahead
}

// begins marks the first step that is not over.
func begins(steps []step, broke, runs bool) {
	for i := range steps {
		if steps[i].Status == over {
			continue
		}
		if broke {
			steps[i].Status = broken
		} else if runs {
			steps[i].Status = under
		}
		return
	}
}

// partnersRung is how far the partner is at least when this end is on a rung; 0: nothing
// is known.
func partnersRung(r *adminpb.Request, rung int) int {
	switch {
	case r.GetSide() == adminpb.Request_SENDER && rung == 9:
		return 9
	case r.GetSide() == adminpb.Request_SENDER && rung >= 6: // it has said POSTED
		return 8
	case r.GetSide() == adminpb.Request_SENDER && rung == 5: // it has said WHOLE; it has given the name by itself then
		return 5
	case rung == 9: // the sender has said POSTED
		return 8
	case rung >= 4: // no bytes before its tasks
		return 4
	case r.GetRole() == adminpb.Request_REQUESTED:
		return 1
	}
	return 0
}

// noteOf is how many tasks of a step are done.
func noteOf(r *adminpb.Request, word string) string {
	name := map[string]string{"Tasks before": "pre", "Tasks after": "post"}[word]
	for _, t := range r.GetTasks() {
		if t.GetList() == name && name != "" {
			return fmt.Sprintf("%d of %d", t.GetDone(), t.GetAll())
		}
	}
	if name != "" {
		return "none"
	}
	if safe, whole := safeOf(r); word == "Bytes sent" || word == "Bytes stored" {
		if whole >= 0 {
			return size(max(safe, 0)) + " of " + size(whole)
		}
	}
	return ""
}
