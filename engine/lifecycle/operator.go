package lifecycle

import (
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Stop is an operator's pause at this end; Resume ends it.
type Stop struct {
	Epoch uint64    // of the claim when one is held, else 0
	Due   time.Time // when it is given up as forgotten
}

func (e Stop) on() (row, uint64) { return stop, e.Epoch }

func (e Stop) apply(r *Record) error {
	if r.State == Running {
		r.uncount()
	}
	return r.wait(Stopped, r.Role, e.Due)
}

// Resume is an operator's word to go on with what is interrupted. Due is, of a requester, when it starts: Spec.NotAt
// makes it Scheduled. Of a requested end it is when the requester is given up.
type Resume struct{ Due time.Time }

func (e Resume) on() (row, uint64) { return resume, 0 }

func (e Resume) apply(r *Record) error { return r.submit(e.Due) }

// submit is the way back from a pause or an error, by an operator's word.
func (r *Record) submit(due time.Time) error {
	r.Streak, r.Deaths, r.Peak, r.After = 0, 0, r.Rank, time.Time{}
	if r.Role == Requested {
		return r.wait(Awaiting, Requester, due)
	}
	if due.IsZero() {
		return fault.New("submit", fault.Invalid, "nothing waits silently: due has to be set")
	}
	r.State, r.Reason, r.Owner, r.Due = ToSubmit, NoReason, 0, due
	if due.Equal(r.Spec.NotAt) {
		r.Reason = Scheduled
	}
	return nil
}

// Cancel is an operator's word, at either end, that the bytes are not wanted: INERROR
// without error tasks, and what has arrived is given up. It is recorded before the
// partial file is removed. Too late from COMMITTED (ACKED) on.
type Cancel struct {
	Epoch uint64     // of the claim when one is held, else 0
	Side  fault.Side // Peer: the other end's operator
	Cause string
}

func (e Cancel) on() (row, uint64) { return cancel, e.Epoch }

func (e Cancel) apply(r *Record) error {
	if r.Phase >= Committed {
		return fault.New("cancel", fault.Invalid, "too late: the receiver's file has its name already; if it is not wanted, remove it there")
	}
	if r.unnamed() {
		r.Phase, r.Proof, r.Verified = Moving, "", ""
	}
	r.Rank = 0 // also of a sender: what it was told of is given up there
	r.Failure = Failure{Kind: fault.Canceled, Side: e.Side, Cause: e.Cause, Told: e.Cause}.clipped()
	r.fall()
	return nil
}

// Retry is an operator's word to go on with what has failed, from where its phase
// is: what is recorded done is not run again. A retry of the requester revives the
// requested end by its Round.
type Retry struct {
	Due  time.Time // as for Resume
	Call Call      // requested: the call that brings a higher Round; zero for an operator of this end
	Task bool      // an error task's word, and no operator's: it is counted in Delays
	// By, of a requester, is the Round of the partner that wants the request, whose word this is; 0: it is not.
	By uint32
	// After, of an error task of a requested end, is when calls are served again; they are answered busy before.
	After time.Time
}

func (e Retry) on() (row, uint64) { return retry, 0 }

func (e Retry) apply(r *Record) error {
	switch {
	case r.Role == Requester && e.Call != Call{}:
		return fault.New("retry", fault.Invalid, "a requester is not called")
	case e.By != 0 && (r.Role != Requester || r.Spec.By == ""):
		return fault.New("retry", fault.Invalid, "no partner wants it")
	case e.By != 0 && e.By <= r.ByRound:
		return fault.New("retry", fault.Stale, "a word of round %d after one of %d", e.By, r.ByRound)
	case r.Role == Requester:
		r.Round++
	case e.Call != Call{} && e.Call.Round <= r.Round:
		return fault.New("retry", fault.Stale, "a call of round %d after one of %d", e.Call.Round, r.Round)
	}
	r.Round, r.ByRound = max(r.Round, e.Call.Round), max(r.ByRound, e.By)
	r.Failing, r.Begun = false, 0
	if e.Task {
		r.Delays++
	} else {
		r.Delays = 0
	}
	err := r.submit(e.Due)
	if e.Task && r.Role == Requested {
		r.After = e.After
	}
	return err
}
