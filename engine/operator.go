package engine

import (
	"context"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// Pause stops a request at this end until Resume. One that runs is interrupted
// first: bytes that are safe stay, a task that runs is ended and runs again later.
func (e *Engine) Pause(ctx context.Context, ref store.Ref) (lifecycle.Record, error) {
	due := func() lifecycle.Event { return lifecycle.Stop{Due: e.now().Add(e.cfg.Patience)} }
	return e.operate(ctx, ref, due, func(r *lifecycle.Record) bool { return stoppedHere(r) })
}

// Cancel says that the bytes are not wanted: the request is INERROR at both ends,
// without error tasks, and what has arrived is removed. Too late once the file
// has its name; of a third-party copy the partner says whether it is.
func (e *Engine) Cancel(ctx context.Context, ref store.Ref, why string) (lifecycle.Record, error) {
	if why == "" {
		why = "by an operator"
	}
	cancel := func() lifecycle.Event { return lifecycle.Cancel{Side: fault.Here, Cause: why} }
	r, err := e.cfg.Store.Get(ctx, ref)
	if err != nil || r.State == lifecycle.InError && r.Failure.Kind == fault.Canceled {
		return r, err // the first reason stays
	}
	if err := e.refusedThird(ctx, &r, why); err != nil {
		return r, err
	}
	return e.operate(ctx, ref, cancel, func(r *lifecycle.Record) bool {
		heard := r.Spec.Third != "" && r.Failure.Side != fault.Here // its run was faster, and says that it was cancelled at the partner
		return r.State == lifecycle.InError && r.Failure.Kind == fault.Canceled && !heard
	})
}

// Resume goes on with what Pause, or the other end's operator, has stopped, and with what waits for
// another attempt or its start time; but a rule's windows it keeps to. What was paused before its start time
// waits for that again, until the next Resume.
func (e *Engine) Resume(ctx context.Context, ref store.Ref) (lifecycle.Record, error) {
	r, err := e.cfg.Store.Get(ctx, ref)
	if err != nil {
		return r, err
	}
	resume := lifecycle.Resume{Due: e.dueOf(ref)}
	if stoppedHere(&r) {
		resume.Due = e.startOf(&r)
	}
	if asleep(&r, e.now()) {
		return e.idle(ctx, ref, lifecycle.Stop{Due: e.now().Add(e.cfg.Patience)}, resume)
	}
	return e.idle(ctx, ref, resume)
}

// asleep: a requester's request whose start time has not come.
func asleep(r *lifecycle.Record, now time.Time) bool {
	return r.State == lifecycle.ToSubmit && r.Reason == lifecycle.Scheduled && r.Due.After(now)
}

// Retry goes on with what is INERROR, from where it was: what is recorded done is
// not done again. The requester's revives the other end, too. What has not begun waits for its start time.
func (e *Engine) Retry(ctx context.Context, ref store.Ref) (lifecycle.Record, error) {
	r, err := e.cfg.Store.Get(ctx, ref)
	if err != nil || r.Role == lifecycle.Requested && cancelledThere(&r) {
		if err == nil {
			err = fault.New("retry", fault.Invalid, "it was cancelled at %s: only an operator there can retry it", r.Spec.Partner)
		}
		return r, err
	}
	return e.idle(ctx, ref, lifecycle.Retry{Due: e.startOf(&r)})
}

// cancelledThere: by the other end's operator.
func cancelledThere(r *lifecycle.Record) bool {
	return r.State == lifecycle.InError && r.Failure.Kind == fault.Canceled && r.Failure.Side != fault.Here
}

// dueOf is when this end acts after an operator's word.
func (e *Engine) dueOf(ref store.Ref) time.Time {
	if ref.Role == lifecycle.Requested {
		return e.now().Add(e.cfg.Patience)
	}
	return e.now()
}

// startOf is dueOf of what was stopped or given up: a request that has not begun is not begun before its start time.
func (e *Engine) startOf(r *lifecycle.Record) time.Time {
	due := e.dueOf(store.RefOf(r))
	if r.Role == lifecycle.Requester && r.Attempt == 0 {
		due = later(due, r.Spec.NotAt)
	}
	return due
}

// idle applies events, of which the last is the operator's word, to a record that nobody runs.
func (e *Engine) idle(ctx context.Context, ref store.Ref, events ...lifecycle.Event) (lifecycle.Record, error) {
	for {
		e.mu.Lock()
		x := e.hold(ref)
		other := e.runs[ref]
		e.mu.Unlock()
		if x != nil {
			defer e.release(x)
			return x.apply(events...)
		}
		r, err := e.cfg.Store.Get(ctx, ref)
		if err != nil {
			return r, err
		}
		if r.State == lifecycle.Running {
			return r, fault.New("change request", fault.Invalid, "it runs just now")
		}
		select { // its run is about to let go
		case <-other.over:
		case <-ctx.Done():
			return r, fault.Wrap("change request", ref.Key.ID.String(), context.Cause(ctx))
		}
	}
}

// apply changes the record of a run that has not claimed it.
func (x *run) apply(events ...lifecycle.Event) (lifecycle.Record, error) {
	if r, err := x.engine.cfg.Store.Get(context.WithoutCancel(x.ctx), x.ref); err == nil {
		x.class = classOf(&r)
	}
	r, err := x.engine.cfg.Store.Apply(context.WithoutCancel(x.ctx), x.ref, x.engine.now(), events...)
	if err != nil {
		return r, x.engine.storeFailed(err)
	}
	x.r, x.known = r, true
	x.counted()
	x.engine.watch.publish(Status{Record: r})
	x.begin()
	x.log.Info("an operator's word", "event", eventName(events[len(events)-1]), "state", r.State.String())
	return r, nil
}

func eventName(e lifecycle.Event) string {
	switch e.(type) {
	case lifecycle.Stop:
		return "pause"
	case lifecycle.Cancel:
		return "cancel"
	case lifecycle.Resume:
		return "resume"
	}
	return "retry"
}

// operate applies a Stop or Cancel, through the run if there is one. holds
// reports whether the record is as the operator wants it.
func (e *Engine) operate(ctx context.Context, ref store.Ref, event func() lifecycle.Event, holds func(*lifecycle.Record) bool) (lifecycle.Record, error) {
	for {
		e.mu.Lock()
		x := e.hold(ref)
		other := e.runs[ref]
		e.mu.Unlock()
		if x != nil {
			return e.operateIdle(x, event())
		}
		r, err := e.cfg.Store.Get(ctx, ref)
		if err != nil {
			return r, err
		}
		if trial := r; r.State == lifecycle.Running {
			if err := trial.Apply(claimed(event(), r.Epoch), e.now()); err != nil {
				return r, err
			}
		}
		other.want(event())
		select {
		case <-other.over:
		case <-ctx.Done():
			return r, fault.Wrap("change request", ref.Key.ID.String(), context.Cause(ctx))
		}
		if r, err = e.cfg.Store.Get(ctx, ref); err != nil || holds(&r) {
			return r, err
		}
	}
}

// operateIdle applies an operator's word to a record that nobody runs.
func (e *Engine) operateIdle(x *run, event lifecycle.Event) (lifecycle.Record, error) {
	defer e.release(x)
	defer x.end()
	if err := x.deny(event); err != nil {
		return x.r, err
	}
	r, err := x.apply(event)
	if err == nil && r.State == lifecycle.InError {
		e.after(x)
	}
	return r, err
}

// deny refuses a cancel that comes too late, though the record does not say so yet.
func (x *run) deny(event lifecycle.Event) error {
	if _, ok := event.(lifecycle.Cancel); !ok {
		return nil
	}
	r, err := x.engine.cfg.Store.Get(x.ctx, x.ref)
	if err != nil {
		return err
	}
	x.r, x.known = r, true
	x.begin()
	has, err := x.hasName()
	if err != nil || !has {
		return err
	}
	r.Phase = lifecycle.Committed
	return r.Apply(event, x.engine.now())
}

// claimed is the event under a claim.
func claimed(e lifecycle.Event, epoch uint64) lifecycle.Event {
	switch e := e.(type) {
	case lifecycle.Stop:
		e.Epoch = epoch
		return e
	case lifecycle.Cancel:
		e.Epoch = epoch
		return e
	}
	return e
}

// want leaves an operator's wish with a run, and interrupts it.
func (x *run) want(event lifecycle.Event) {
	x.mu.Lock()
	x.wish = wish{what: event, asked: true}
	x.mu.Unlock()
	x.cancel(errWished)
}
