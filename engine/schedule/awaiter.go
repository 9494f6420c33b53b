package schedule

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

var expectBucket = []byte("expected")

// State is what is to be said of one file that is expected.
type State string

// The states.
const (
	Awaited  State = "awaited"      // it is not due yet
	Late     State = "late"         // it was due, and has not come
	InTime   State = "in time"      // it has come before it was due
	CameLate State = "came late"    // it has come after that
	Missing  State = "missing"      // it has not come, and is not waited for any more
	Known    State = "acknowledged" // it has not come, and somebody has said not to wait for it
)

// Awaits is one file that is expected.
type Awaits struct {
	Due     time.Time     `json:"due"`
	State   State         `json:"state"`
	At      time.Time     `json:"at,omitzero"`      // when it has come, was given up or acknowledged
	By      string        `json:"by,omitempty"`     // who has acknowledged it
	Request lifecycle.Key `json:"request,omitzero"` // that has brought it
}

// await is what is remembered of an Expected. Since <= Last, unless the one time is before both.
type await struct {
	Times string    `json:"times"`
	Since time.Time `json:"since"`          // what has come before does not count
	Last  time.Time `json:"last"`           // the files that were due up to then are in Late or Over, or nowhere any more
	Late  []Awaits  `json:"late,omitempty"` // the oldest first
	Over  []Awaits  `json:"over,omitempty"` // the last ones, the oldest first
	Seen  time.Time `json:"seen"`           // up to when all that has come was looked at
	Taken []taken   `json:"taken,omitempty"`
	Clock time.Time `json:"clock,omitzero"` // what it has shown when this was noted
}

// taken is a request that was counted, not long before Seen.
type taken struct {
	Key lifecycle.Key `json:"key"`
	At  time.Time     `json:"at"`
}

// overlapping is how far before Seen requests are looked for after a start: they may have been
// committed in another order than told.
const overlapping = time.Minute

// noting is how often it is written down up to when all was looked at: a search after a start begins there.
const noting = time.Hour

// AwaiterConfig is what an Awaiter is made of.
type AwaiterConfig struct {
	// Find yields requests that are DONE, as engine.Engine.Find does.
	Find  func(ctx context.Context, q store.Query) iter.Seq2[engine.Status, error]
	Notes *Notes
	Clock func() time.Time // the date; nil: time.Now
	Log   *slog.Logger     // nil: nowhere
	// Told is told of each file that is late, missing or has come, at least once; nil: nobody is.
	Told func(e *Expected, a Awaits)
}

// Awaiter waits for the files that a node expects. Its methods may be called at the same time.
type Awaiter struct {
	cfg    AwaiterConfig
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	asks   chan func() // for the loop, which alone has what follows
	came   chan arrival
	lost   atomic.Bool // requests came that are not in the channel: the store has them
	fits   atomic.Pointer[fitting]
	found  chan search // one that is over

	all     map[string]*expecting
	looking bool            // a search is under way: no time passes and nothing is counted meanwhile
	held    []arrival       // what has come during it
	lookAt  time.Time       // a search begins not before
	noted   time.Time       // when it was written down last up to when all was looked at
	latest  time.Time       // that the clock has shown
	dirty   map[string]bool // whose note is not on disk
	retryAt time.Time
}

// expecting is an Expected at work.
type expecting struct {
	is   Expected // is never changed: a search reads it
	note await

	of, due time.Time // the next after the time of is due then
}

// upcoming is when the next is due that nothing is known of; zero: none is.
func (it *expecting) upcoming() time.Time {
	if it.of.IsZero() || !it.of.Equal(it.note.Last) {
		it.of, it.due = it.note.Last, it.is.next(it.note.Last)
	}
	return it.due
}

