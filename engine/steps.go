package engine

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// How far one end of a request has come, and when: what its timeline shows. The other party may
// ask for it, so nothing is in it but steps, times and numbers: no name of a file, rule or
// task, nothing that a task has printed.

// Steps is how far a record is. All of it travels.
type Steps struct {
	Side    lifecycle.Side
	State   lifecycle.State
	Phase   lifecycle.Phase
	Failing bool
	Reason  string // why it waits; empty: it does not
	Attempt uint32
	Rank    int64             // bytes that are safe at the receiver
	Size    int64             // of the whole; -1: not known
	Failure lifecycle.Failure // of the last thing that went wrong
	All     [3]uint8          // how many tasks each List has
	Done    [3]uint8          // and how many of them are done

	Reached [lifecycle.Finished + 1]time.Time // by phase, when it came there; zero: it did not, or nobody knows when any more
	Tasks   []TaskRun                         // as they began; at most MostRuns
	Changed time.Time                         // when it came to be so; zero: its node does not say
	Clock   time.Time                         // when it was told, by the clock of the node whose steps these are
}

// MostRuns is how many runs of tasks are told of a request.
const MostRuns = store.MaxEvents

// TaskRun is one task of a list, as it ran last.
type TaskRun struct {
	List   lifecycle.List
	Number uint8 // in the list, from 1
	Began  time.Time
	Ended  time.Time // zero: it has not, or nobody knows
	Failed bool      // and so has the request
	Warned bool      // it is done, but somebody should look
}

// StepsOf is what a record and its events tell at that time.
func StepsOf(s *Status, events []store.Entry, now time.Time) Steps {
	r := &s.Record
	x := Steps{
		Side: r.Side, State: r.State, Phase: r.Phase, Failing: r.Failing, Reason: reasonOf(r), Attempt: r.Attempt, Rank: safe(s), Size: sizeOf(s),
		Failure: r.Failure, All: r.Spec.Tasks, Done: r.Tasks, Changed: r.Changed, Clock: now,
	}
	for i, e := range events {
		for p := range x.Reached {
			switch {
			case lifecycle.Phase(p) > e.Phase: // it has gone back
				x.Reached[p] = time.Time{}
			case x.Reached[p].IsZero() && (i == 0 || lifecycle.Phase(p) > events[i-1].Phase):
				x.Reached[p] = e.At
			}
		}
		if i == 0 && len(events) == store.MaxEvents { // those before are forgotten, and when it came so far
			clear(x.Reached[:])
		}
	}
	x.Reached[lifecycle.Unknown] = time.Time{}
	x.Tasks = runsOf(r, events)
	return x
}

// runsOf is when tasks ran. An entry has the names of all events of its commit; a task ends in
// a later commit than it begins in.
func runsOf(r *lifecycle.Record, events []store.Entry) (all []TaskRun) {
	var ended [3]int
	failing, open := false, -1
	for _, e := range events {
		for name := range strings.SplitSeq(e.Event, "+") {
			switch name {
			case "BeginTask":
				t := TaskRun{List: listAt(e.Phase, failing), Began: e.At}
				t.Number = numberOf(ended[t.List] + 1)
				all = slices.DeleteFunc(all, t.same) // it runs again
				open = len(all)
				all = append(all, t)
			case "EndTask":
				if open >= 0 { // else its beginning is forgotten
					all[open].Ended, all[open].Warned = e.At, e.Warning != ""
					ended[all[open].List]++
				}
				open = -1
			case "Fail":
				if open >= 0 {
					all[open].Ended, all[open].Failed = e.At, true
				}
				failing, open = true, -1
				ended[lifecycle.ErrorList] = 0
				all = slices.DeleteFunc(all, func(t TaskRun) bool { return t.List == lifecycle.ErrorList })
			case "Settle", "Retry":
				failing, open = false, -1
			}
		}
	}
	for i := range all { // those that are forgotten come before; none are where the record is older than the events
		t := &all[i]
		t.Number = numberOf(int(t.Number) + max(int(r.Tasks[t.List])-ended[t.List], 0))
	}
	return all
}

// numberOf is the number of a task in its list, within what a list can have.
func numberOf(n int) uint8 { return uint8(min(n, math.MaxUint8)) }

// same reports whether both are the same task.
func (t TaskRun) same(o TaskRun) bool { return t.List == o.List && t.Number == o.Number }

// listAt is the list whose tasks run in a phase.
func listAt(p lifecycle.Phase, failing bool) lifecycle.List {
	switch {
	case failing:
		return lifecycle.ErrorList
	case p < lifecycle.Post:
		return lifecycle.PreList
	}
	return lifecycle.PostList
}

// steps is how far a record of this node is.
func (e *Engine) steps(ctx context.Context, ref store.Ref) (Steps, *lifecycle.Record, error) {
	s, err := e.Get(ctx, ref)
	if err != nil {
		return Steps{}, nil, err
	}
	events, err := e.Events(ctx, ref)
	if err != nil {
		return Steps{}, nil, err
	}
	return StepsOf(&s, events, e.now()), &s.Record, nil
}

// Steps is what a partner, whose name is proved, may know of a record of this node: that of a
// request between the two. NotFound is all that is said of any other.
func (e *Engine) Steps(ctx context.Context, partner string, key lifecycle.Key, role lifecycle.Role) (Steps, error) {
	x, r, err := e.steps(ctx, store.Ref{Key: key, Role: role})
	if err != nil && fault.KindOf(err) != fault.NotFound {
		return Steps{}, err
	}
	if err != nil || r.Spec.Partner != partner || r.Spec.Third != "" {
		return Steps{}, fault.New("tell steps", fault.NotFound, "no request of that id between the two is known here")
	}
	x.Failure = toTell(x.Failure)
	return x, nil
}
