package web

import (
	"fmt"
	"time"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// The steps of a transfer at both ends. The other end says its own when it is asked; before
// that, and where it says nothing, it is known by what this node has been told, which its own
// phase says: spec/engine.md, "Phases and steps".

// lane is one end.
type lane struct {
	Name    string // of the node
	Here    bool
	Steps   []step
	Hint    string // how it is known
	Problem string // what has ended it there
}

// step is one of an end's.
type step struct {
	Word   string
	Status status
	At     time.Time // when it was done, by the clock of the end; zero: nobody knows
	Note   string    // as "1 of 2"
	Runs   []taskRun
}

// taskRun is when a task of a step ran.
type taskRun struct {
	Name   string // as "task 2, exec"
	At     time.Time
	Took   string // empty: it has not ended
	Failed bool
	Warned bool // done, but somebody should look
}

// status of a step.
type status string

const (
	over    status = "done"
	under   status = "under way"
	broken  status = "failed"
	ahead   status = "to come"
	undone  status = "not done" // and no more to come, as the end has failed
	unknown status = "not known"
)

// Class is how it looks.
func (s status) Class() string {
	switch s {
	case over:
		return "over"
	case under:
		return "under"
	case broken:
		return "broken"
	}
	return "ahead"
}

// A rung is a phase by its number, the same for both sides: lifecycle.Phase.
var rungs = map[string]int{
	"ACCEPTED": 1, "PRE": 2, "READY": 3, "MOVING": 4, "WHOLE": 5, "ENDED": 5, "COMMITTED": 6, "ACKED": 6, "POST": 7, "POSTED": 8, "FINISHED": 9,
}

// rungStep is a step of an end, and from which rung on it is over.
type rungStep struct {
	word  string
	until int
	list  string // whose tasks it is
}

// stepsOf are those of an end. A sender's bytes are over when the receiver has them, a
// receiver's when the file has its name.
func stepsOf(side adminpb.Request_Side) []rungStep {
	bytes := rungStep{word: "Bytes sent", until: 5}
	if side == adminpb.Request_RECEIVER {
		bytes = rungStep{word: "Bytes stored", until: 6}
	}
	return []rungStep{{"Registered", 1, ""}, {"Tasks before", 3, "pre"}, bytes, {"Tasks after", 8, "post"}, {"Done", 9, ""}}
}

// lanesOf are both ends, the sender first.
func lanesOf(t *adminpb.TimelineReply, role adminpb.Request_Role) []lane {
	here := laneOf(t.GetHere(), 0)
	here.Name, here.Here, here.Problem = "This node", true, "" // which is told above
	heard := partnersRung(t.GetHere().GetSide(), role, rungs[t.GetHere().GetPhase()])
	if t.GetHere().GetState() == adminpb.Request_INERROR { // how far it was when it failed
		heard = max(heard, rungs[t.GetHere().GetFailure().GetPhase()])
	}
	var there lane
	if t.GetThere() != nil {
		there = laneOf(t.GetThere(), heard)
	} else {
		there = guessed(t.GetHere(), heard)
	}
	there.Name, there.Hint = t.GetPartner(), hintOf(t)
	if t.GetHere().GetSide() == adminpb.Request_SENDER {
		return []lane{here, there}
	}
	return []lane{there, here}
}

// laneOf is an end as it tells of itself; it is on that rung at least, whenever that was said.
func laneOf(x *adminpb.Steps, least int) (l lane) {
	rung := max(rungs[x.GetPhase()], least)
	if x.GetSide() == adminpb.Request_SENDER && x.GetSize() > 0 && x.GetDurable() >= x.GetSize() {
		rung = max(rung, rungs["ENDED"]) // the receiver has all, also where that has failed since
	}
	reached := map[int]time.Time{}
	for _, r := range x.GetReached() {
		reached[rungs[r.GetPhase()]] = r.GetAt().AsTime()
	}
	for _, s := range stepsOf(x.GetSide()) {
		y := step{Word: s.word, Status: ahead, Note: noteOf(x, s), Runs: runsOf(x, s.list)}
		if rung >= s.until {
			y.Status, y.At = over, reached[s.until]
		}
		l.Steps = append(l.Steps, y)
	}
	f := x.GetFailure()
	broke := x.GetState() == adminpb.Request_INERROR && fault.Kind(f.GetKind()) != fault.Canceled && f.GetSide() != "peer"
	if i := begins(l.Steps, broke, x.GetState() == adminpb.Request_RUNNING); i >= 0 {
		l.Steps[i].Runs = append(l.Steps[i].Runs, runsOf(x, "error")...)
	}
	if broke {
		l.Problem = admin.Problem(f)
	}
	if x.GetState() == adminpb.Request_INERROR {
		l.end()
	}
	return l
}

// end says of what is to come that it is not done.
func (l *lane) end() {
	for i := range l.Steps {
		if l.Steps[i].Status == ahead {
			l.Steps[i].Status = undone
		}
	}
}

// guessed is the other end, of which nothing is known but that it is on that rung at least; 0:
// not even that.
func guessed(here *adminpb.Steps, rung int) (l lane) {
	for _, s := range stepsOf(adminpb.Request_SENDER + adminpb.Request_RECEIVER - here.GetSide()) {
		y := step{Word: s.word, Status: ahead}
		switch {
		case rung >= s.until:
			y.Status = over
		case rung == 0:
			y.Status = unknown
		}
		l.Steps = append(l.Steps, y)
	}
	begins(l.Steps, here.GetState() == adminpb.Request_INERROR && here.GetFailure().GetSide() == "peer" && fault.Kind(here.GetFailure().GetKind()) != fault.Canceled,
		here.GetState() == adminpb.Request_RUNNING && rung > 0)
	if here.GetState() == adminpb.Request_INERROR {
		l.end()
	}
	return l
}

// begins marks the first step that is not over, and says which that is; -1: all are.
func begins(steps []step, broke, runs bool) int {
	for i := range steps {
		if steps[i].Status == over {
			continue
		}
		if broke {
			steps[i].Status = broken
		} else if runs {
			steps[i].Status = under
		}
		return i
	}
	return -1
}

// apart is by how much clocks differ that are not worth a word.
const apart = 2 * time.Second

// hintOf is how the other end's steps are known.
func hintOf(t *adminpb.TimelineReply) string {
	told, why := t.GetTold().AsTime(), t.GetTrouble()
	switch {
	case t.GetThere() == nil && why != "":
		return "As far as this node knows: " + t.GetPartner() + " does not say it. " + capital(why) + "."
	case t.GetThere() == nil:
		return "As far as this node knows: " + t.GetPartner() + " is being asked."
	case why != "":
		return "As " + t.GetPartner() + " said at " + clock(told) + ", and nothing since: " + why + "."
	}
	text := "As " + t.GetPartner() + " says"
	if t.GetThere().GetClock() == nil {
		return text + "."
	}
	switch d := t.GetThere().GetClock().AsTime().Sub(told); {
	case d > apart:
		text += ", whose clock is ahead of this node's by " + left(d)
	case d < -apart:
		text += ", whose clock is behind this node's by " + left(-d)
	}
	return text + "."
}

// partnersRung is how far the partner is at least when this end is on a rung; 0: nothing
// is known.
func partnersRung(side adminpb.Request_Side, role adminpb.Request_Role, rung int) int {
	switch {
	case side == adminpb.Request_SENDER && rung == 9:
		return 9
	case side == adminpb.Request_SENDER && rung >= 6: // it has said POSTED
		return 8
	case side == adminpb.Request_SENDER && rung == 5: // it has said WHOLE; it has given the name by itself then
		return 5
	case rung == 9: // the sender has said POSTED
		return 8
	case rung >= 4: // no bytes before its tasks
		return 4
	case role == adminpb.Request_REQUESTED:
		return 1
	}
	return 0
}

// noteOf is how far a step is: tasks, or bytes.
func noteOf(x *adminpb.Steps, s rungStep) string {
	if s.list != "" {
		for _, t := range x.GetTasks() {
			if t.GetList() == s.list {
				return fmt.Sprintf("%d of %d", t.GetDone(), t.GetAll())
			}
		}
		return "none"
	}
	if (s.until == 5 || s.until == 6) && x.GetSize() >= 0 {
		return size(max(x.GetDurable(), 0)) + " of " + size(x.GetSize())
	}
	return ""
}

// runsOf is when the tasks of a list ran.
func runsOf(x *adminpb.Steps, list string) (all []taskRun) {
	for _, r := range x.GetRuns() {
		if r.GetList() != list {
			continue
		}
		t := taskRun{Name: admin.Task(r), At: r.GetBegan().AsTime(), Failed: r.GetFailed(), Warned: r.GetWarned()}
		if list == "error" {
			t.Name = "error " + t.Name
		}
		if r.GetEnded() != nil {
			t.Took = lasted(r.GetEnded().AsTime().Sub(t.At))
		}
		all = append(all, t)
	}
	return all
}
