package engine

import (
	"context"
	"errors"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// Serve is what the network calls for each call of a partner whose name is
// proved. effect is nil unless the call carries one. What the call says was
// checked for its form.
//
// It returns when this end is as far as it can come without another call, or after
// callHold: what takes longer goes on, and a later call waits for it. Nor does the
// caller going away end what has begun.
func (e *Engine) Serve(ctx context.Context, partner string, a Ask, effect Effect) (Answer, error) {
	if a.Key.Requester != partner {
		return Answer{}, fault.New("serve", fault.Permission, "the request is of %q, the caller is %q", fault.Shown(a.Key.Requester), fault.Shown(partner))
	}
	if busy, ok := e.enter(partner); !ok {
		return busy, nil
	}
	x, answer, err := e.await(ctx, store.Ref{Key: a.Key, Role: lifecycle.Requested}, a)
	if x == nil {
		e.leave(partner)
		return answer, err
	}
	over := func() {
		x.attempted()
		x.end()
		e.release(x)
		e.leave(partner)
	}
	answer, admitted, err := x.admit(a)
	if err != nil || !admitted {
		over()
		return answer, err
	}
	x.attempts(a.Trace)
	x.effect, x.peer, x.brief = effect, x.r.Heard(a.Call, effect != nil), true
	if err = x.serve(); errors.Is(err, errLong) {
		return x.serveLong(ctx, over)
	}
	defer over()
	return x.answer(err)
}

// serve takes an admitted record on.
func (x *run) serve() (err error) {
	if x.r.State == lifecycle.Running {
		err = x.steps()
	}
	if err == nil {
		err = x.commit()
	}
	return err
}

// errLong ends the steps of a call before one that may take long.
var errLong = errors.New("the next step may take long")

// serveLong takes the record on in a goroutine of its own, and answers when that is
// over or callHold is.
func (x *run) serveLong(ctx context.Context, over func()) (Answer, error) {
	type result struct {
		answer Answer
		err    error
	}
	x.effect, x.brief = nil, false // the bytes are over with the call
	done := make(chan result, 1)
	go func() {
		answer, err := x.answer(x.serve())
		over()
		done <- result{answer, err}
	}()
	timer := time.NewTimer(callHold)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-timer.C:
		return x.stillAt(), nil
	case <-ctx.Done():
		return Answer{}, fault.Wrap("serve", "", context.Cause(ctx))
	}
}

// admit reads the record and claims it for the call, or has the answer.
func (x *run) admit(a Ask) (_ Answer, admitted bool, err error) {
	r, err := x.engine.cfg.Store.Get(x.ctx, x.ref)
	present := &r
	switch {
	case fault.KindOf(err) == fault.NotFound:
		present = nil
	case err != nil:
		return Answer{}, false, x.engine.storeFailed(err)
	default:
		x.read(r)
	}
	if a.Move == lifecycle.Prepare && present != nil && (r.Side != a.Side.Other() || !same(&r, a)) {
		return Answer{}, false, fault.New("accept request", fault.Exists, "this node has another request of that id: a new one needs a new id")
	}
	if a.Move == lifecycle.Mismatch {
		answer, err := x.dismiss(present, a)
		return answer, false, err
	}
	now := x.engine.now()
	due := now.Add(x.engine.cfg.Patience)
	claim := lifecycle.Claim{Call: a.Call}
	switch lifecycle.Admit(present, a.Call) {
	case lifecycle.AdmitNew:
		if busy, ok, err := x.accept(a, now, due); !ok {
			x.engine.turnedAway(&a, err)
			return busy, false, err
		}
		claim.Epoch = x.epoch
		return Answer{}, true, x.do(claim)
	case lifecycle.AdmitServe:
		if wait := x.putOff(now); wait > 0 && a.Call.Round <= r.Round { // no operator's word since
			return x.later(wait), false, nil
		}
		x.begin()
		claim.Epoch = x.epoch
		if !r.Failing && poisonous(&r) {
			return Answer{}, true, x.poisoned(claim)
		}
		return Answer{}, true, x.do(claim)
	case lifecycle.AdmitRevive:
		if busy, ok := x.roomAgain(a.Key.Requester); !ok {
			return busy, false, nil
		}
		x.begin()
		claim.Epoch = x.epoch
		x.log.Info("the requester tries again what had failed")
		return Answer{}, true, x.do(lifecycle.Retry{Due: due, Call: a.Call}, claim)
	case lifecycle.AdmitAnswer:
		if present == nil {
			return Answer{Outcome: Served, Phase: lifecycle.Unknown, Size: -1}, false, nil
		}
	case lifecycle.AdmitWait: // nobody has it here, so the store has failed its run, or was full
		return busyFor(busyWait, false, "it has no room to write down how far the request has come"), false, nil
	case lifecycle.RefuseStale:
		return Answer{Outcome: Outdate}, false, nil
	}
	answer, err := x.answer(nil)
	return answer, false, err
}

