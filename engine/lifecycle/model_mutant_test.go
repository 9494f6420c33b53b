package lifecycle

import "testing"

// mutant is a way to get the protocol wrong.
type mutant uint8

const (
	none         mutant = iota
	earlyAck            // M1: the receiver says POSTED before its post tasks are recorded
	rerunPost           // M2: a repeated EndTransfer runs the post tasks again
	hastyDone           // M3: the sender is DONE without the answer to EndRequest
	earlyPurge          // M4: a record is purged before it is DONE
	unknownFails        // M5: "unknown" after POSTED is a failure
	noRetention         // a record is purged while a call of it is on its way
	noFence             // a call of an earlier attempt is served
	rankFirst           // the offset is recorded before the bytes are synced
	pullDone            // a requester that receives is DONE as soon as it is FINISHED
)

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
	case m.mutant == hastyDone && r.Side == Sender && r.Phase == Finished:
		act.Do = DoConclude
	case m.mutant == unknownFails && r.Phase == Posted && peer == Unknown:
		act.Do = DoFail
	case m.mutant == pullDone && r.Role == Requester && r.Phase == Finished:
		act.Do = DoConclude
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

func (m *model) admit(r *Record, c Call) Admission {
	if m.mutant == noFence && r != nil && c.Attempt < r.Attempt {
		c.Attempt = r.Attempt
	}
	return Admit(r, c)
}

func (m *model) purgeable(w *world, r *Record) bool {
	if m.mutant == earlyPurge {
		return r.Phase >= Posted && r.State != Running
	}
	return r.Purgeable() && (m.mutant == noRetention || w.calls == [maxCalls]call{})
}

// safe is the offset that may be recorded.
func (m *model) safe(d *disk) uint8 {
	if m.mutant == rankFirst {
		return d.cached
	}
	return d.synced
}

func TestMutants(t *testing.T) {
	for _, mu := range []mutant{earlyAck, rerunPost, hastyDone, earlyPurge, unknownFails, noRetention, noFence, rankFirst, pullDone} {
		for _, push := range []bool{true, false} {
			m := &model{push: push, tasks: 1, mutant: mu}
			res := m.search()
			t.Logf("%d %v: %d worlds, %v", mu, m, res.worlds, res.bad)
		}
	}
}
