package lifecycle

import (
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Event is something that happened to a request at one end. The set is closed.
type Event interface{ apply(*Record) error }

// Apply changes r as e says, or refuses and changes nothing. It is the only
// writer of a Record. now goes into Changed and nowhere else: what is due when
// is the event's business. A refusal is fault.Stale for a claim that is not
// held (any more), otherwise fault.Invalid.
func (r *Record) Apply(e Event, now time.Time) error {
	next := *r
	if err := e.apply(&next); err != nil {
		return fault.Wrap("change request", r.Key.ID.String(), err)
	}
	if next.Phase != r.Phase || next.Tasks != r.Tasks || next.Rank > r.Rank {
		next.Streak = 0
	}
	if next.Failure != r.Failure && next.Failure.At.IsZero() {
		next.Failure.At = now
	}
	next.Changed = now
	next.Version++
	*r = next
	return nil
}

// New is the record of a request that was just registered at the requester, or
// accepted at the requested end.
func New(k Key, role Role, side Side, s Spec, now time.Time) Record {
	r := Record{Key: k, Role: role, Side: side, Spec: s, State: ToSubmit, Phase: Accepted, Registered: now, Changed: now, Due: now}
	if s.NotAt.After(now) {
		r.Reason, r.Due = Scheduled, s.NotAt
	}
	if role == Requested {
		r.State, r.Reason, r.Owner = Interrupted, Awaiting, Requester
	}
	return r
}

// Claim gives the record to a runner. Epoch has to be new: it fences off every
// earlier claim. The attempt is counted before anything of it is done, so that
// a request that kills its node is known by its Streak.
type Claim struct{ Epoch uint64 }

func (e Claim) apply(r *Record) error {
	if r.State != ToSubmit && r.State != Interrupted {
		return illegal(r, "claim")
	}
	if e.Epoch == 0 {
		return fault.New("claim", fault.Invalid, "epoch 0 is no epoch")
	}
	r.State, r.Epoch = Running, e.Epoch
	r.Reason, r.Owner, r.Due = NoReason, 0, time.Time{}
	r.Attempt++
	r.Streak++
	return nil
}

// held is what every event of a runner needs.
func (r *Record) held(epoch uint64) error {
	if r.State != Running || r.Epoch != epoch || epoch == 0 {
		return fault.New("check claim", fault.Stale, "epoch %d does not hold it; it is %v in epoch %d", epoch, r.State, r.Epoch)
	}
	return nil
}

// Advance climbs to a higher rung. Rungs are only skipped as the table in
// spec/engine.md says.
type Advance struct {
	Epoch uint64
	To    Phase
	Rank  int64 // with To Whole: the size of the whole. Otherwise not looked at
}

func (e Advance) apply(r *Record) error {
	if err := r.held(e.Epoch); err != nil {
		return err
	}
	if r.Failing || !r.mayClimb(e.To) {
		return fault.New("advance", fault.Invalid, "%v to %v at a %v whose tasks are %d of %v", r.Phase.Name(r.Side), e.To.Name(r.Side), r.Side, r.Tasks, r.Spec.Tasks)
	}
	if e.To >= Whole && r.Phase < Whole {
		if e.Rank < r.Rank {
			return fault.New("advance", fault.Invalid, "the whole has %d bytes, %d were safe before", e.Rank, r.Rank)
		}
		r.Rank = e.Rank
	}
	r.Phase, r.Open = e.To, false
	if e.To == Finished {
		r.State, r.Epoch, r.Failure = Done, 0, Failure{}
	}
	return nil
}

// rungs is the table of legal climbs: from each phase to the next, and beyond
// it where a list of tasks in between is empty or nothing was revealed yet.
var rungs = map[Phase][]Phase{
	Accepted:  {Pre, Ready, Moving},
	Pre:       {Ready, Moving},
	Ready:     {Moving, Whole},
	Moving:    {Whole},
	Whole:     {Committed, Posted},
	Committed: {Post, Posted},
	Post:      {Posted},
	Posted:    {Finished},
}

func (r *Record) mayClimb(to Phase) bool {
	legal := false
	for _, p := range rungs[r.Phase] {
		legal = legal || p == to
	}
	switch {
	case !legal:
		return false
	case r.Open || r.Phase == Pre && r.left(PreList) || r.Phase == Post && r.left(PostList):
		return false
	case r.Phase == Accepted && to > Pre && r.left(PreList), r.Phase < Post && to == Posted && r.left(PostList):
		return false // they would be skipped
	case r.Phase == Ready && to == Whole && r.Side == Sender:
		return false // a sender reveals MOVING with its call
	}
	return true
}

// left reports whether a list has tasks that are not recorded done.
func (r *Record) left(l List) bool { return r.Tasks[l] < r.Spec.Tasks[l] }

// BeginTask records that the next task starts. Repeated after a crash it says
// that the task runs once more, under the same TaskKey.
type BeginTask struct{ Epoch uint64 }

func (e BeginTask) apply(r *Record) error {
	if err := r.held(e.Epoch); err != nil {
		return err
	}
	if _, ok := r.NextTask(); !ok {
		return illegal(r, "begin a task")
	}
	r.Open = true
	return nil
}

// EndTask records that the task which was begun is done and is not run again.
type EndTask struct{ Epoch uint64 }

func (e EndTask) apply(r *Record) error {
	if err := r.held(e.Epoch); err != nil {
		return err
	}
	l, _ := r.list()
	if !r.Open {
		return illegal(r, "end a task")
	}
	r.Tasks[l]++
	r.Open = false
	return nil
}

// Durable records bytes that are on the receiver's disk. They were synced
// before: the offset must not run ahead of the disk.
type Durable struct {
	Epoch uint64
	Rank  int64
}

func (e Durable) apply(r *Record) error {
	if err := r.held(e.Epoch); err != nil {
		return err
	}
	if r.Phase != Moving || e.Rank < r.Rank {
		return fault.New("record offset", fault.Invalid, "%d in %v, %d were safe before", e.Rank, r.Phase.Name(r.Side), r.Rank)
	}
	r.Rank = e.Rank
	return nil
}

// Restart gives up the bytes that were safe: the source is another now, or the
// partial file is gone. Only before everything has arrived.
type Restart struct{ Epoch uint64 }

func (e Restart) apply(r *Record) error {
	if err := r.held(e.Epoch); err != nil {
		return err
	}
	if r.Phase > Moving && !(r.Phase == Ended && r.Side == Sender) {
		return illegal(r, "start again from zero")
	}
	r.Rank = 0
	return nil
}

// Interrupt ends an attempt that another may follow.
type Interrupt struct {
	Epoch   uint64
	Reason  Reason
	Owner   Role
	Due     time.Time // when Owner acts, or is given up
	Failure Failure   // may be empty, as for a drain
}

func (e Interrupt) apply(r *Record) error {
	if err := r.held(e.Epoch); err != nil {
		return err
	}
	return r.interrupt(e.Reason, e.Owner, e.Due, e.Failure)
}

func (r *Record) interrupt(reason Reason, owner Role, due time.Time, f Failure) error {
	if reason == NoReason || owner == 0 || due.IsZero() {
		return fault.New("interrupt", fault.Invalid, "nothing waits silently: reason, owner and due have to be set")
	}
	r.State, r.Epoch = Interrupted, 0
	r.Reason, r.Owner, r.Due = reason, owner, due
	if f.Kind != 0 {
		r.Failure = f.clipped()
	}
	return nil
}

// Fail ends the request with an error. With error tasks they run next, under
// the same claim, and Settle ends it; the phase stays what it was.
type Fail struct {
	Epoch   uint64 // 0: nobody has claimed it
	Failure Failure
}

func (e Fail) apply(r *Record) error {
	if e.Failure.Kind == 0 {
		return fault.New("fail", fault.Invalid, "a failure without a kind")
	}
	switch {
	case r.State.Final():
		return illegal(r, "fail")
	case r.State == Running:
		if err := r.held(e.Epoch); err != nil {
			return err
		}
	}
	r.Failure = e.Failure.clipped()
	if r.State == Running && !r.Failing && r.Spec.Tasks[ErrorList] > 0 {
		r.Failing, r.Tasks[ErrorList], r.Open = true, 0, false
		return nil
	}
	r.fall()
	return nil
}

// Settle ends a failing request whose error tasks are over, or have failed too.
type Settle struct{ Epoch uint64 }

func (e Settle) apply(r *Record) error {
	if err := r.held(e.Epoch); err != nil {
		return err
	}
	if !r.Failing {
		return illegal(r, "settle")
	}
	r.fall()
	return nil
}

// fall is the way into INERROR.
func (r *Record) fall() {
	r.State, r.Epoch = InError, 0
	r.Reason, r.Owner, r.Due = NoReason, 0, time.Time{}
}

// Stop is an operator's pause. A running one is interrupted by whoever holds it:
// Epoch is that claim's, or 0 when there is none.
type Stop struct {
	Epoch uint64
	Due   time.Time // when it is given up as forgotten
}

func (e Stop) apply(r *Record) error {
	switch {
	case r.State.Final():
		return illegal(r, "stop")
	case r.State == Running:
		if err := r.held(e.Epoch); err != nil {
			return err
		}
	}
	return r.interrupt(Stopped, r.Role, e.Due, Failure{})
}

// Resume makes an interrupted or failed request due. A failed one starts where
// its phase is: what is recorded done is not run again.
type Resume struct{ At time.Time }

func (e Resume) apply(r *Record) error {
	switch {
	case e.At.IsZero():
		return fault.New("resume", fault.Invalid, "the time is not set")
	case r.State != Interrupted && r.State != InError:
		return illegal(r, "resume")
	case r.Role == Requested:
		r.State, r.Reason, r.Owner, r.Due = Interrupted, Awaiting, Requester, e.At
	default:
		r.State, r.Reason, r.Owner, r.Due = ToSubmit, NoReason, 0, e.At
	}
	r.Failing, r.Open = false, false
	r.Streak = 0
	return nil
}

// Recover is what a node does to each record it finds RUNNING when it starts:
// the claim died with the process before.
type Recover struct{ Due time.Time }

func (e Recover) apply(r *Record) error {
	if r.State != Running {
		return illegal(r, "recover")
	}
	return r.interrupt(Restarted, Requester, e.Due, Failure{})
}

func illegal(r *Record, what string) error {
	return fault.New(what, fault.Invalid, "it is %v in %v", r.State, r.Phase.Name(r.Side))
}

// clipped is f with its cause cut to MaxText bytes.
func (f Failure) clipped() Failure {
	if len(f.Cause) > MaxText {
		f.Cause = f.Cause[:MaxText]
	}
	return f
}
