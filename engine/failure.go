package engine

import (
	"context"
	"errors"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
)

// failed decides what becomes of a run after an error: another attempt later, the
// error tasks next (done is false), or the end. The error that is returned is the
// store's or, at the requested end, what the caller is told.
func (x *run) failed(err error) (done bool, _ error) {
	var st storeError
	var busy busyError
	var paused pausedError
	now := x.engine.now()
	switch {
	case errors.As(err, &st):
		return true, err
	case errors.Is(err, errRescheduled):
		return true, nil
	case errors.Is(err, errLong):
		return true, err
	case IsSilentRoot(err) && !x.isWished() && x.engine.ctx.Err() == nil:
		return true, x.silentRoot(err)
	case x.isWished():
		return true, x.fulfil()
	case x.engine.ctx.Err() != nil:
		return true, x.yield(context.Cause(x.engine.ctx))
	case x.r.Failing && x.ctx.Err() != nil: // the requester has ended the call they run in: the commander goes on with them
		return true, x.yield(context.Cause(x.ctx))
	case x.r.Failing:
		x.log.Warn("an error task has failed", "error", err)
		return true, x.settle()
	case errors.As(err, &busy):
		if busy.all {
			x.engine.busy(x.r.Spec.Partner, busy.wait, busy.why)
		}
		x.log.Info("the partner asks for time", "wait", busy.wait, "all", busy.all, "why", busy.why.Cause)
		return true, x.now(lifecycle.Interrupt{Epoch: x.epoch, Reason: lifecycle.Retrying, Owner: lifecycle.Requester,
			Due: now.Add(spread(busy.wait)), Failure: busy.why, InOrder: true})
	case errors.As(err, &paused):
		return true, x.wait(lifecycle.Stopped, lifecycle.Requested, now.Add(spread(paused.wait)), lifecycle.Failure{})
	}
	f := x.failureOf(err)
	var ended endedError
	switch {
	case errors.As(err, &ended):
		x.said = true
		if f.Kind == fault.Canceled && x.r.Phase < lifecycle.Committed {
			named, err := x.named()
			if err != nil {
				return true, x.yield(err)
			}
			if !named {
				return true, x.now(lifecycle.Cancel{Epoch: x.epoch, Side: fault.Peer, Cause: f.Cause})
			}
		}
	case x.r.Role == lifecycle.Requested && (f.Side != fault.Here || again(err, f.Kind)):
		// The requester decides, and calls again.
		x.log.Info("interrupted", "error", err)
		if f.Kind == fault.Canceled && f.Side != fault.Here { // the requester has gone, or its operator has a word: no failure of the request
			f = lifecycle.Failure{}
		}
		if wait := x.wait(lifecycle.Awaiting, lifecycle.Requester, now.Add(x.engine.cfg.Patience), f); wait != nil {
			return true, wait
		}
		return true, err
	case again(err, f.Kind):
		if retry := x.retry(); x.r.Streak < uint32(retry.Attempts) {
			due := now.Add(x.delay(retry, f))
			x.log.Info("interrupted, and tried again", "at", due, "streak", x.r.Streak, "of", retry.Attempts, "error", err)
			return true, x.wait(lifecycle.Retrying, lifecycle.Requester, due, f)
		}
	}
	if err := x.fail(err); err != nil {
		return true, err
	}
	if x.r.State == lifecycle.Running {
		return false, nil
	}
	return true, x.commit()
}

// retry is what the rule says, which a run may not have needed until now.
func (x *run) retry() Retry {
	if x.rule != nil {
		return x.rule.Retry.filled()
	}
	book := x.engine.Book()
	if rule, err := book.Rule(x.r.Spec.Rule); err == nil {
		return rule.Retry.filled()
	}
	return Retry{}.filled()
}

// delay is how long to wait before the next attempt. Where the connection was lost, the first one
// is due as soon as the partner can be reached again, which the commander tries with pauses of
// its own: an outage that has kept nobody from progress takes no longer than it lasts.
func (x *run) delay(retry Retry, f lifecycle.Failure) time.Duration {
	streak := x.r.Streak
	if cutOff(f) {
		if streak <= 1 {
			return 0
		}
		streak--
	}
	return retry.backOff(streak)
}

