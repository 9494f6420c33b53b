package engine

import (
	"context"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// How long a request waits whose run could not be written down, as because the store
// was full, until it is tried to take it up again. A store that has failed ends the process.
const (
	firstRegain = time.Second
	mostRegain  = 30 * time.Second
)

// regain takes up a record that a run of this process has left RUNNING, as a
// start takes up what a process before has left. follow is for the log.
func (e *Engine) regain(ref store.Ref, follow lifecycle.ID) {
	defer e.work.Done()
	for wait := firstRegain; ; wait = min(2*wait, mostRegain) {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-e.ctx.Done():
			timer.Stop()
			return
		}
		if done, err := e.regained(ref); done {
			return
		} else if err != nil {
			e.log.Warn("how far a request has come cannot be written down yet", "id", ref.Key.ID.String(), "follow", follow.String(), "error", err)
		}
	}
}

// regained is one try; false: there has to be another.
func (e *Engine) regained(ref store.Ref) (done bool, _ error) {
	e.mu.Lock()
	x := e.hold(ref)
	e.mu.Unlock()
	if x == nil { // a call that is told to come later, or an operator
		return false, nil
	}
	defer e.release(x)
	ctx := context.WithoutCancel(x.ctx) // an operator's word stops no commit
	r, err := e.cfg.Store.Get(ctx, ref)
	if err == nil && r.State == lifecycle.Running {
		r, err = e.recovered(ctx, &r, true)
	}
	switch {
	case fault.KindOf(err) == fault.NotFound: // it was never kept
		return true, nil
	case err != nil:
		return false, e.storeFailed(err)
	}
	x.r, x.known = r, true
	e.watch.publish(Status{Record: r})
	return true, nil
}