// accept makes the record of a new request, which the first commit keeps, unless
// there is no room for one.
func (x *run) accept(a Ask, now, due time.Time) (busy Answer, ok bool, _ error) {
	const op = "accept request"
	if a.Move != lifecycle.Prepare {
		return busy, false, fault.New(op, fault.Protocol, "a new request comes with Request")
	}
	book := x.engine.Book()
	rule, err := book.Rule(a.Rule)
	if err == nil && !rule.Allows(a.Key.Requester) || err != nil { // who may not use a rule does not learn that there is one
		return busy, false, fault.New(op, fault.Permission, "no rule %q for partner %q", fault.Shown(a.Rule), fault.Shown(a.Key.Requester))
	}
	if rule.Direction.Side() != a.Side {
		return busy, false, fault.New(op, fault.Permission, "rule %q is for the other direction", fault.Shown(a.Rule))
	}
	if int(a.Hops) > x.engine.cfg.Hops {
		return busy, false, x.engine.tooFar(op)
	}
	side, spec := a.Side.Other(), asked(a)
	spec.Tasks = rule.Lists(side).counts()
	if err := refuseOwn(op, &spec); err != nil {
		return busy, false, err
	}
	r, err := lifecycle.Accept(a.Key, side, spec, now, due)
	if err != nil {
		return busy, false, err
	}
	if busy, ok = x.room(a.Key.Requester); !ok {
		return busy, false, nil
	}
	r.Trace = x.engine.cfg.Observer.Trace(a.Trace)
	x.r, x.first, x.fresh = r, r, true
	x.begin()
	return busy, true, nil
}

// turnedAway tells of a request that this node does not accept: it has no record that would say so.
func (e *Engine) turnedAway(a *Ask, err error) {
	if err == nil { // it may come again
		return
	}
	if unlogged, yes := e.calm.Speak(a.Key.Requester); yes {
		args := []any{"id", a.Key.ID.String(), "follow", a.Follow.String(), "partner", a.Key.Requester, "rule", a.Rule, "error", err}
		if unlogged > 0 {
			args = append(args, "unlogged", unlogged)
		}
		e.log.Warn("a request is not accepted", args...)
	}
}

// asked is what a Request asks for.
func asked(a Ask) lifecycle.Spec {
	return lifecycle.Spec{Partner: a.Key.Requester, Rule: a.Rule, Source: a.Source, Target: a.Target, Priority: a.Priority, Follow: a.Follow, Info: a.Info, Hops: a.Hops, Bandwidth: a.Bandwidth}
}

// same reports whether the record is of what a Request asks for. A node from before requests had
// a bandwidth has passed over it, and is of another version now.
func same(r *lifecycle.Record, a Ask) bool {
	spec := asked(a)
	spec.Bandwidth = r.Spec.Bandwidth
	return r.Spec.Same(spec)
}