// cutOff reports whether it was the connection, or the partner as a whole, that has failed.
func cutOff(f lifecycle.Failure) bool {
	return f.Side != fault.Here && (f.Kind == fault.Lost || f.Kind == fault.DeadPeer || f.Kind == fault.Draining)
}

// again reports whether another attempt may help. A task that was ended at its limit
// has run, and does not run twice for that; one that has found what it looks for finds it
// again.
func again(err error, k fault.Kind) bool {
	return (retryable(k) || errors.Is(err, errNoTurn)) && !errors.Is(err, task.ErrTimeout) && !errors.Is(err, task.ErrVerdict)
}

// retryable kinds may be gone with the next attempt.
func retryable(k fault.Kind) bool {
	switch k {
	case fault.Lost, fault.DeadPeer, fault.Draining, fault.Overloaded, fault.NoSpace, fault.IO, fault.Corrupt, fault.SourceChanged,
		fault.Stale, fault.Deadline, fault.Canceled, fault.WrongBackend, fault.NotStarted:
		return true
	}
	return false
}

// yield interrupts in order, because the node goes down or the run may not go on.
func (x *run) yield(cause error) error {
	now := x.engine.now()
	owner, due := lifecycle.Requester, now
	if x.r.Role == lifecycle.Requested && !x.r.Failing {
		due = now.Add(x.engine.cfg.Patience)
	}
	if err := x.wait(lifecycle.Restarted, owner, due, lifecycle.Failure{}); err != nil {
		return err
	}
	if x.r.Role == lifecycle.Requested {
		return fault.Wrap("serve", "", cause)
	}
	return nil
}

func (x *run) isWished() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.wish.asked
}

// fulfil does what the operator has asked for. What comes too late is dropped,
// and the run goes on at once; the operator sees that in the record.
func (x *run) fulfil() error {
	x.mu.Lock()
	what := x.wish.what
	x.mu.Unlock()
	var e lifecycle.Event
	switch w := what.(type) {
	case lifecycle.Stop:
		w.Epoch = x.epoch
		e = w
	case lifecycle.Cancel:
		w.Epoch = x.epoch
		e = w
		if err := x.acked(); err != nil {
			return x.yield(err)
		}
		if _, err := x.named(); err != nil {
			return x.yield(err)
		}
	}
	err := x.now(e)
	var st storeError
	if err == nil || errors.As(err, &st) {
		return err
	}
	return x.yield(errWished) // a requester that hears it calls again
}

// acked writes down, to be committed, that a server behind a bridge has just named the file, if it has.
func (x *run) acked() error {
	if x.r.Side != lifecycle.Sender || !x.atBridge() || x.peer != lifecycle.Posted {
		return nil
	}
	for x.r.Phase < lifecycle.Acked {
		if err := x.rung(max(x.r.Phase+1, lifecycle.Moving)); err != nil {
			return err
		}
	}
	return nil
}

// atBridge: the partner is a server behind a bridge.
func (x *run) atBridge() bool {
	p := x.engine.Book().Partners[x.r.Spec.Partner]
	return p != nil && p.Bridge
}

// failureOf is an error as a record keeps it.
func failureOf(err error) lifecycle.Failure {
	f := lifecycle.Failure{Kind: fault.KindOf(err), Side: fault.Here, Cause: fault.Brief(err), Told: fault.Text(err)}
	var e *fault.Error
	if errors.As(err, &e) {
		f.Side = e.Side
	}
	var ended endedError
	if errors.As(err, &ended) {
		f.Phase = ended.phase
	}
	return f
}

// failureOf is failureOf with what to do about it, where a server behind a bridge is
// concerned: nobody is there who would know.
func (x *run) failureOf(err error) lifecycle.Failure {
	f := failureOf(err)
	if x.atBridge() || x.rule != nil && x.rule.Bridge != "" {
		f.Cause = fault.Help(err)
	}
	if sealed(err) {
		f.Cause += "; " + Unseal
	}
	if dir := x.barred(err); dir != "" {
		f.Cause = "the node may not write into " + dir + ": " + f.Cause + "; " + LetWrite
		f.Told = "the receiver may not write into its directory"
	}
	return f
}

// toTell is a failure as the other end may read it.
func toTell(f lifecycle.Failure) lifecycle.Failure {
	f.Cause, f.Told, f.Phase = f.Told, "", lifecycle.Unknown
	return f
}
