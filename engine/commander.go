package engine

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// Back-off of a partner that cannot be reached: full jitter between none and
// twice the last, from the first to the longest.
const (
	firstBackOff = time.Second
	mostBackOff  = 2 * time.Minute
	reachLimit   = 30 * time.Second
)

// poisonDeaths is how many processes may die with a request running, without
// progress of it, before it is taken for the reason.
const poisonDeaths = 3

// noted keeps the queue in step with a record that was committed.
func (e *Engine) noted(r *lifecycle.Record) {
	w, now := waiterOf(r), e.now()
	e.mu.Lock()
	if w == nil {
		e.queue.forget(store.RefOf(r), r.Version)
	} else {
		w.wake = time.Now().Add(w.asked.Sub(now))
		if old := e.queue.all[w.ref]; old != nil && old.version == w.version { // as before, wherever the clock was set since
			w.asked, w.wake = old.asked, old.wake
		}
		e.bedtime(w, now)
		e.queue.put(w)
	}
	e.mu.Unlock()
	if w != nil {
		e.kick()
	}
}

// bedtime says when a request gets up: when it is due, or its rule's next window
// opens. e.mu is held.
func (e *Engine) bedtime(w *waiter, now time.Time) {
	due := w.asked
	if !w.start { // what is left of it, whatever the clock says by now
		due = now.Add(time.Until(w.wake))
	}
	w.due, w.dated = due, w.start
	from := later(due, now).In(now.Location()) // windows go by the node's clock, and a start time may be in another zone
	if open := e.window(w, from); open.After(from) {
		w.due, w.dated = open, true
	}
}

// window is when a request may begin that could from then on. e.mu is held.
func (e *Engine) window(w *waiter, from time.Time) time.Time {
	if rule := e.book.Rules[w.rule]; rule != nil && w.partner != "" {
		return rule.Retry.Windows.Next(from)
	}
	return from
}

// waiterOf is a record's place in the queue; nil: it waits for nothing.
func waiterOf(r *lifecycle.Record) *waiter {
	if r.State != lifecycle.ToSubmit && r.State != lifecycle.Interrupted {
		return nil
	}
	w := &waiter{ref: store.RefOf(r), version: r.Version, rule: r.Spec.Rule, follow: r.Spec.Follow, asked: r.Due, start: r.Reason == lifecycle.Scheduled, priority: r.Spec.Priority}
	if r.Role == lifecycle.Requester && !r.Failing && !stoppedHere(r) {
		w.partner = r.Spec.Partner
	}
	w.suspect = r.Deaths > 1
	return w
}

// stoppedHere: by this end's operator.
func stoppedHere(r *lifecycle.Record) bool {
	return r.State == lifecycle.Interrupted && r.Reason == lifecycle.Stopped && r.Owner == r.Role
}

// kick makes the commander look again.
func (e *Engine) kick() {
	select {
	case e.kicks <- struct{}{}:
	default:
	}
}

// command is the commander: the one goroutine that decides what runs. It sleeps
// until something changes or the earliest due comes.
func (e *Engine) command() {
	defer e.work.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next := e.dispatch(time.Now(), e.now())
		timer.Reset(time.Until(next))
		select {
		case <-e.kicks:
		case <-timer.C:
		case <-e.ctx.Done():
			return
		}
	}
}

// dispatch starts what may run at now, at which the clock shows date, and returns
// when to look again at the latest.
func (e *Engine) dispatch(now, date time.Time) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := &e.queue
	q.wake(now, date)
	next := now.Add(time.Hour)
	if e.draining {
		return next
	}
	e.startSuspect(now, date, &next)
	e.startLent(now, date, &next)
	for idle := 0; idle < len(q.order) && q.running < e.cfg.Concurrent && !q.alone(now); {
		l := q.order[q.turn%len(q.order)]
		q.turn++
		if len(l.ready) == 0 || l.running >= l.most || !e.open(l, now, &next) {
			idle++
			continue
		}
		idle = 0
		e.startIn(q.take(l), l, date)
	}
	if q.alone(now) && q.aloneUntil.Before(next) {
		next = q.aloneUntil
	}
	if len(q.sleeping) > 0 && q.sleeping[0].wake.Before(next) {
		next = q.sleeping[0].wake
	}
	if len(q.dated) > 0 { // the clock may be set meanwhile
		if left := min(q.dated[0].due.Sub(date), time.Minute); now.Add(left).Before(next) {
			next = now.Add(left)
		}
	}
	return next
}

// startIn starts what was taken from the queue, unless its window has shut meanwhile.
// e.mu is held.
func (e *Engine) startIn(w *waiter, l *line, date time.Time) {
	if e.window(w, date).After(date) {
		e.bedtime(w, date)
		e.queue.put(w)
		return
	}
	e.start(w, l)
}