// answer is what the caller is told when this end has come as far as it can.
func (x *run) answer(err error) (Answer, error) {
	var st storeError
	if errors.As(err, &st) && x.full {
		return Answer{}, fault.New("serve", fault.Overloaded, "this node has no room to write down how far the request has come: it is free again when there is")
	}
	if errors.As(err, &st) {
		return Answer{}, fault.New("serve", fault.Draining, "this node has lost its store and goes down")
	}
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Outcome: Served, Phase: x.r.Phase, Rank: x.r.Rank, Size: -1}
	if x.r.Side == lifecycle.Sender {
		a.Size = x.r.Size
	}
	if x.r.Phase <= lifecycle.Moving {
		a.Bandwidth, _ = x.engine.most(&x.r)
	}
	switch {
	case x.r.State == lifecycle.Done:
		a.Phase = lifecycle.Finished
	case x.r.State == lifecycle.InError, x.r.Failing:
		a.Outcome, a.Failure = Failed, toTell(x.r.Failure)
	case stoppedHere(&x.r):
		a.Outcome, a.Wait = Paused, pausedWait(x.engine.now().Sub(x.r.Changed))
	case x.again > 0:
		return x.later(x.again), nil
	case x.silent:
		return silentAnswer(), nil
	}
	return a, nil
}

// putOff is how long an error task's word still has calls come in vain. It is counted as what waits is, so that a clock that was
// set makes nothing late or early; where the record is not in the queue, the date in it counts.
func (x *run) putOff(now time.Time) time.Duration {
	e, r := x.engine, &x.r
	if r.After.IsZero() {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if w := e.queue.all[x.ref]; w != nil && w.version == r.Version && !w.start {
		return time.Until(w.wake) - w.asked.Sub(r.After)
	}
	return r.After.Sub(now)
}

// later is the answer to a call for what an error task has made due again.
func (x *run) later(wait time.Duration) Answer {
	return busyFor(wait, false, "%s; an error task has made it due again", fault.Shown(x.r.Failure.Told))
}

// pausedWait is when a requester asks again after an operator's pause that is so old:
// soon at first, so that a resume is heard of.
func pausedWait(old time.Duration) time.Duration {
	return min(max(old/4, leastPaused), mostPaused)
}

// Bounds of pausedWait.
const (
	leastPaused = 15 * time.Second
	mostPaused  = 2 * time.Minute
)

// dismiss ends the request because the requester has ended it.
func (x *run) dismiss(r *lifecycle.Record, a Ask) (Answer, error) {
	switch {
	case r == nil:
		return Answer{Outcome: Served, Phase: lifecycle.Unknown, Size: -1}, nil
	case a.Call.Attempt < r.Attempt:
		return Answer{Outcome: Outdate}, nil
	case r.State.Final() || r.Failing || r.State == lifecycle.Running:
		return x.answer(nil)
	}
	x.begin()
	var err error
	if a.Why.Kind == fault.Canceled && r.Phase < lifecycle.Committed {
		named, err := x.hasName()
		if err == nil && !named {
			if err = x.now(lifecycle.Cancel{Side: fault.Peer, Cause: a.Why.Cause}); err == nil {
				x.log.Info("cancelled by the requester")
			}
		}
		if err != nil || !named {
			return x.answer(err)
		}
	}
	if stoppedHere(r) {
		err = x.do(lifecycle.Resume{Due: x.engine.now()})
	}
	if err == nil {
		err = x.do(lifecycle.Claim{Epoch: x.epoch, Call: a.Call})
	}
	if err == nil {
		left := int64(-1)
		if a.Gone {
			left = 0
		}
		err = x.fail(endedError{fault.FromPeer("carry out the request", a.Why.Kind, a.Why.Cause), a.Call.Phase, left})
	}
	if err == nil && x.r.State == lifecycle.Running {
		err = x.steps()
	}
	if err == nil {
		err = x.commit()
	}
	return x.answer(err)
}
