package engine

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
)

// How long a requester waits.
const (
	askAgain  = time.Minute      // after the other end's operator has stopped a request, unless that end says when
	tellLimit = 10 * time.Second // to tell the other end that a request has failed
	readAgain = 10 * time.Second // after an error of the store that does not end its use
)

// run takes one request of the commander's: one that this node has registered, or
// one that needs no partner, because it is overdue or has error tasks left. due is
// what is: another version of the record has to wait for its own time.
func (e *Engine) run(x *run, due *waiter) {
	r, err := e.cfg.Store.Get(x.ctx, x.ref)
	if err != nil {
		if e.ctx.Err() == nil && fault.KindOf(err) != fault.NotFound {
			e.log.Error("read record", "id", x.ref.Key.ID.String(), "follow", due.follow.String(), "error", e.storeFailed(err))
			e.postpone(x, due)
		}
		return
	}
	x.read(r)
	x.peer = lifecycle.Unheard
	if waiterOf(&r) == nil || r.Version != due.version {
		return // an operator, or a call, was faster
	}
	x.begin()
	e.carryOut(x, x.claim())
}

// postpone lets the request wait whose record could not be read, until that is tried again.
func (e *Engine) postpone(x *run, due *waiter) {
	e.mu.Lock()
	defer e.mu.Unlock()
	due.dated, due.wake, due.due = false, time.Now().Add(readAgain), e.now().Add(readAgain)
	x.missed = due
}

// carryOut takes a claimed record on, unless claiming it has failed with err.
func (e *Engine) carryOut(x *run, err error) {
	defer x.end()
	x.attempts("")
	defer x.attempted()
	if err == nil && x.r.State == lifecycle.Running {
		err = x.steps()
	}
	if err == nil {
		err = x.commit()
	}
	if err != nil && e.ctx.Err() == nil {
		x.log.Error("the run has ended badly", "error", err)
	}
	e.after(x)
}

// claim takes the record, and fails what is overdue or has ended too many processes.
func (x *run) claim() error {
	r := &x.r
	take := lifecycle.Claim{Epoch: x.epoch}
	switch {
	case r.Failing && poisonous(r):
		x.log.Warn("the process has ended again and again with an error task of it running: the others are not run")
		return x.do(take, lifecycle.Settle{Epoch: x.epoch})
	case r.Failing:
		return x.do(take)
	case stoppedHere(r):
		return x.giveUp("its operator has stopped it, and nobody has resumed it in time",
			lifecycle.Resume{Due: x.engine.now()}, take)
	case r.Role == lifecycle.Requested:
		return x.giveUp("the requester has not called in time", take)
	case poisonous(r):
		return x.poisoned(take)
	}
	return x.do(take)
}

// poisoned claims and fails what is poisonous.
func (x *run) poisoned(take lifecycle.Claim) error {
	if err := x.do(take); err != nil {
		return err
	}
	return x.fail(fault.New("claim", fault.Internal, "the process has ended %d times with this request running and no progress of it: look for the reason before you retry it", x.r.Deaths))
}

// poisonous: too many processes have ended with it running, without progress of it.
func poisonous(r *lifecycle.Record) bool {
	return r.Deaths >= poisonDeaths
}

// giveUp claims and fails what is overdue.
func (x *run) giveUp(why string, events ...lifecycle.Event) error {
	if err := x.do(events...); err != nil {
		return err
	}
	if err := x.rewound(); err != nil {
		return err
	}
	return x.fail(fault.New("wait", fault.Deadline, "%s", fault.Shown(why)))
}

// fail ends the request with an error; error tasks, if there are any, come next.
func (x *run) fail(err error) error {
	f := x.failureOf(err)
	if forgone(f.Kind) {
		if err := x.rewound(); err != nil {
			return err
		}
	}
	if err := x.disowned(err, f.Kind); err != nil {
		return err
	}
	x.log.Warn("failed", "phase", x.r.Phase.Name(x.r.Side), "kind", f.Kind.String(), "at", f.Side.String(), "error", f.Cause)
	return x.do(lifecycle.Fail{Epoch: x.epoch, Failure: f})
}