// startSuspect starts one that is suspected to end the process: beside nothing, so
// that innocent ones are told apart, or after suspectPatience beside what runs; what
// dies with it has made progress by then, or is suspected itself and not started.
// e.mu is held.
func (e *Engine) startSuspect(now, date time.Time, next *time.Time) {
	q := &e.queue
	if q.suspected != nil {
		return
	}
	for i, w := range q.suspects {
		l := q.line(w.partner)
		if !e.room(w.ref, l) || !e.open(l, now, next) {
			continue
		}
		if until := w.since.Add(suspectPatience); q.running > 0 && until.After(now) {
			if until.Before(*next) {
				*next = until
			}
			continue
		}
		if e.window(w, date).After(date) { // it has shut meanwhile
			q.suspects = slices.Delete(q.suspects, i, i+1)
			e.bedtime(w, date)
			q.put(w)
			*next = now // for those behind it
			return
		}
		if q.running == 0 {
			q.aloneUntil = now.Add(suspectPatience)
		}
		q.suspects = slices.Delete(q.suspects, i, i+1)
		delete(q.all, w.ref)
		e.start(w, l)
		return
	}
}

// suspectPatience is how long a suspect waits until it can run alone, and how long it
// does at the most.
const suspectPatience = time.Minute

// alone reports whether nothing may be started beside the suspect that runs.
func (q *queue) alone(now time.Time) bool { return q.suspected != nil && q.aloneUntil.After(now) }

// cleared ends that the run keeps other suspects waiting, if it does. e.mu is held.
func (q *queue) cleared(x *run) {
	if q.suspected == x {
		q.suspected, q.aloneUntil = nil, time.Time{}
	}
}

// progressed clears a suspect that has made progress.
func (x *run) progressed() {
	e := x.engine
	e.mu.Lock()
	e.queue.cleared(x)
	e.mu.Unlock()
	x.suspect = false
	e.kick()
}

// open reports whether requests for the partner may start: also where a bridge's server lets
// nobody in, which each of them is then told. One that is down is
// tried by one goroutine at a time, and only when its back-off is over.
func (e *Engine) open(l *line, now time.Time, next *time.Time) bool {
	switch {
	case l.up:
		return true
	case !e.book.calls(l.name):
		return false
	case l.reaching || e.cfg.Line == nil:
		return l.refused
	case l.retryAt.After(now):
		if l.retryAt.Before(*next) {
			*next = l.retryAt
		}
		return l.refused
	}
	l.reaching = true
	e.work.Add(1)
	go func() {
		defer e.work.Done()
		_ = e.reach(e.ctx, l)
	}()
	return l.refused
}

// reach connects to the partner and notes how that went.
func (e *Engine) reach(ctx context.Context, l *line) error {
	limited, cancel := context.WithTimeout(ctx, reachLimit)
	rtt, err := e.cfg.Line.Reach(limited, l.name)
	cancel()
	e.mu.Lock()
	l.reaching = false
	switch {
	case err == nil && !e.book.calls(l.name): // it was taken out meanwhile
	case err == nil:
		l.up, l.refused, l.tries, l.failure, l.retryAt, l.rtt = true, false, 0, lifecycle.Failure{}, time.Time{}, rtt
	case ctx.Err() == nil:
		l.down(err)
		p := e.book.Partners[l.name]
		l.refused = p != nil && p.Bridge && !retryable(l.failure.Kind)
	}
	e.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		e.log.Warn("cannot reach the partner", "partner", l.name, "error", err)
	}
	e.kick()
	return err
}

// down notes that the partner could not be reached.
func (l *line) down(err error) {
	l.up = false
	l.failure = failureOf(err)
	l.failure.Cause = fault.Help(err) // with what to do about it
	l.failure.At = time.Now()
	most := min(firstBackOff<<min(l.tries, 10), mostBackOff)
	l.retryAt = l.failure.At.Add(firstBackOff/2 + rand.N(most))
	l.tries++
}

// busy notes that the partner has asked for time, and why.
func (e *Engine) busy(partner string, wait time.Duration, why lifecycle.Failure) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.queue.line(partner)
	l.up = false
	l.retryAt = time.Now().Add(spread(wait))
	l.failure = why
	l.failure.At = time.Now()
}

// spread is about the time that a partner has asked for, so that not all come back
// at once; never none. Of a long one it is soon after: what is called for may be a window.
func spread(wait time.Duration) time.Duration {
	wait = min(max(wait, againWait), mostWait)
	return wait + rand.N(min(wait/2, mostSpread))
}

