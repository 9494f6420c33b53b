package engine

import (
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/sideeffect"
)

// What is told to who measures and traces. Nothing of a request depends on it: a
// method of an Observer neither waits nor fails.

// ActKind is what sort of thing an act is.
type ActKind uint8

const (
	ActAttempt ActKind = 1 // a run under one claim, at either end
	ActStep    ActKind = 2 // what it does in one global step; a step that is only climbed past is none
	ActTask    ActKind = 3
	ActCall    ActKind = 4 // to the partner, without bytes
	ActBytes   ActKind = 5 // the bytes of one attempt
)

func (k ActKind) String() string {
	return [...]string{"", "attempt", "step", "task", "call", "transfer"}[k]
}

// Observer is told what the engine's runs do. Its methods are called by many
// goroutines at a time, and must not wait.
type Observer interface {
	// Trace names a new request's record, as a W3C traceparent, below the parent that
	// whoever asked for it has said ("": none). Empty: it is not traced.
	Trace(parent string) string
	// Begin begins an act on r, below the Trace of the act around it. r is only to
	// be looked at before Begin returns.
	Begin(r *lifecycle.Record, kind ActKind, name, parent string) Act
	// Wasted tells of bytes that are moved once more.
	Wasted(r *lifecycle.Record, bytes int64)
}

// Act is something a run does.
type Act interface {
	Trace() string      // of what is below it; empty: nothing is traced
	Moved(bytes int64)  // of ActBytes: so many more have come through
	Held(time.Duration) // of ActBytes: so long this node's own bandwidth has held them up
	End(err error)      // once
}

// unobserved is for an engine without an Observer.
type unobserved struct{}

func (unobserved) Trace(string) string                                  { return "" }
func (unobserved) Begin(*lifecycle.Record, ActKind, string, string) Act { return unobservedAct{} }
func (unobserved) Wasted(*lifecycle.Record, int64)                      {}

type unobservedAct struct{}

func (unobservedAct) Trace() string      { return "" }
func (unobservedAct) Moved(int64)        {}
func (unobservedAct) Held(time.Duration) {}
func (unobservedAct) End(error)          {}

// acts are what a run is at, from the outside in.
type acts struct {
	attempt Act
	step    Act // nil: none yet
	at      lifecycle.Step
	inner   string // Trace of the innermost
	bytes   Act    // while bytes move
	moved   int64  // up to where it has been told that they have
}

// attempts begins the run's attempt, below parent.
func (x *run) attempts(parent string) {
	if parent == "" {
		parent = x.r.Trace
	}
	x.acts.attempt = x.engine.cfg.Observer.Begin(&x.r, ActAttempt, "", parent)
	x.acts.inner = x.acts.attempt.Trace()
}

// attempted ends it.
func (x *run) attempted() {
	if x.acts.attempt == nil {
		return
	}
	x.stepped()
	var err error
	if x.r.Failure.Kind != 0 && (x.r.State == lifecycle.InError || x.r.Reason == lifecycle.Retrying) {
		err = x.r.Failure.Kind
	}
	x.acts.attempt.End(err)
	x.acts = acts{}
}

// within begins an act below the step that the run is in. done ends it.
func (x *run) within(kind ActKind, name string) (act Act, done func(error)) {
	a := &x.acts
	if a.attempt == nil { // of the few that no claim is behind
		return unobservedAct{}, func(error) {}
	}
	if step := x.r.Step(); a.step == nil || a.at != step {
		x.stepped()
		a.step, a.at = x.engine.cfg.Observer.Begin(&x.r, ActStep, step.String(), a.attempt.Trace()), step
	}
	around := a.step.Trace()
	act = x.engine.cfg.Observer.Begin(&x.r, kind, name, around)
	a.inner = act.Trace()
	return act, func(err error) {
		act.End(err)
		a.inner = around
	}
}

// carrying begins the act of moving bytes. over ends it.
func (x *run) carrying() (over func(*sideeffect.Descriptor, error)) {
	act, done := x.within(ActBytes, "")
	x.acts.bytes, x.acts.moved = act, x.r.Rank
	return func(d *sideeffect.Descriptor, err error) {
		x.mu.Lock()
		received, durable := x.live.Received, x.live.Durable
		x.mu.Unlock()
		if err == nil && d.LocalStatus == sideeffect.Success {
			received = max(received, d.BytesTransferred)
			durable = received
		}
		x.came(received)
		if lost := received - durable; lost > 0 {
			x.engine.cfg.Observer.Wasted(&x.r, lost)
		}
		x.acts.bytes = nil
		done(err)
	}
}

// came tells that the bytes up to there have come through.
func (x *run) came(to int64) {
	if n := to - x.acts.moved; n > 0 && x.acts.bytes != nil {
		x.acts.bytes.Moved(n)
		x.acts.moved = to
	}
}

// held tells how long a limit of this node's has held bytes up since then.
func (x *run) held(since time.Time) {
	if act := x.acts.bytes; act != nil {
		act.Held(time.Since(since))
	}
}

// stepped ends the step that the run was in.
func (x *run) stepped() {
	if x.acts.step != nil {
		x.acts.step.End(nil)
		x.acts.step = nil
	}
}

// Load is how much an engine has to do at one moment.
type Load struct {
	Running  int           // requests, at either end
	Serving  int           // calls
	Ready    int           // requests that are due and wait for a place, or for their partner
	Waiting  int           // requests that wait for their time
	Oldest   time.Duration // how long the one of the Ready has been due that waits longest
	Draining bool
	Partners []PartnerStatus // of the book, by name; Queued is what is ready
}

// Load counts in one go: whoever asks often, as for metrics, holds up the engine little.
func (e *Engine) Load() Load {
	now := e.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	l := Load{Running: len(e.runs), Serving: e.serving, Draining: e.draining}
	for _, w := range e.queue.all {
		if w.sleep >= 0 {
			l.Waiting++
			continue
		}
		l.Ready++
		l.Oldest = max(l.Oldest, now.Sub(w.asked))
	}
	for name, p := range e.book.Partners {
		q := e.queue.line(name)
		l.Partners = append(l.Partners, PartnerStatus{Name: name, Connected: q.up, RTT: q.rtt, Running: q.running, Queued: len(q.ready), Bridge: p.Bridge})
	}
	sortPartners(l.Partners)
	return l
}

// Known reports whether a book has that partner and that rule: what is labelled by
// names is bounded by it.
func (b *Book) Known(partner, rule string) (isPartner, isRule bool) {
	return b.Partners[partner] != nil, b.Rules[rule] != nil
}