// ask is what a call says of this end.
func (x *run) ask(m lifecycle.Move) Ask {
	a := Ask{
		Trace: x.acts.inner, Move: m, Key: x.r.Key, Side: x.r.Side, Rule: x.r.Spec.Rule,
		Call: lifecycle.Call{Attempt: x.r.Attempt, Round: x.r.Round, Phase: x.r.Phase},
	}
	s := &x.r.Spec
	a.Source, a.Target, a.Priority, a.Follow, a.Info, a.Hops, a.Bandwidth = s.Source, s.Target, s.Priority, s.Follow, s.Info, s.Hops, s.Bandwidth
	return a
}

// call makes a call and takes in its answer.
func (x *run) call(m lifecycle.Move) error {
	if x.r.Phase < lifecycle.Posted { // from there on rule and root are not needed, and may have gone
		if err := x.prepare(); err != nil {
			return err
		}
	}
	if err := x.turns(m); err != nil {
		return err
	}
	if err := x.commit(); err != nil {
		return err
	}
	x.doing("waiting for the partner: %v", m)
	ctx, cancel := context.WithTimeoutCause(x.ctx, callLimit, errUnanswered)
	defer cancel()
	_, over := x.within(ActCall, m.String())
	var a Answer
	var err error
	if x.r.Spec.Third != "" {
		a, err = x.callThird(ctx, m)
	} else {
		a, err = x.engine.cfg.Line.Call(ctx, x.r.Spec.Partner, x.ask(m), nil)
	}
	err = x.uncalled(err)
	over(err)
	if err != nil && context.Cause(ctx) == error(errUnanswered) {
		err = errUnanswered
	}
	if err != nil {
		return err
	}
	return x.hear(a)
}

// uncalled is why a call has failed that has no answer: if the book does not have the partner any
// more, or no address of it, or one of the two does not know the other's key, this is a lost
// connection, whatever the line says, and the request waits until that is put right.
func (x *run) uncalled(err error) error {
	const op = "call the partner"
	name, book := x.r.Spec.Partner, x.engine.Book()
	switch {
	case err == nil:
		return nil
	case !book.calls(name):
		return fault.Concluded(op, fault.Lost, "the configuration has no partner %s any more, or no address of it", fault.Shown(name))
	case fault.KindOf(err) == fault.Unauthenticated && !book.Partners[name].Bridge && (x.rule == nil || x.rule.Bridge == ""):
		return fault.Concluded(op, fault.Lost, "%s", fault.Shown(fault.Brief(err)))
	}
	return err
}

// errUnanswered ends a call that nobody answers on a session that lives.
var errUnanswered = fault.Concluded("call the partner", fault.Deadline, "it has not answered within %v", callLimit)

// errNoTurn is in the error of an answer that leads nowhere. A partner that gives
// such answers is called again as after other failures, not at once.
var errNoTurn = errors.New("its answers lead to the same call again")

// turns notes that the requester calls for a move. In one run each is called for once:
// where an answer leads to the same again, nothing has come of it.
func (x *run) turns(m lifecycle.Move) error {
	if x.made&(1<<m) != 0 {
		return fault.Concluded("call the partner", fault.Protocol, "%w", errNoTurn)
	}
	x.made |= 1 << m
	return nil
}

// Answers that end a run, as errors.
type (
	busyError struct {
		wait time.Duration
		all  bool // every call of this node's
		why  lifecycle.Failure
	}
	pausedError struct{ wait time.Duration }
)

func (busyError) Error() string   { return "the partner has asked to be called later" }
func (pausedError) Error() string { return "the partner's operator has stopped the request" }

// hear takes in an answer.
func (x *run) hear(a Answer) error {
	const op = "call the partner"
	switch a.Outcome {
	case Served:
		x.peer, x.granted = a.Phase, a.Bandwidth
		if x.granted > 0 {
			x.granted = max(x.granted, lifecycle.MinBandwidth) // with less this end would take long pauses for progress
		}
		if a.Phase >= lifecycle.Whole {
			x.whole = a.Rank
		}
		if x.r.Side == lifecycle.Sender && x.r.Phase == lifecycle.Moving && a.Rank < x.r.Rank {
			return x.do(lifecycle.Rewind{Epoch: x.epoch, Rank: max(a.Rank, 0), Size: x.r.Size})
		}
		return nil
	case Failed:
		if err := x.overtaken(&a); err != nil {
			return err
		}
		return endedError{fault.FromPeer(op, a.Failure.Kind, a.Failure.Cause), a.Phase, max(a.Rank, 0)}
	case Paused:
		if a.Wait <= 0 {
			a.Wait = askAgain
		}
		return pausedError{a.Wait}
	case Busy:
		if a.Failure.Cause == "" {
			a.Failure.Cause = "the partner has asked to be called later"
		}
		return busyError{a.Wait, a.All, lifecycle.Failure{Kind: fault.Overloaded, Side: fault.Peer, Cause: a.Failure.Cause, Told: a.Failure.Cause}}
	case Outdate:
		return fault.New(op, fault.Internal, "the other end knows a later attempt than this end: was this node's store restored from a backup?")
	}
	return fault.New(op, fault.Protocol, "an answer of outcome %d", a.Outcome)
}

