package engine

import (
	"context"
	"errors"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// The timeline of a request at both ends: this end's is in the store, the other's is asked for
// when somebody looks. Nothing of a request depends on the answer, and none is kept.

// Stepper is a Line over which a partner can be asked for the steps of its record.
type Stepper interface {
	Steps(ctx context.Context, partner string, key lifecycle.Key, role lifecycle.Role) (Steps, error)
}

// Timeline is a request at both ends.
type Timeline struct {
	Partner string
	Here    Steps
	There   Steps     // as it was told last
	Told    time.Time // when that was, by this node's clock; zero: never
	Asking  bool      // it is being asked just now
	Trouble error     // why it tells nothing, or nothing new; nil: it does
}

// Bounds of asking.
const (
	toldFor   = 2 * time.Second  // an answer is good for so long,
	toldLong  = time.Minute      // and so long when both ends have come to an end
	deafFor   = 30 * time.Second // a partner that could not be asked is left alone for so long
	askLimit  = 10 * time.Second // for one answer
	mostTold  = 1000             // answers that are remembered
	mostAsked = 256              // questions at a time,
	mostOfOne = 4                // and to one partner: one that does not answer leaves the others theirs
)

// told is what the other end of a request has said.
type told struct {
	steps   Steps
	at      time.Time     // zero: nothing yet
	trouble error         // of the last question
	tried   time.Time     // when that was answered
	asking  chan struct{} // closed when the question under way is over; nil: none is
	mark    mark          // of this end, when it was asked last
}

// mark is what of this end makes the other end's steps others, too: it has gone on, or ended.
type mark struct {
	round, attempt uint32
	final          bool
}

// tales are what partners have said of requests. Guarded by Engine.mu.
type tales struct {
	of    map[store.Ref]*told
	deaf  map[string]deafness // partners that could not be asked
	asked int                 // questions under way
	each  map[string]int      // and those to each partner; none is 0
}

// deafness is why a partner could not be asked, and until when it is not asked again.
type deafness struct {
	why   error
	until time.Time
}

// Timeline is a request at both ends. With wait it waits for the other end's answer, at most
// askLimit; without, it says what was told last, and asks meanwhile.
func (e *Engine) Timeline(ctx context.Context, ref store.Ref, wait bool) (Timeline, error) {
	here, r, err := e.steps(ctx, ref)
	if err != nil {
		return Timeline{}, err
	}
	e.Book().name(&here, r.Spec.Rule)
	t := Timeline{Partner: r.Spec.Partner, Here: here}
	for {
		asking := e.hear(r, &t)
		if asking == nil || !wait {
			return t, nil
		}
		select {
		case <-asking:
			wait = false
		case <-ctx.Done():
			return t, fault.Wrap("call partner", t.Partner, context.Cause(ctx))
		}
	}
}

// hear puts what is known of the other end into t, and asks if that is old. The channel is
// closed when the question under way is over; nil: there is none.
func (e *Engine) hear(r *lifecycle.Record, t *Timeline) (asking <-chan struct{}) {
	ref, now := store.RefOf(r), time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.tales.of[ref]
	if x == nil {
		x = &told{}
	}
	m := mark{r.Round, r.Attempt, r.State.Final()}
	if x.steps.State == lifecycle.InError && x.mark.round != m.round { // that end was retried
		x.steps, x.at = Steps{}, time.Time{}
	}
	if x.asking == nil && (x.mark != m || now.Sub(x.tried) >= x.good(&t.Here)) {
		if x.trouble = e.unasked(r, now); x.trouble == nil {
			x.mark = m
			e.ask(r, ref, x)
		}
	}
	t.There, t.Told, t.Asking, t.Trouble = x.steps, x.at, x.asking != nil, x.trouble
	return x.asking
}

// good is how long what was told is not asked for again.
func (x *told) good(here *Steps) time.Duration {
	if x.trouble == nil && here.State.Final() && x.steps.State.Final() {
		return toldLong
	}
	return toldFor
}

// unasked is why the other end of a request is not asked; nil: it is. e.mu is held.
func (e *Engine) unasked(r *lifecycle.Record, now time.Time) error {
	const op = "call partner"
	name := r.Spec.Partner
	p, l, d := e.book.Partners[name], e.queue.line(name), e.tales.deaf[name]
	stepper, _ := e.cfg.Line.(Stepper)
	switch {
	case p == nil:
		return fault.New(op, fault.NotFound, "it is no partner any more")
	case p.Bridge:
		return fault.New(op, fault.Unsupported, "it is a server of another protocol, which has no steps")
	case r.Spec.Third != "":
		return fault.New(op, fault.Unsupported, "it has made a request of its own for this one: `pannier explain` tells how that is")
	case p.Address == "" || stepper == nil:
		return fault.New(op, fault.Unsupported, "it only calls this node, and is not called")
	case !l.up && l.retryAt.After(now) && l.failure.Kind != 0:
		return fault.New(op, fault.Lost, "it cannot be reached: %s", l.failure.Cause)
	case d.until.After(now):
		return d.why
	case e.tales.each[name] >= mostOfOne:
		return fault.New(op, fault.Overloaded, "it has %d questions to answer, as many as may be: look again", mostOfOne)
	case e.tales.asked >= mostAsked:
		return fault.New(op, fault.Overloaded, "%d questions are under way, as many as may be: look again", mostAsked)
	case e.draining:
		return fault.New(op, fault.Draining, "this node goes down")
	}
	return nil
}

// ask asks, in a goroutine of its own. e.mu is held.
func (e *Engine) ask(r *lifecycle.Record, ref store.Ref, x *told) {
	e.tales.keep(ref, x)
	e.tales.begin(r.Spec.Partner)
	over := make(chan struct{})
	x.asking = over
	partner, side, line := r.Spec.Partner, r.Side, e.cfg.Line.(Stepper)
	e.work.Add(1)
	go func() {
		defer e.work.Done()
		ctx, stop := context.WithTimeout(e.ctx, askLimit)
		defer stop()
		steps, err := line.Steps(ctx, partner, ref.Key, ref.Role.Other())
		if err == nil && steps.Side != side.Other() {
			err = fault.FromPeer("call partner", fault.Protocol, "it tells of a record of the same side")
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		now := time.Now()
		if x.tried, x.trouble = now, err; err == nil {
			x.steps, x.at = steps, now
		}
		if e.tales.heard(partner, err, now); e.ctx.Err() != nil {
			x.trouble = fault.New("call partner", fault.Draining, "this node goes down")
		}
		x.asking = nil
		e.tales.end(partner)
		close(over)
	}()
}

// begin counts a question, and end one that is over.
func (t *tales) begin(partner string) {
	t.asked++
	t.each[partner]++
}

func (t *tales) end(partner string) {
	t.asked--
	if t.each[partner]--; t.each[partner] == 0 {
		delete(t.each, partner)
	}
}

// keep remembers x, and forgets one that nobody has asked for of late if there are too many.
func (t *tales) keep(ref store.Ref, x *told) {
	if t.of == nil {
		t.of, t.deaf, t.each = map[store.Ref]*told{}, map[string]deafness{}, map[string]int{}
	}
	if t.of[ref] == nil && len(t.of) >= mostTold {
		var oldest store.Ref
		var at time.Time
		for ref, x := range t.of {
			if x.asking == nil && (at.IsZero() || x.tried.Before(at)) {
				oldest, at = ref, x.tried
			}
		}
		delete(t.of, oldest)
	}
	t.of[ref] = x
}

// heard notes whether a partner can be asked: what is not about one request is not tried again
// for each.
func (t *tales) heard(partner string, err error, now time.Time) {
	if err == nil || errors.Is(err, fault.NotFound) {
		delete(t.deaf, partner)
		return
	}
	t.deaf[partner] = deafness{err, now.Add(deafFor)}
}