// mostSpread is how much later than asked for a request is called for again.
const mostSpread = 30 * time.Second

// mostWait is the longest time that a partner may ask for.
const mostWait = 24 * time.Hour

// lost notes that a run of the partner's has lost its connection.
func (e *Engine) lost(partner string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := e.queue.line(partner); l.up {
		l.up = false
		l.retryAt = time.Now().Add(rand.N(firstBackOff))
	}
}

// start gives a request to a runner. e.mu is held.
func (e *Engine) start(w *waiter, l *line) {
	x := e.hold(w.ref)
	if x == nil { // a call of the partner, or an operator, was faster, and notes what it leaves
		e.runs[w.ref].missed = w
		return
	}
	if x.suspect = w.suspect; x.suspect {
		e.queue.suspected = x
	}
	e.occupy(x, l)
	e.work.Add(1)
	go func() {
		defer e.work.Done()
		e.run(x, w)
		e.finish(x)
	}()
}

// finish gives a run's place and its record back.
func (e *Engine) finish(x *run) {
	e.mu.Lock()
	e.vacate(x)
	e.queue.cleared(x)
	e.mu.Unlock()
	e.release(x)
	e.kick()
}

// seize takes a place for a request that is about to be registered, when it
// could start at once and overtakes nobody; nil otherwise. So its registration
// and its first claim are one commit. Whoever gets a run owes a Done of e.work.
func (e *Engine) seize(ref store.Ref, rule *Rule, o *Order) *run {
	now := e.now()
	if o.NotAt.After(now) || rule.Retry.Windows.Next(now).After(now) {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	l, q := e.queue.line(o.Partner), &e.queue
	if e.draining || !l.up || len(l.ready) > 0 || !e.room(ref, l) || q.alone(time.Now()) {
		return nil
	}
	x := e.hold(ref)
	if x == nil {
		return nil
	}
	e.occupy(x, l)
	e.work.Add(1)
	return x
}

// hold reserves a record for one run; nil when another has it. e.mu is held.
func (e *Engine) hold(ref store.Ref) *run {
	if e.runs[ref] != nil {
		return nil
	}
	ctx, cancel := context.WithCancelCause(e.ctx)
	x := &run{engine: e, ref: ref, ctx: ctx, cancel: cancel, over: make(chan struct{})}
	e.runs[ref] = x
	return x
}

// release lets others have the record, and queues it if it waits for anything.
func (e *Engine) release(x *run) {
	x.cancel(context.Canceled)
	e.mu.Lock()
	e.aside(x, false)
	delete(e.runs, x.ref)
	if x.fresh { // it was never kept
		e.count(x.first.Spec.Partner, x.class, classNone)
	}
	if x.missed != nil && !x.known { // it has not changed the record, which is due as before
		e.queue.put(x.missed)
		defer e.kick()
	}
	e.mu.Unlock()
	if x.known {
		e.noted(&x.r)
	}
	if x.lost {
		e.work.Add(1) // by a run, which is work itself
		go e.regain(x.ref, x.r.Spec.Follow)
	}
	close(x.over)
}

// Partners is how they are doing, by name.
func (e *Engine) Partners() []PartnerStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []PartnerStatus
	queued := e.queue.waiting()
	for name := range e.book.Partners {
		all = append(all, e.partner(name, queued[name]))
	}
	sortPartners(all)
	return all
}

// partner is the status of one, for which so many requests wait. e.mu is held.
func (e *Engine) partner(name string, queued int) PartnerStatus {
	l := e.queue.line(name)
	s := PartnerStatus{Name: name, Connected: l.up, Failure: l.failure, RTT: l.rtt, Running: l.running, Queued: queued}
	if !l.up {
		s.RetryAt = l.retryAt
	}
	if p := e.book.Partners[name]; p != nil {
		s.Address, s.Bridge = p.Address, p.Bridge
	}
	return s
}

// Reach connects to a partner now, whatever its back-off.
func (e *Engine) Reach(ctx context.Context, partner string) (PartnerStatus, error) {
	book := e.Book()
	if _, err := book.Partner(partner); err != nil {
		return PartnerStatus{}, err
	}
	if e.cfg.Line == nil {
		return PartnerStatus{}, fault.New("reach partner", fault.Unsupported, "this node calls nobody")
	}
	e.mu.Lock()
	l := e.queue.line(partner)
	e.mu.Unlock()
	err := e.reach(ctx, l)
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.partner(partner, e.queue.waiting()[partner]), err
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func sortPartners(all []PartnerStatus) {
	slices.SortFunc(all, func(a, b PartnerStatus) int { return strings.Compare(a.Name, b.Name) })
}