// Expect begins to wait, and goes on with what the notes have and what has come meanwhile.
func Expect(cfg AwaiterConfig, all map[string]Expected) (*Awaiter, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Told == nil {
		cfg.Told = func(*Expected, Awaits) {}
	}
	w := &Awaiter{cfg: cfg, log: cfg.Log, asks: make(chan func()), came: make(chan arrival, 256), found: make(chan search, 1), all: map[string]*expecting{}, dirty: map[string]bool{}}
	notes, err := read[await](cfg.Notes, expectBucket)
	if err != nil {
		return nil, err
	}
	for name, n := range notes {
		w.all[name] = &expecting{note: *n}
		w.latest = later(w.latest, n.Clock)
	}
	if err := w.change(all); err != nil {
		return nil, err
	}
	w.lost.Store(true)
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.work.Go(w.loop)
	return w, nil
}

// Stop ends it.
func (w *Awaiter) Stop() {
	w.cancel()
	w.work.Wait()
}

// Came tells of a record that was committed. It never waits.
func (w *Awaiter) Came(r *lifecycle.Record) {
	if r.State != lifecycle.Done || r.Side != lifecycle.Receiver || !w.fits.Load().wants(r) {
		return
	}
	select {
	case w.came <- arrivalOf(r):
	default:
		w.lost.Store(true)
	}
}

func (w *Awaiter) ask(do func()) error {
	done := make(chan struct{})
	select {
	case w.asks <- func() { do(); close(done) }:
		<-done
		return nil
	case <-w.ctx.Done():
		return fault.New("ask for expected files", fault.Draining, "the node is going down")
	}
}

// Change makes what is expected that. What stays as it is goes on untouched.
func (w *Awaiter) Change(all map[string]Expected) (err error) {
	e := w.ask(func() { err = w.change(all) })
	return cmp.Or(e, err)
}

func (w *Awaiter) change(all map[string]Expected) error {
	now := w.cfg.Clock().Round(0)
	notes, items := map[string]*await{}, map[string]*expecting{}
	for name := range w.all {
		if _, stays := all[name]; !stays {
			notes[name] = nil
		}
	}
	for name, e := range all {
		it := w.all[name]
		if it == nil || it.note.Times != e.times() {
			it = &expecting{note: await{Times: e.times(), Since: now, Last: now, Seen: now, Clock: now}}
			if !e.At.IsZero() && !e.At.After(now) {
				it.note.Last = e.At.Add(-1) // it is late at once
			}
			notes[name] = &it.note
		}
		items[name] = &expecting{is: e, note: it.note}
	}
	for name, note := range notes {
		if note != nil {
			notes[name] = &items[name].note
		}
	}
	if err := keep(w.cfg.Notes, expectBucket, notes); err != nil {
		return err
	}
	w.all = items
	w.fits.Store(newFitting(items))
	return nil
}

// loop is the awaiter.
func (w *Awaiter) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for w.ctx.Err() == nil {
		now := w.cfg.Clock().Round(0)
		if now.Before(w.latest.Add(-setBack)) {
			w.anew(now)
		}
		w.latest = now
		if len(w.all) > 0 && !w.looking && !time.Now().Before(w.lookAt) && w.lost.Swap(false) {
			w.look(now)
		}
		if !w.looking {
			for name, it := range w.all {
				w.pass(name, it, now)
			}
		}
		if w.settled() {
			for name, it := range w.all {
				if w.dirty[name] || now.Sub(w.noted).Abs() >= noting {
					w.saw(name, it, now)
				}
			}
			if now.Sub(w.noted).Abs() >= noting {
				w.noted = now
			}
		}
		w.keep()
		if wait, ok := w.wait(now); ok {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-w.ctx.Done():
		case do := <-w.asks:
			do()
		case r := <-w.came:
			w.arrived(r)
		case s := <-w.found:
			w.looked(&s)
		case <-timer.C:
		}
	}
}

