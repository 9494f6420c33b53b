package lifecycle

import (
	"time"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Claim gives the record to a runner. The claim is counted before anything is
// done under it, so that a request that kills its node is known by its Deaths.
// What an operator of this end has stopped is not claimed.
type Claim struct {
	Epoch uint64 // above every earlier one: it fences them off
	Call  Call   // requested: the call to serve; zero when the commander ends the request itself
}

func (e Claim) on() (row, uint64) { return claim, 0 }

func (e Claim) apply(r *Record) error {
	switch {
	case e.Epoch <= r.Epoch:
		return fault.New("claim", fault.Stale, "epoch %d does not come after %d", e.Epoch, r.Epoch)
	case e.Call != Call{} && (r.Role == Requester || e.Call.Attempt == 0):
		return fault.New("claim", fault.Invalid, "a %v does not serve a call of attempt %d", r.Role, e.Call.Attempt)
	case e.Call != Call{} && e.Call.Attempt < r.Attempt:
		return fault.New("claim", fault.Stale, "a call of attempt %d after one of %d", e.Call.Attempt, r.Attempt)
	case r.Reason == Stopped && r.Owner == r.Role:
		return fault.New("claim", fault.Invalid, "an operator has stopped it")
	}
	r.State, r.Epoch = Running, e.Epoch
	r.Reason, r.Owner, r.Due, r.After = NoReason, 0, time.Time{}, time.Time{}
	if r.Role == Requester {
		r.Attempt++
	}
	r.Attempt, r.Round = max(r.Attempt, e.Call.Attempt), max(r.Round, e.Call.Round)
	r.Streak++
	return nil
}

// Advance climbs one rung. What the rung says has been made true before.
type Advance struct {
	Epoch uint64
	To    Phase
	Rank  int64  // with Whole: the size of the whole, which a receiver has on its disk. Otherwise not looked at
	Size  int64  // with Moving: the size as the sender says it, -1 unknown. Otherwise not looked at
	Proof string // with Whole: what a receiver has checked it against; a sender's digest, if it made one. At most MaxProof bytes
	// Verified, with Whole: what was compared and equal, as "blocks+root+sha256". At most MaxName bytes.
	Verified string
}

func (e Advance) on() (row, uint64) { return advance, e.Epoch }

func (e Advance) apply(r *Record) error {
	if _, left := r.NextTask(); left || e.To != r.Phase+1 || e.To > Finished {
		return fault.New("advance", fault.Invalid, "%v to %v at a %v whose tasks are %d of %d",
			r.Phase.Name(r.Side), e.To.Name(r.Side), r.Side, r.Tasks, r.Spec.Tasks)
	}
	if e.To == Whole {
		if e.Rank < r.Rank {
			return fault.New("advance", fault.Invalid, "the whole has %d bytes, %d were safe before", e.Rank, r.Rank)
		}
		if len(e.Proof) > MaxProof {
			return fault.New("advance", fault.TooLong, "a proof of %d bytes; at most %d", len(e.Proof), MaxProof)
		}
		if len(e.Verified) > MaxName {
			return fault.New("advance", fault.TooLong, "verified has %d bytes; at most %d", len(e.Verified), MaxName)
		}
		r.Size, r.Proof, r.Verified = e.Rank, e.Proof, e.Verified
		if r.Side == Receiver {
			r.Rank = e.Rank
		}
	}
	if e.To == Acked && r.Side == Sender { // what was sent is safe only now that the receiver has said so
		r.Rank = r.Size
	}
	if e.To == Moving {
		r.Size = e.Size
	}
	r.Phase = e.To
	return nil
}

// BeginTask records that the next task starts. Under another claim it is said
// again: the task may have run, and runs again with the same TaskKey.
type BeginTask struct{ Epoch uint64 }

func (e BeginTask) on() (row, uint64) { return beginTask, e.Epoch }

func (e BeginTask) apply(r *Record) error {
	if _, ok := r.NextTask(); !ok || r.Begun == r.Epoch {
		return r.refuse("begin a task")
	}
	r.Begun = r.Epoch
	return nil
}

// EndTask records that the task begun under this claim is done. It is not run again.
type EndTask struct {
	Epoch uint64
	Moved bool         // File is the file's name from now on
	File  relpath.Path // zero: the file is gone
	// Warning is why somebody should look, although it is done; empty: nobody has to. At most MaxText bytes are kept.
	Warning string
}

func (e EndTask) on() (row, uint64) { return endTask, e.Epoch }

func (e EndTask) apply(r *Record) error {
	l, ok := r.list()
	if !ok || r.Begun != r.Epoch {
		return r.refuse("end a task")
	}
	r.Tasks[l]++
	r.Begun = 0
	if e.Warning != "" {
		r.Warnings, r.Warning = r.Warnings+1, clip(e.Warning)
	}
	if e.Moved {
		r.File = e.File
	}
	return nil
}

// Durable raises the offset. The bytes before it were synced first: it must not
// run ahead of the receiver's disk.
type Durable struct {
	Epoch uint64
	Rank  int64
	// Of a sender that has sent all, and has no answer yet: as with Whole. Empty: nothing is known.
	Proof, Verified string
}

func (e Durable) on() (row, uint64) { return durable, e.Epoch }

func (e Durable) apply(r *Record) error {
	if r.Phase != Moving || e.Rank < r.Rank {
		return fault.New("record offset", fault.Invalid, "%d in %v, %d were safe before", e.Rank, r.Phase.Name(r.Side), r.Rank)
	}
	if len(e.Proof) > MaxProof || len(e.Verified) > MaxName {
		return fault.New("record offset", fault.TooLong, "a proof of %d bytes, verified of %d", len(e.Proof), len(e.Verified))
	}
	if e.Proof != "" || e.Verified != "" {
		r.Proof, r.Verified = e.Proof, e.Verified
	}
	r.Rank = e.Rank
	return nil
}

// Rewind gives up the bytes from Rank on: the source is another now, the last
// block is damaged, the partial file is gone. It is recorded before the file is
// cut. A receiver in WHOLE goes back to MOVING: nobody was told more. So does a sender in
// ENDED that sends another content, because the receiver has: that is recorded before its end is sent.
type Rewind struct {
	Epoch uint64
	Rank  int64
	Size  int64 // of the whole now; -1 unknown
}

func (e Rewind) on() (row, uint64) { return rewind, e.Epoch }

func (e Rewind) apply(r *Record) error {
	if (r.Phase != Moving && r.Phase != Whole) || e.Rank < 0 || e.Rank > r.Rank {
		return fault.New("rewind", fault.Invalid, "to %d of %d in %v", e.Rank, r.Rank, r.Phase.Name(r.Side))
	}
	r.Rank, r.Size, r.Proof, r.Verified, r.Phase = e.Rank, e.Size, "", "", Moving
	return nil
}

// unnamed: everything has arrived, and can still be given up.
func (r *Record) unnamed() bool { return r.Side == Receiver && r.Phase == Whole }

// Interrupt ends a claim that another may follow: after a failure, to drain, or
// because it is the other end's turn. Without a Failure, or InOrder, the claim does
// not count in the Streak. While Failing the first Failure stays.
type Interrupt struct {
	Epoch   uint64
	Reason  Reason
	Owner   Role
	Due     time.Time
	Failure Failure
	InOrder bool // the Failure says why it waits, and is no failed attempt
}

func (e Interrupt) on() (row, uint64) { return interrupt, e.Epoch }

func (e Interrupt) apply(r *Record) error {
	if e.Failure.Kind == 0 || e.InOrder {
		r.uncount()
	}
	if e.Failure.Kind != 0 && !r.Failing {
		r.Failure = e.Failure.clipped()
	}
	return r.wait(e.Reason, e.Owner, e.Due)
}

// uncount takes the present claim out of the Streak: it has ended in order.
func (r *Record) uncount() {
	if r.Streak > 0 {
		r.Streak--
	}
}

// wait is the way into INTERRUPTED.
func (r *Record) wait(why Reason, owner Role, due time.Time) error {
	switch {
	case why == NoReason || why > Awaiting || owner == 0 || owner > Requested || due.IsZero():
		return fault.New("interrupt", fault.Invalid, "nothing waits silently: reason, owner and due have to be set")
	case r.Failing && (owner != r.Role || why == Stopped):
		return fault.New("interrupt", fault.Invalid, "the %v has error tasks to finish", r.Role)
	}
	r.State, r.Reason, r.Owner, r.Due = Interrupted, why, owner, due
	return nil
}

// Fail ends the request with an error; the phase stays what it was. Error tasks
// run next, under the same claim, and Settle ends it; without any it ends here.
type Fail struct {
	Epoch   uint64
	Failure Failure
}

func (e Fail) on() (row, uint64) { return fail, e.Epoch }

func (e Fail) apply(r *Record) error {
	if e.Failure.Kind == 0 {
		return fault.New("fail", fault.Invalid, "a failure without a kind")
	}
	r.Failure = e.Failure.clipped()
	if r.Spec.Tasks[ErrorList] == 0 {
		r.fall()
		return nil
	}
	r.Failing, r.Tasks[ErrorList], r.Begun, r.Streak, r.Deaths = true, 0, 0, 0, 0
	return nil
}

// Settle ends a failing request: its error tasks are over, or one has failed too.
// The Failure stays the first one.
type Settle struct{ Epoch uint64 }

func (e Settle) on() (row, uint64) { return settle, e.Epoch }

func (e Settle) apply(r *Record) error {
	r.fall()
	return nil
}

// fall is the way into INERROR.
func (r *Record) fall() {
	r.State, r.Reason, r.Owner, r.Due, r.After = InError, NoReason, 0, time.Time{}, time.Time{}
}

// Conclude ends a request that is FINISHED: the requested end at once, the
// requester when the requested has said FINISHED, or has forgotten it.
type Conclude struct{ Epoch uint64 }

func (e Conclude) on() (row, uint64) { return conclude, e.Epoch }

func (e Conclude) apply(r *Record) error {
	if r.Phase != Finished {
		return r.refuse("conclude")
	}
	r.State, r.Failure = Done, Failure{}
	return nil
}

// Recover is what a node does to each record it finds RUNNING when it starts:
// the holder of the claim died with the process before.
type Recover struct {
	Due   time.Time
	Alive bool // the process has not died: what its run has come to could not be written down
}

func (e Recover) on() (row, uint64) { return recovered, 0 }

func (e Recover) apply(r *Record) error {
	if !e.Alive {
		r.Deaths++
	}
	owner := Requester
	if r.Failing {
		owner = r.Role
	}
	return r.wait(Restarted, owner, e.Due)
}
