package engine

import (
	"context"
	"errors"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// busyWait is after what time a requester that was sent away asks again.
const busyWait = 5 * time.Second

// Serve is what the network calls for each call of a partner whose name is
// proved. effect is nil unless the call carries one. What the call says was
// checked for its form.
//
// It returns when this end is as far as it can come without another call. The
// caller going away does not end what has begun.
func (e *Engine) Serve(ctx context.Context, partner string, a Ask, effect Effect) (Answer, error) {
	if a.Key.Requester != partner {
		return Answer{}, fault.New("serve", fault.Permission, "the request is of %q, the caller is %q", fault.Shown(a.Key.Requester), fault.Shown(partner))
	}
	if !e.enter() {
		return Answer{Outcome: Busy, Wait: busyWait}, nil
	}
	defer e.leave()
	x, err := e.await(ctx, store.Ref{Key: a.Key, Role: lifecycle.Requested}, a.Move == lifecycle.Mismatch)
	if err != nil {
		return Answer{}, err
	}
	defer e.release(x)
	defer x.end()
	answer, admitted, err := x.admit(a)
	if err != nil || !admitted {
		return answer, err
	}
	x.effect, x.peer = effect, a.Call.Phase
	if x.r.State == lifecycle.Running {
		err = x.steps()
	}
	if err == nil {
		err = x.commit()
	}
	return x.answer(err)
}

// enter counts a call that is served; false: there are too many, or the node goes down.
func (e *Engine) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.draining || e.serving >= e.cfg.Serving {
		return false
	}
	e.serving++
	e.work.Add(1)
	return true
}

func (e *Engine) leave() {
	e.mu.Lock()
	e.serving--
	e.mu.Unlock()
	e.work.Done()
}

// await holds the record when nobody else does. With end, the run that has it is
// told to end: the requester has given the request up.
func (e *Engine) await(ctx context.Context, ref store.Ref, end bool) (*run, error) {
	for {
		e.mu.Lock()
		x := e.hold(ref)
		other := e.runs[ref]
		e.mu.Unlock()
		if x != nil {
			return x, nil
		}
		if end {
			other.cancel(fault.FromPeer("serve", fault.Canceled, "the requester has given the request up"))
		}
		select {
		case <-other.over:
		case <-ctx.Done():
			return nil, fault.Wrap("wait for an earlier call", "", context.Cause(ctx))
		}
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
		x.r, x.known = r, true
	}
	if a.Move == lifecycle.Prepare && present != nil && (r.Side != a.Side.Other() || !r.Spec.Same(asked(a))) {
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
		if err := x.accept(a, now, due); err != nil {
			return Answer{}, false, err
		}
		claim.Epoch = x.epoch
		return Answer{}, true, x.do(claim)
	case lifecycle.AdmitServe:
		x.begin()
		claim.Epoch = x.epoch
		return Answer{}, true, x.do(claim)
	case lifecycle.AdmitRevive:
		x.begin()
		claim.Epoch = x.epoch
		x.log.Info("the requester tries again what had failed")
		return Answer{}, true, x.do(lifecycle.Retry{Due: due, Call: a.Call}, claim)
	case lifecycle.AdmitAnswer:
		if present == nil {
			return Answer{Outcome: Served, Phase: lifecycle.Unknown, Size: -1}, false, nil
		}
	case lifecycle.AdmitWait: // nobody has it here, so the store has failed its run, or was full
		return Answer{Outcome: Busy, Wait: busyWait}, false, nil
	case lifecycle.RefuseStale:
		return Answer{Outcome: Outdate}, false, nil
	}
	answer, err := x.answer(nil)
	return answer, false, err
}

// accept makes the record of a new request, which the first commit keeps.
func (x *run) accept(a Ask, now, due time.Time) error {
	const op = "accept request"
	if a.Move != lifecycle.Prepare {
		return fault.New(op, fault.Protocol, "a new request comes with Request")
	}
	book := x.engine.Book()
	rule, err := book.Rule(a.Rule)
	if err == nil && !rule.Allows(a.Key.Requester) || err != nil { // who may not use a rule does not learn that there is one
		return fault.New(op, fault.Permission, "no rule %q for partner %q", fault.Shown(a.Rule), fault.Shown(a.Key.Requester))
	}
	if rule.Direction.Side() != a.Side {
		return fault.New(op, fault.Permission, "rule %q is for the other direction", fault.Shown(a.Rule))
	}
	side, spec := a.Side.Other(), asked(a)
	spec.Tasks = rule.Lists(side).counts()
	if err := refuseOwn(op, &spec); err != nil {
		return err
	}
	r, err := lifecycle.Accept(a.Key, side, spec, now, due)
	if err != nil {
		return err
	}
	x.r, x.first, x.fresh = r, r, true
	x.begin()
	x.log.Info("accepted", "side", side.String())
	return nil
}

// asked is what a Request asks for.
func asked(a Ask) lifecycle.Spec {
	return lifecycle.Spec{Partner: a.Key.Requester, Rule: a.Rule, Source: a.Source, Target: a.Target, Priority: a.Priority, Follow: a.Follow, Info: a.Info}
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
	switch {
	case x.r.State == lifecycle.Done:
		a.Phase = lifecycle.Finished
	case x.r.State == lifecycle.InError, x.r.Failing:
		a.Outcome, a.Failure = Failed, toTell(x.r.Failure)
	case stoppedHere(&x.r):
		a.Outcome = Paused
	}
	return a, nil
}

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
		err = x.fail(fault.FromPeer("carry out the request", a.Why.Kind, a.Why.Cause))
	}
	if err == nil && x.r.State == lifecycle.Running {
		err = x.steps()
	}
	if err == nil {
		err = x.commit()
	}
	return x.answer(err)
}
