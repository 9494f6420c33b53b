package schedule

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/nearest"
)

// Engine is where a schedule has its requests; *engine.Engine is one.
type Engine interface {
	Submit(ctx context.Context, o engine.Order) (_ lifecycle.Record, made bool, err error)
	Find(ctx context.Context, q store.Query) iter.Seq2[engine.Status, error]
}

var _ Engine = (*engine.Engine)(nil)

// Config is what a Runner is made of.
type Config struct {
	Engine Engine
	Notes  *Notes
	Clock  func() time.Time // the date; nil: time.Now
	Log    *slog.Logger     // nil: nowhere
	// Told is told of each run that is over, and of each that is not made; nil: nobody is.
	Told func(s *Schedule, what Outcome)
}

// Outcome is what became of a run.
type Outcome uint8

const (
	Made   Outcome = 1 // its requests are registered
	Failed Outcome = 2 // not all of them
	Passed Outcome = 3 // it was missed, or one before was open
)

func (o Outcome) String() string { return [...]string{"", "made", "failed", "passed"}[min(o, Passed)] }

const (
	nap     = 15 * time.Second // between looks at the clock, which may be set meanwhile
	again   = 30 * time.Second // until what could not be done is tried again
	setBack = time.Hour        // a clock that is set back further begins anew
	atOnce  = 16               // runs that are made at a time
)

// Runner is the schedules of a node at work. Its methods may be called at the same time.
type Runner struct {
	cfg    Config
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	asks   chan func() // for the loop, which alone has what follows
	ended  chan ending

	all    map[string]*item
	before map[string]was // the last change
	making int
}

// was is an item before a change, and its schedule then.
type was struct {
	*item
	is Schedule
}

// item is a schedule at work.
type item struct {
	is      Schedule
	note    note
	next    time.Time // when it is due; zero: never
	making  bool
	failed  bool      // the last try to make its run, or to note it
	retryAt time.Time // then: not before
	trouble string
	waiting []chan<- ordered // those who wait for the run that is ordered
}

// ordered is what became of a run that somebody has ordered.
type ordered struct {
	run Run
	err error
}

// answer tells those who wait for the run that is ordered.
func (it *item) answer(o ordered) {
	for _, waits := range it.waiting {
		waits <- o
	}
	it.waiting = nil
}

// ending is what became of the first pending run of an item.
type ending struct {
	of  *item
	run Run
	err error // it is not over, and is tried again
}

// Start begins the schedules, and goes on with what the notes have.
func Start(cfg Config, all map[string]Schedule) (*Runner, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Told == nil {
		cfg.Told = func(*Schedule, Outcome) {}
	}
	r := &Runner{cfg: cfg, log: cfg.Log, asks: make(chan func()), ended: make(chan ending), all: map[string]*item{}}
	notes, err := read[note](cfg.Notes, runBucket)
	if err != nil {
		return nil, err
	}
	for name, n := range notes {
		r.all[name] = &item{note: *n}
	}
	if err := r.change(all); err != nil {
		return nil, err
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.work.Go(r.loop)
	return r, nil
}

// Stop ends it. What it has begun goes on with the next Start.
func (r *Runner) Stop() {
	r.cancel()
	r.work.Wait()
}

// ask has the loop do something, and waits for it.
func (r *Runner) ask(do func()) error {
	done := make(chan struct{})
	select {
	case r.asks <- func() { do(); close(done) }:
		<-done
		return nil
	case <-r.ctx.Done():
		return fault.New("ask schedules", fault.Draining, "the node is going down")
	}
}

// Change makes the schedules those. Those that stay as they are go on untouched; one that
// is due at other times than before begins now.
func (r *Runner) Change(all map[string]Schedule) (err error) {
	if e := r.ask(func() { err = r.change(all) }); e != nil {
		return e
	}
	return err
}

func (r *Runner) change(all map[string]Schedule) error {
	now := r.cfg.Clock().Round(0)
	notes, items := map[string]*note{}, map[string]*item{}
	for name := range r.all {
		if _, stays := all[name]; !stays {
			notes[name] = nil
		}
	}
	for name, s := range all {
		it := r.all[name]
		if it == nil || it.note.Times != s.Times.text() {
			it = &item{note: note{Times: s.Times.text(), Since: now, Last: now}}
			notes[name] = &it.note
		}
		items[name] = it
	}
	if err := keep(r.cfg.Notes, runBucket, notes); err != nil {
		return err
	}
	for name, it := range r.all {
		if items[name] != it && !it.making { // else it is made, and its end told
			it.answer(ordered{err: fault.New("run schedule", fault.Canceled, "schedule %q was removed, or is due at other times now, before the run was begun: run it again", name)})
		}
	}
	r.before = make(map[string]was, len(r.all))
	for name, it := range r.all {
		r.before[name] = was{it, it.is}
	}
	for name, it := range items {
		it.is = all[name]
		it.next = it.is.Times.Next(it.note.Last)
	}
	r.all = items
	return nil
}

// Undo puts back what the last Change has replaced, with what was noted of it: a run that was due is still
// due. With an error the notes could not be put back, and the next Start does not have them.
func (r *Runner) Undo() (err error) {
	if e := r.ask(func() { err = r.undo() }); e != nil {
		return e
	}
	return err
}

func (r *Runner) undo() error {
	notes, items := map[string]*note{}, map[string]*item{}
	for name, it := range r.all {
		if r.before[name].item != it {
			notes[name] = nil
			it.answer(ordered{err: fault.New("run schedule", fault.Canceled, "schedule %q was taken back before the run was begun", name)})
		}
	}
	for name, b := range r.before {
		if r.all[name] != b.item {
			notes[name] = &b.note
		}
		b.item.is = b.is
		b.next = b.is.Times.Next(b.note.Last)
		items[name] = b.item
	}
	r.all = items
	return keep(r.cfg.Notes, runBucket, notes)
}

// loop is the runner.
func (r *Runner) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for r.ctx.Err() == nil {
		now := r.cfg.Clock().Round(0)
		r.settle(now)
		r.begin()
		if wait, ok := r.wait(now); ok {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-r.ctx.Done():
		case do := <-r.asks:
			do()
		case e := <-r.ended:
			r.over(e)
		case <-timer.C:
		}
	}
}

