package lifecycle

import "github.com/pannier/pannier/spec/fault"

// Call is what each call of the requester says of its record.
type Call struct {
	Attempt uint32 // from 1, raised by each claim: one of an earlier attempt than the last is refused
	Round   uint32 // raised by each retry of an operator
	Phase   Phase
}

// Do is what the runner of one end does.
type Do uint8

const (
	DoCall     Do = 1 // requester: make the call of Act.Move; its answer is the peer's phase
	DoAnswer   Do = 2 // requested: Interrupt until the next call, and answer with this end's phase
	DoTask     Do = 3 // BeginTask, run NextTask, EndTask
	DoClimb    Do = 4 // make true what the next rung says, then Advance to it
	DoBytes    Do = 5 // Advance to MOVING, then move bytes: both ends, in the call Transfer or one that offers them
	DoConclude Do = 6 // Conclude
	DoSettle   Do = 7 // Settle: the error tasks are over
	DoFail     Do = 8 // Fail: the phases do not match
)

func (d Do) String() string {
	return nameOf([]string{"", "call", "answer", "task", "climb", "bytes", "conclude", "settle", "fail"}, uint8(d))
}

// Act is one thing to do, and the Move it is a part of.
type Act struct {
	Do   Do
	Move Move
}

// Next is what the holder of r's claim does, whose peer was last heard to be in
// the phase peer. A runner is this loop:
//
//	peer := Unheard; requested: the phase of the call that it serves
//	for { do what Next(r, peer) says; peer is what was heard on the way }
//
// What is heard: the answer of a call; with the end of the bytes that the sender
// has sent all, with their verdict that the receiver is WHOLE. A requested end that
// is to move bytes in a call that has none answers instead.
//
// A requester that MayOffer can have the bytes with the call of Prepare: see Heard.
// What it hears then may take it from ACCEPTED to MOVING, which is one commit.
//
// At any pair of phases one end has the turn, and only the requester can call:
// it calls when the turn is the other's, the requested answers.
func Next(r *Record, peer Phase) Act {
	if r.Failing {
		if _, left := r.NextTask(); left {
			return Act{Do: DoTask}
		}
		return Act{Do: DoSettle}
	}
	m := r.reconcile(peer)
	if r.Role == Requester && peer == Unheard {
		return Act{DoCall, Prepare} // each attempt begins with a Request: where is the other?
	}
	if m > Prepare && r.Phase < Ready && !r.prepared() {
		m = Mismatch // nobody can have had bytes of it
	}
	switch {
	case r.Role == Requested && r.Phase == Finished, m == Nothing:
		return Act{DoConclude, m}
	case m == Mismatch && r.Role == Requester:
		return Act{DoFail, m}
	case m == Transfer:
		return Act{DoBytes, m}
	case r.turn(m, peer):
		if _, left := r.NextTask(); left {
			return Act{DoTask, m}
		}
		return Act{DoClimb, m}
	case r.Role == Requester:
		return Act{DoCall, m}
	}
	return Act{DoAnswer, m} // also to a mismatch: it may be an old call, and the requester knows
}

// MayOffer reports whether the call of Prepare can have the bytes: a requester that
// sends has nothing to do before them. It climbs when it hears that the other has.
func (r *Record) MayOffer() bool {
	return r.Role == Requester && r.Side == Sender && r.Phase == Accepted && r.prepared()
}

// Heard is the phase that the requested hears with a call: with bytes, the requester
// has nothing to do before them.
func (r *Record) Heard(c Call, bytes bool) Phase {
	switch {
	case !bytes:
		return c.Phase
	case r.Phase < Ready:
		return max(c.Phase, Ready)
	}
	return max(c.Phase, Moving)
}

// prepared: no pre task is left.
func (r *Record) prepared() bool { return r.Tasks[PreList] == r.Spec.Tasks[PreList] }

// turn reports whether m is this end's to do.
func (r *Record) turn(m Move, peer Phase) bool {
	switch m {
	case Prepare:
		if r.Role == Requested {
			return r.Phase < Ready
		}
		return peer == Ready
	case EndTransfer, EndRequest:
		return r.Side == Receiver
	case Acknowledge, Finish:
		return r.Side == Sender
	}
	return false
}

// Admission is what the requested end does with a call.
type Admission uint8

const (
	AdmitNew     Admission = 1 // Accept a record, Claim it for the call, then Next
	AdmitServe   Admission = 2 // Claim it for the call, then Next
	AdmitRevive  Admission = 3 // Retry by the call, Claim it for the call, then Next
	AdmitWait    Admission = 4 // a runner is on it: ask again when it has let go
	AdmitAnswer  Admission = 5 // answer with the phase, FINISHED or Unknown; nothing to do
	RefuseStale  Admission = 6 // a call of a later attempt has been here. The requester: mismatch, unless it has given up the call
	RefuseFailed Admission = 7 // answer with the Failure; an operator's retry helps
	RefuseStop   Admission = 8 // an operator of this end has stopped it; ask again later
)

func (a Admission) String() string {
	return nameOf([]string{"", "new", "serve", "revive", "wait", "answer", "stale", "failed", "stopped"}, uint8(a))
}

// Admit says what the requested end does with a call for r; r is nil when it has
// no record. Each call may be lost, repeated and delayed past later ones of its
// attempt: what it says of the requester stays true, because phases only rise.
func Admit(r *Record, c Call) Admission {
	switch {
	case r == nil && c.Phase == Accepted:
		return AdmitNew
	case r == nil || r.State == Done:
		return AdmitAnswer
	case c.Attempt < r.Attempt:
		return RefuseStale
	case r.State == Running:
		return AdmitWait
	case r.State == InError && c.Round > r.Round && !r.cancelledHere():
		return AdmitRevive
	case r.State == InError || r.Failing:
		return RefuseFailed
	case r.Reason == Stopped && r.Owner == Requested:
		return RefuseStop
	}
	return AdmitServe
}

// cancelledHere: by this end's operator, whom the other's does not overrule.
func (r *Record) cancelledHere() bool {
	return r.Failure.Kind == fault.Canceled && r.Failure.Side == fault.Here
}