// anew begins anew after the clock was set back: nobody knows what was due by the right one.
func (w *Awaiter) anew(now time.Time) {
	w.log.Warn("the clock was set back: what is expected begins anew", "now", now, "was", w.latest)
	for name, it := range w.all {
		if it.note.Since.After(now) || it.note.Last.After(now) || len(it.note.Late) > 0 {
			it.note = await{Times: it.note.Times, Since: now, Last: now, Seen: now, Over: it.note.Over}
		}
		if it.note.Seen.After(now) {
			it.note.Seen = now
		}
		w.dirty[name] = true // by the clock that is
	}
}

// wait is how long nothing is to be done unless somebody asks or comes.
func (w *Awaiter) wait(now time.Time) (least time.Duration, ok bool) {
	least = nap
	if w.looking { // which ends by itself
		return least, true
	}
	for _, it := range w.all {
		if next := it.upcoming(); !next.IsZero() {
			least = min(least, next.Sub(now))
		}
		if len(it.note.Late) > 0 {
			least = min(least, it.note.Late[0].Due.Add(it.is.Expire).Sub(now))
		}
	}
	return max(least, 0), len(w.all) > 0
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// take counts a request: for the next file, if it is about its time, else for the one that has
// been late for the shortest time.
func (w *Awaiter) take(it *expecting, r arrival) {
	n, at := &it.note, r.at
	if at.Before(n.Since) || slices.ContainsFunc(n.Taken, func(t taken) bool { return t.Key == r.key }) {
		return
	}
	w.pass(it.is.Name, it, at)
	came := Awaits{At: at, Request: r.key}
	last := len(n.Late) - 1
	switch next := it.next(at); {
	case !next.IsZero():
		came.Due, came.State = next, InTime
		n.Last = next
	case last >= 0:
		came.Due, came.State = n.Late[last].Due, CameLate
		n.Late = slices.Clone(n.Late[:last])
	default:
		return // more than was expected
	}
	n.Taken = append(slices.DeleteFunc(slices.Clone(n.Taken), func(t taken) bool { return t.At.Before(n.Seen.Add(-2 * overlapping)) }), taken{r.key, at})
	w.over(it, came)
}

// next is when the next file is due that what comes at that time may be; zero: it is none. It is
// none before the last one was due, so that a second file of a day is not that of tomorrow; and
// while one is late, what comes in the first half of the time between two is that one.
func (it *expecting) next(at time.Time) time.Time {
	n := &it.note
	next := it.upcoming()
	early := it.is.Early
	if early == 0 && len(n.Late) > 0 {
		early = next.Sub(n.Last) / 2
	}
	if at.Before(n.Last) || early > 0 && at.Before(next.Add(-early)) {
		return time.Time{}
	}
	return next
}

// over notes that a file is not waited for any more.
func (w *Awaiter) over(it *expecting, a Awaits) {
	n := &it.note
	n.Over = append(slices.Clone(n.Over), a)
	n.Over = n.Over[max(0, len(n.Over)-keptOver):]
	w.dirty[it.is.Name] = true
	w.cfg.Told(&it.is, a)
}

// pass lets time pass: what is due is late, what was late for long is missing.
func (w *Awaiter) pass(name string, it *expecting, now time.Time) {
	n := &it.note
	if next := it.upcoming(); !next.IsZero() && !next.After(now) {
		for _, due := range it.is.last(n.Last, now, MaxWaited) {
			late := Awaits{Due: due, State: Late}
			n.Late = append(slices.Clone(n.Late), late)
			n.Last = due
			w.log.Warn("an expected file is late", "expected", name, "partner", it.is.Partner, "rule", it.is.Rule, "file", it.is.File, "due", due)
			w.cfg.Told(&it.is, late)
		}
		w.dirty[name] = true
	}
	for len(n.Late) > 0 && (len(n.Late) > MaxWaited || !n.Late[0].Due.Add(it.is.Expire).After(now)) {
		missing := Awaits{Due: n.Late[0].Due, State: Missing, At: now}
		n.Late = slices.Clone(n.Late[1:])
		w.log.Error("an expected file has not come, and is not waited for any more", "expected", name, "partner", it.is.Partner, "rule", it.is.Rule, "file", it.is.File, "due", missing.Due)
		w.over(it, missing)
	}
}

// keep writes down what has changed. What was told already may be told again after a crash
// before it.
func (w *Awaiter) keep() {
	if len(w.dirty) == 0 || time.Now().Before(w.retryAt) {
		return
	}
	changes := map[string]*await{}
	for name := range w.dirty {
		if it := w.all[name]; it != nil {
			it.note.Clock = w.latest
			changes[name] = &it.note
		}
	}
	if err := keep(w.cfg.Notes, expectBucket, changes); err != nil {
		w.log.Error("what was expected is not noted, and tried again", "error", err)
		w.retryAt = time.Now().Add(again)
		return
	}
	clear(w.dirty)
}

// Acknowledge takes note that what is late is known, and waits for it no longer: for the one
// that was due then, or, at zero, for all. NotFound: none is late.
func (w *Awaiter) Acknowledge(name, by string, due time.Time) (err error) {
	const op = "acknowledge expected file"
	e := w.ask(func() {
		it := w.all[name]
		if it == nil {
			err = fault.New(op, fault.NotFound, "no file %q is expected", name)
			return
		}
		now := w.cfg.Clock().Round(0)
		it.note.Clock = now
		if !w.looking {
			w.pass(name, it, now)
		}
		late := it.note.Late
		it.note.Late = slices.DeleteFunc(slices.Clone(late), func(a Awaits) bool { return due.IsZero() || a.Due.Equal(due) })
		if len(it.note.Late) == len(late) {
			err = fault.New(op, fault.NotFound, "expected file %q: %s", name, noneLate(late, due))
			return
		}
		for _, a := range late {
			if due.IsZero() || a.Due.Equal(due) {
				w.log.Info("an expected file that is late is known, and not waited for any more", "expected", name, "due", a.Due, "by", by)
				w.over(it, Awaits{Due: a.Due, State: Known, At: now, By: by})
			}
		}
		if err = keep(w.cfg.Notes, expectBucket, map[string]*await{name: &it.note}); err == nil {
			delete(w.dirty, name)
		}
	})
	return cmp.Or(e, err)
}

// noneLate says why there is nothing to acknowledge.
func noneLate(late []Awaits, due time.Time) string {
	if len(late) == 0 {
		return "none is late"
	}
	return fmt.Sprintf("none that was due at %s is late; the oldest was due at %s", due.Format(time.RFC3339), late[0].Due.Format(time.RFC3339))
}

// Expectation is how an Expected is doing.
type Expectation struct {
	Expected Expected
	Since    time.Time
	Next     time.Time // when the next is due; zero: none is
	Late     []Awaits  // the oldest first
	Over     []Awaits  // the last ones, the latest first
}

// State is what is to be said of it first: late, if one is, else what is next or was last.
func (x *Expectation) State() State {
	switch {
	case len(x.Late) > 0:
		return Late
	case !x.Next.IsZero() || len(x.Over) == 0:
		return Awaited
	}
	return x.Over[0].State
}

// List is what is expected: late ones first, then by when they are due, then by name.
func (w *Awaiter) List() (all []Expectation, err error) {
	err = w.ask(func() {
		for _, it := range w.all {
			x := Expectation{Expected: it.is, Since: it.note.Since, Next: it.upcoming(), Late: slices.Clone(it.note.Late), Over: slices.Clone(it.note.Over)}
			slices.Reverse(x.Over)
			all = append(all, x)
		}
	})
	rank := func(x *Expectation) (int, time.Time) {
		switch {
		case len(x.Late) > 0:
			return 0, x.Late[0].Due
		case !x.Next.IsZero():
			return 1, x.Next
		}
		return 2, time.Time{}
	}
	slices.SortFunc(all, func(a, b Expectation) int {
		ra, ta := rank(&a)
		rb, tb := rank(&b)
		return cmp.Or(cmp.Compare(ra, rb), ta.Compare(tb), cmp.Compare(a.Expected.Name, b.Expected.Name))
	})
	return all, err
}