// wait is how long nothing is to be done unless somebody asks.
func (r *Runner) wait(now time.Time) (least time.Duration, ok bool) {
	least = nap
	for _, it := range r.all {
		switch {
		case it.making || len(it.note.Pending) > 0 && r.making == atOnce && !it.tooSoon():
			continue // what is being made is told
		case it.failed:
			least = min(least, time.Until(it.retryAt))
		case !it.next.IsZero():
			least = min(least, it.next.Sub(now))
		}
	}
	return max(least, 0), len(r.all) > 0
}

// settle notes the runs whose time has come, all in one commit.
func (r *Runner) settle(now time.Time) {
	changes := map[string]*note{}
	for name, it := range r.all {
		if len(it.note.Pending) > 0 || it.tooSoon() {
			continue
		}
		if it.note.Last.After(now.Add(setBack)) {
			n := it.note
			n.Since, n.Last, n.Made = now, now, nil
			r.log.Warn("the clock was set back: the schedule begins anew", "schedule", name, "now", now, "was", it.note.Last)
			changes[name] = &n
			continue
		}
		if it.next.IsZero() || it.next.After(now) {
			continue
		}
		n := r.due(it, now)
		changes[name] = &n
	}
	err := keep(r.cfg.Notes, runBucket, changes)
	if err != nil {
		r.log.Error("the runs of schedules are not noted, and tried again", "error", err)
	} else if len(changes) > 0 {
		reached("noted")
	}
	for name, n := range changes {
		it := r.all[name]
		if err != nil {
			it.fail(err)
			continue
		}
		it.note, it.failed, it.trouble = *n, false, ""
		it.next = it.is.Times.Next(n.Last)
	}
}

func (it *item) tooSoon() bool { return it.failed && time.Now().Before(it.retryAt) }

func (it *item) fail(err error) {
	it.failed, it.retryAt, it.trouble = true, time.Now().Add(again), fault.Plain(err)
}

// due is the note of a schedule whose time has come: with the runs that are to be made.
func (r *Runner) due(it *item, now time.Time) note {
	n, s := it.note, &it.is
	most := 1
	if s.Missed == All {
		most = s.Most
	}
	times := s.Times.Last(n.Last, now, most)
	if len(times) == 0 { // the expression and the clock disagree on nothing else
		return n
	}
	last := times[len(times)-1]
	if s.Missed == Skip && now.Sub(last) > s.Grace {
		times = nil
	}
	if len(times) == 0 || times[0].After(it.next) {
		r.log.Warn("runs of a schedule were missed", "schedule", s.Name, "first", it.next, "last", last, "missed", s.Missed.String(), "made", len(times))
		r.cfg.Told(s, Passed)
	}
	n.Last = last
	for _, at := range times {
		n.Pending = append(n.Pending, Run{Due: at})
	}
	return n
}

// begin makes what is noted.
func (r *Runner) begin() {
	for _, it := range r.all {
		if len(it.note.Pending) == 0 || it.making || it.tooSoon() || r.making == atOnce {
			continue
		}
		it.making = true
		r.making++
		j := job{runner: r, is: it.is, since: it.note.Since, run: it.note.Pending[0], before: it.note.Made}
		r.work.Go(func() {
			run, err := j.do(r.ctx)
			select {
			case r.ended <- ending{it, run, err}:
			case <-r.ctx.Done():
			}
		})
	}
}

