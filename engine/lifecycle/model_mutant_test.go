package lifecycle

import "testing"

// mutation is a way to get the protocol wrong.
type mutation uint8

const (
	none         mutation = iota
	earlyAck              // M1: the receiver says POSTED before its post tasks are recorded
	rerunPost             // M2: a repeated EndTransfer runs the post tasks again
	hastyDone             // M3: the sender is DONE without the answer to EndRequest
	earlyPurge            // M4: a record is purged before it is DONE
	unknownFails          // M5: "unknown" after POSTED is a failure
	pullDone              // a requester that receives is DONE as soon as it is FINISHED
	noRetention           // a record is purged while a call of it is on its way
	revenant              // a call of any phase makes a record where there is none
	oldCallFails          // the requested fails a request for a call that does not match
	hastyOffer            // bytes come with the first call though pre tasks are left
	rankFirst             // the offset is recorded before the bytes are synced
	splice                // bytes of another version are added to the partial file
	unsaid                // a sender whose record is of another version does not write down what it sends
)

// mutants and what shows each of them, for push and for pull; fine where the
// mutant makes no difference.
var mutants = [...]struct {
	name       string
	push, pull flaw
	calls      int // that have to be on their way beside the newest
}{
	earlyAck:     {"M1, ack before post durable", postTooEarly, postTooEarly, 0},
	rerunPost:    {"M2, post task re-run on repeated EndTransfer", ranTwice, ranTwice, 0},
	hastyDone:    {"M3, sender DONE without waiting for EndRequest ack", finishedS, finishedS, 0},
	earlyPurge:   {"M4, purge before DONE", finishedS, finishedS, 0},
	unknownFails: {"M5, unknown is a failure after POSTED", deadEnd, fine, 0},
	pullDone:     {"requester that receives DONE at FINISHED", fine, deadEnd, 0},
	noRetention:  {"purge while a call is on its way", ranTwice, ranTwice, 1},
	revenant:     {"a call of any phase makes a record", mismatched, bytesTooEarly, 0},
	oldCallFails: {"requested fails for an old call", mismatched, mismatched, 1},
	hastyOffer:   {"bytes offered before the pre tasks", bytesTooEarly, fine, 0},
	rankFirst:    {"offset before sync", rankAhead, rankAhead, 0},
	splice:       {"another version appended", spliced, spliced, 0},
	unsaid:       {"another version sent, and not written down", disagree, disagree, 0},
}

// findMutants has the model find what it is there to find, and returns how many it did.
func findMutants(t *testing.T) (found int) {
	for mu := earlyAck; int(mu) < len(mutants); mu++ {
		found++
		for _, push := range []bool{true, false} {
			m := &model{push: push, tasks: 1, inFlight: 1 + mutants[mu].calls, units: 1, changes: mu == splice || mu == unsaid, mutant: mu}
			want := mutants[mu].pull
			if push {
				want = mutants[mu].push
			}
			res := m.search()
			t.Logf("%s: %v, %d worlds: %v", mutants[mu].name, m, res.worlds, res.bad)
			if want == fine && len(res.bad) > 0 || want != fine && res.bad[want] == 0 {
				t.Errorf("%s: %v: %v, want %q", mutants[mu].name, m, res.bad, want)
				found--
			}
		}
	}
	return found
}

// next is Next, or a mutant of it.
func (m *model) next(r *Record, peer Phase) Act {
	act := Next(r, peer)
	switch {
	case m.mutant == earlyAck && r.Side == Receiver && r.Phase == Committed && act.Do == DoClimb:
		act.Do = DoAnswer
		if r.Role == Requester {
			act.Do = DoCall
		}
	case m.mutant == hastyDone && r.Side == Sender && r.Phase == Posted:
		act.Do = DoClimb
	case m.mutant == hastyDone && r.Side == Sender && r.Phase == Finished,
		m.mutant == pullDone && r.Role == Requester && r.Side == Receiver && r.Phase == Finished:
		act.Do = DoConclude
	case m.mutant == unknownFails && r.Phase == Posted && peer == Unknown,
		m.mutant == oldCallFails && act == Act{DoAnswer, Mismatch}:
		act.Do = DoFail
	}
	return act
}

// reveal is the phase that an end says it is in.
func (m *model) reveal(i int, p Phase) Phase {
	if m.mutant == earlyAck && i == m.receiver() && p == Committed {
		return Posted
	}
	return p
}

func (m *model) mayOffer(r *Record) bool {
	return r.MayOffer() || m.mutant == hastyOffer && r.Side == Sender && r.Phase == Accepted
}

func (m *model) admit(r *Record, c Call) Admission {
	if m.mutant == revenant && r == nil {
		return AdmitNew
	}
	return Admit(r, c)
}

// repeated is what a mutant does beside serving a call.
func (m *model) repeated(w *world, c call) {
	last := Posted // of EndTransfer
	if m.push {
		last = Ended
	}
	if m.mutant == rerunPost && c.phase == last && w.end[requested].phase == Posted && w.run[requested].on {
		w.taskRuns(requested, PostList)
	}
}

func (m *model) purgeable(w *world, r *Record) bool {
	if m.mutant == earlyPurge {
		return r.Phase >= Posted && r.State != Running
	}
	return r.Purgeable(modelTime.Add(MinRetention)) && (m.mutant == noRetention || w.calls == [maxCalls]call{})
}

// safe is the offset that may be recorded.
func (m *model) safe(d *disk) uint8 {
	if m.mutant == rankFirst {
		return d.cached
	}
	return d.synced
}