// overtaken notes how far the bytes of an offer had come when the receiver failed.
func (x *run) overtaken(a *Answer) error {
	if a.Phase < lifecycle.Moving || a.Failure.Kind == fault.Canceled || !x.r.MayOffer() {
		return nil
	}
	if x.peer = a.Phase; a.Phase >= lifecycle.Whole {
		x.whole = a.Rank
	}
	if err := x.catchUp(); err != nil {
		return err
	}
	if a.Rank <= x.r.Rank || a.Rank > x.r.Size {
		return nil
	}
	return x.do(lifecycle.Durable{Epoch: x.epoch, Rank: a.Rank})
}

// endedError says that the request has ended at the other end: no attempt helps.
type endedError struct {
	why   *fault.Error
	phase lifecycle.Phase // how far that end has come
	rank  int64           // how many bytes that end still has; -1: it has not said
}

func (e endedError) Error() string { return e.why.Error() }
func (e endedError) Unwrap() error { return e.why }

// after does what has to follow a run of the requester.
func (e *Engine) after(x *run) {
	if x.r.Role != lifecycle.Requester {
		return
	}
	f := x.r.Failure
	if x.r.State == lifecycle.Interrupted && cutOff(f) {
		e.lost(x.r.Spec.Partner)
	}
	if x.r.State == lifecycle.InError && (!x.said || f.Kind == fault.Canceled) {
		e.tell(x)
	}
}

// tell says to the other end that the request has ended here. If that is lost, its
// patience says the same later.
func (e *Engine) tell(x *run) {
	a := x.ask(lifecycle.Mismatch)
	a.Why, a.Gone = toTell(x.r.Failure), keeps(&x.r) && x.r.Rank == 0
	if f := x.r.Failure; f.Side == fault.Peer && f.Kind != fault.Canceled {
		a.Why.Cause = "given up, because the last attempt has failed at " + x.r.Spec.Partner + ": " + f.Cause // its own words
	}
	if x.r.Attempt == 0 || e.cfg.Line == nil || !e.more() {
		return
	}
	partner, c := x.r.Spec.Partner, x.commission(0)
	go func() {
		defer e.work.Done()
		ctx, cancel := context.WithTimeout(e.ctx, tellLimit)
		defer cancel()
		var err error
		if c.Third == "" {
			_, err = e.cfg.Line.Call(ctx, partner, a, nil)
		} else if a.Why.Kind == fault.Canceled {
			var is Commissioned
			if is, err = e.cancelThird(ctx, c, partner, a.Why.Cause); err == nil && is.State != lifecycle.InError {
				e.log.Warn("it is cancelled here, and was too late for the partner's request", "id", a.Key.ID.String(), "follow", a.Follow.String(), "partner", partner, "state", is.State.String())
			}
		}
		if err != nil {
			e.log.Info("the partner could not be told", "id", a.Key.ID.String(), "follow", a.Follow.String(), "partner", partner, "error", err)
		}
	}()
}

// more begins a piece of work, for who is none, like an operator's word; false: the node has ended.
func (e *Engine) more() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil { // Drain waits, or has
		return false
	}
	e.work.Add(1)
	return true
}

// backOff is how long to wait after the streak-th attempt without progress: the
// rule's delay, growing, with a fifth of jitter either way.
func (r *Retry) backOff(streak uint32) time.Duration {
	f := r.filled()
	d := float64(f.Delay) * math.Pow(f.Factor, float64(max(streak, 1)-1))
	d = min(d, float64(f.Most))
	return time.Duration(d * (0.8 + 0.4*rand.Float64()))
}