// over notes what has been made, with all else that has meanwhile.
func (r *Runner) over(e ending) {
	all := []ending{e}
	for more := true; more; {
		select {
		case e := <-r.ended:
			all = append(all, e)
		default:
			more = false
		}
	}
	changes := map[string]*note{}
	for _, e := range all {
		r.making--
		e.of.making = false
		switch name := e.of.is.Name; {
		case r.all[name] != e.of: // it is gone
			e.of.answer(ordered{e.run, e.err})
		case e.err != nil:
			e.of.fail(e.err)
			r.log.Error("a run of a schedule is not made, and tried again", "schedule", name, "due", e.run.Due, "error", e.err)
		default:
			n := e.of.note
			n.Pending, n.Over = n.Pending[1:], &e.run
			if e.run.What != Passed {
				n.Made = &e.run
			}
			changes[name] = &n
		}
	}
	err := keep(r.cfg.Notes, runBucket, changes)
	for _, e := range all {
		n := changes[e.of.is.Name]
		switch {
		case e.err != nil || r.all[e.of.is.Name] != e.of:
		case err != nil: // it is made again, by the same ids
			e.of.fail(err)
		default:
			reached("over")
			e.of.note, e.of.failed, e.of.trouble = *n, false, ""
			r.tell(e)
		}
	}
}

// tell tells of a run that is over.
func (r *Runner) tell(e ending) {
	about := []any{"schedule", e.of.is.Name, "due", e.run.Due, "requests", e.run.Requests}
	if e.run.By != "" {
		about = append(about, "by", e.run.By)
	}
	switch e.run.What {
	case Made:
		r.log.Info("schedule has run", about...)
	case Passed:
		r.log.Warn("a run of a schedule is passed over", append(about, "reason", e.run.Why)...)
	default:
		r.log.Error("a run of a schedule has failed", append(about, "failed", e.run.Failed, "reason", e.run.Why)...)
	}
	r.cfg.Told(&e.of.is, e.run.What)
	if e.run.By != "" {
		e.of.answer(ordered{run: e.run})
	}
}

// Status is how a schedule is doing.
type Status struct {
	Schedule Schedule
	Since    time.Time
	Next     time.Time // zero: never
	Pending  []Run     // under way, the oldest first
	Last     Run       // the last that is over; Due is zero without one
	Trouble  string    // why it is not made or noted just now
}

func (it *item) status() Status {
	s := Status{Schedule: it.is, Since: it.note.Since, Next: it.next, Pending: it.note.Pending, Trouble: it.trouble}
	if it.note.Over != nil {
		s.Last = *it.note.Over
	}
	return s
}

// List is all schedules, by name.
func (r *Runner) List() (all []Status, err error) {
	err = r.ask(func() {
		for _, name := range slices.Sorted(maps.Keys(r.all)) {
			all = append(all, r.all[name].status())
		}
	})
	return all, err
}

// Show is one of them. NotFound without one.
func (r *Runner) Show(name string) (s Status, err error) {
	e := r.ask(func() {
		if it := r.all[name]; it != nil {
			s = it.status()
		} else {
			err = notFound(name, r.all)
		}
	})
	if e != nil {
		err = e
	}
	return s, err
}

func notFound(name string, all map[string]*item) error {
	return fault.New("find schedule", fault.NotFound, "no schedule is called %q%s", name, nearest.MeantOf(name, all))
}

// Run makes a run now, by somebody's order, and returns when its requests are registered.
// What the clock makes is not changed by it. Exists: one is under way.
func (r *Runner) Run(ctx context.Context, name, by string) (s Status, run Run, err error) {
	waits := make(chan ordered, 1)
	e := r.ask(func() {
		it := r.all[name]
		switch {
		case it == nil:
			err = notFound(name, r.all)
		case len(it.note.Pending) > 0:
			err = fault.New("run schedule", fault.Exists, "a run of schedule %q is under way", name)
		default:
			n := it.note
			n.Pending = []Run{{Due: r.cfg.Clock().Round(0), By: by}}
			if err = keep(r.cfg.Notes, runBucket, map[string]*note{name: &n}); err == nil {
				it.note, it.failed, s = n, false, it.status()
				it.waiting = append(it.waiting, waits)
			}
		}
	})
	if err = cmp.Or(e, err); err != nil {
		return s, run, err
	}
	select {
	case o := <-waits:
		return s, o.run, o.err
	case <-ctx.Done():
		return s, run, fault.Wrap("run schedule", name, context.Cause(ctx))
	case <-r.ctx.Done():
		return s, run, fault.New("run schedule", fault.Draining, "the node goes down; the run is made after the next start")
	}
}

// hook is told where the work has come to. Tests end it there.
var hook atomic.Pointer[func(point string)]

func reached(point string) {
	if f := hook.Load(); f != nil {
		(*f)(point)
	}
}
