package engine

import (
	"context"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// Who is served. A call has a place of Config.Serving until what it has begun is
// over. A partner may have placeShare times as many as are free: one alone three
// quarters, and the more there are the less each, so that whoever has none finds one.
const placeShare = 3

// mostWaiters is how many calls wait for one record at a time: who calls again after a
// lost connection is one of them.
const mostWaiters = 4

// How long a call may take.
const (
	callHold  = time.Minute     // at the requested end, tasks and looking through a file: they go on without it
	callLimit = 3 * time.Minute // at the requester, but for what moves bytes
)

// How long a requester that was sent away waits.
const (
	busyWait    = 5 * time.Second // a limit is reached that changes soon
	crowdedWait = time.Minute     // one that does not
	againWait   = time.Second     // what the call has begun goes on
)

// busyFor is the answer to a call that finds no place, in words.
func busyFor(wait time.Duration, all bool, format string, args ...any) Answer {
	why := fault.New("serve", fault.Overloaded, format, args...)
	return Answer{Outcome: Busy, All: all, Wait: wait, Size: -1, Failure: toTell(failureOf(why))}
}

// enter takes a place for a call of the partner's, or has the answer.
func (e *Engine) enter(partner string) (_ Answer, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	served, free := e.served[partner], e.cfg.Serving-e.serving
	switch {
	case e.draining:
		return busyFor(busyWait, true, "the node goes down"), false
	case free <= 0:
		return busyFor(busyWait, true, "it serves %d calls, as many as it may", e.serving), false
	case served >= placeShare*free:
		return busyFor(busyWait, true, "it serves %d calls of this partner, and keeps the other places for others", served), false
	}
	e.serving++
	e.served[partner]++
	e.work.Add(1)
	return Answer{}, true
}

// leave gives the place back.
func (e *Engine) leave(partner string) {
	e.mu.Lock()
	e.serving--
	if e.served[partner]--; e.served[partner] == 0 {
		delete(e.served, partner)
	}
	e.mu.Unlock()
	e.work.Done()
}

// await holds the record when nobody else does; a run of nil has an answer or an
// error. A call that ends the request ends the run of no later attempt.
func (e *Engine) await(ctx context.Context, ref store.Ref, a Ask) (*run, Answer, error) {
	var over <-chan time.Time
	for {
		e.mu.Lock()
		x, other := e.hold(ref), e.runs[ref]
		if x != nil {
			x.attempt, x.caller = a.Call.Attempt, a.Key.Requester
			e.mu.Unlock()
			return x, Answer{}, nil
		}
		silent := other.aside
		end := a.Move == lifecycle.Mismatch && other.attempt != 0 && other.attempt <= a.Call.Attempt
		crowded := other.waiters >= mostWaiters
		if !crowded && !silent {
			other.waiters++
		}
		e.mu.Unlock()
		if end {
			other.cancel(fault.FromPeer("serve", fault.Canceled, "the requester has given the request up"))
		}
		if silent { // nobody knows for how long
			return nil, silentAnswer(), nil
		}
		if crowded {
			return nil, busyFor(busyWait, false, "%d calls wait for this request, as many as may", mostWaiters), nil
		}
		if over == nil {
			timer := time.NewTimer(callHold)
			defer timer.Stop()
			over = timer.C
		}
		select {
		case <-other.over:
			continue // with the others that have waited
		case <-over:
			e.unwait(other)
			return nil, other.stillAt(), nil
		case <-ctx.Done():
			e.unwait(other)
			return nil, Answer{}, fault.Wrap("wait for an earlier call", "", context.Cause(ctx))
		}
	}
}

func (e *Engine) unwait(x *run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x.waiters--
}

// stillAt is the answer to a call that is over before what it waits for is.
func (x *run) stillAt() Answer {
	doing := x.report().Doing
	if doing == "" {
		doing = "an earlier call"
	}
	return busyFor(againWait, false, "it is still at it: %s", fault.Shown(doing))
}
