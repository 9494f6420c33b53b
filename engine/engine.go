package engine

import (
	"context"
	"iter"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/calm"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Config is what an engine is made of. The zero values of what is not required
// are the defaults.
type Config struct {
	Node    string      // this node's name; 1 to lifecycle.MaxName bytes; required
	Store   store.Store // required; stays the caller's
	Line    Line        // required unless the node only serves
	Bridges Bridges     // servers of other protocols; nil: there are none
	// Expect is the version of its source that a request of this node may send, without
	// its device, if it may send one only; nil: none does.
	Expect func(lifecycle.ID) (_ sideeffect.Version, only bool, err error)
	Book   Book
	Signer task.Signer // this node's key, with which tasks sign; nil: they cannot

	Concurrent int              // requests that run at a time; default 256
	Serving    int              // requests that are served at a time; default 1024
	Bandwidth  Timetable        // of all transfers together; none: no limit
	Patience   time.Duration    // how long the requested end waits for the requester before it gives up; default 7 days
	Retention  time.Duration    // of records that are DONE; default 30 days, at least lifecycle.MinRetention
	Failed     time.Duration    // the same of records that are INERROR; default 90 days
	Hops       int              // most requests before one in a chain that tasks make; default 16, at most MaxHops
	SyncEvery  int64            // bytes between a receiver's durable offsets; default sideeffect.DefaultSyncEvery
	Shared     int64            // bytes of sources that are kept for requests which send the same at the same time; default DefaultShared
	Layer      sideeffect.Layer // nil: the operating system's
	Clock      func() time.Time // what records, start times and windows go by; nil: time.Now. How long anything waits does not depend on it
	Arrivals   string           // file of where small files come, of which a killed process leaves some; "": none, they stay
	Log        *slog.Logger     // nil: nowhere
	Observer   Observer         // nil: nobody
}

// Bridges are servers of other protocols: tasks send to them, and rules have files there.
type Bridges interface {
	task.Bridges
	// File is a file below dir at a bridge, to be read.
	File(bridge, dir string, name relpath.Path) sideeffect.Identity
}

// Defaults of Config.
const (
	DefaultRunning   = 256
	DefaultServing   = 1024
	DefaultPatience  = 7 * 24 * time.Hour
	DefaultRetention = 30 * 24 * time.Hour
	DefaultFailed    = 90 * 24 * time.Hour
	DefaultHops      = 16
	MaxHops          = 254 // one less than a request can say
)

// Engine is one node. All methods may be called at the same time. Errors are
// *fault.Error.
type Engine struct {
	cfg   Config
	log   *slog.Logger
	epoch uint64        // of this process, in the upper half of each claim's
	claim atomic.Uint64 // claims of this process

	ctx  context.Context // ends with Close
	stop context.CancelCauseFunc
	work sync.WaitGroup // commander, runners, and what they leave behind

	kicks  chan struct{} // to the commander
	watch  hub
	opened time.Time    // when this process took it up
	ahead  atomic.Int64 // by how many nanoseconds the clock was ahead of what the process counts since, at the least
	all    *share       // nil: no limit
	limits atomic.Pointer[limits]
	shared *sideeffect.Sharing
	fans   together
	broken chan struct{} // closed when the store has failed
	once   sync.Once
	cause  error // why, once broken is closed
	calm   calm.Calm
	gone   atomic.Bool // the store's files were removed

	mu       sync.Mutex // guards what follows; never held over anything that waits
	book     Book
	runs     map[store.Ref]*run // who holds a claim, or is about to
	queue    queue
	serving  int              // calls
	served   map[string]int   // the same, by partner
	records  map[string]tally // of requests that partners have made, or had made, by partner
	tales    tales
	draining bool

	arrivals arrivals
}

// Open makes an engine and starts it: what a process before has left running is
// interrupted and due again.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	const op = "open engine"
	switch {
	case cfg.Node == "" || len(cfg.Node) > lifecycle.MaxName:
		return nil, fault.New(op, fault.Invalid, "the node's name has %d bytes; 1 to %d are allowed", len(cfg.Node), lifecycle.MaxName)
	case cfg.Store == nil:
		return nil, fault.New(op, fault.Invalid, "no store: set Config.Store")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Observer == nil {
		cfg.Observer = unobserved{}
	}
	setDefault(&cfg.Concurrent, DefaultRunning)
	setDefault(&cfg.Serving, DefaultServing)
	setDefault(&cfg.Patience, DefaultPatience)
	setDefault(&cfg.Retention, DefaultRetention)
	setDefault(&cfg.Failed, DefaultFailed)
	setDefault(&cfg.Hops, DefaultHops)
	setDefault(&cfg.Shared, DefaultShared)
	cfg.Hops = min(cfg.Hops, MaxHops)
	cfg.Retention, cfg.Failed = max(cfg.Retention, lifecycle.MinRetention), max(cfg.Failed, lifecycle.MinRetention)
	e := &Engine{cfg: cfg, log: cfg.Log, opened: time.Now(), served: map[string]int{}, records: map[string]tally{}, runs: map[store.Ref]*run{}, kicks: make(chan struct{}, 1), broken: make(chan struct{})}
	e.ahead.Store(math.MaxInt64)
	e.queue.init()
	e.all = newShare(cfg.Bandwidth, cfg.Clock)
	e.shared = sideeffect.NewSharing(cfg.Shared)
	e.watch.init()
	if err := e.arrivals.open(cfg.Arrivals); err != nil {
		return nil, err
	}
	if err := e.SetBook(cfg.Book); err != nil {
		return nil, err
	}
	epoch, err := cfg.Store.NewEpoch(ctx)
	if err != nil {
		return nil, err
	}
	e.epoch = epoch
	e.ctx, e.stop = context.WithCancelCause(context.Background())
	ended, known, err := e.recover(ctx)
	if err != nil {
		e.stop(err)
		return nil, err
	}
	e.work.Add(6)
	go e.command()
	go e.tidy(known)
	go e.retain()
	go e.mind()
	go e.attend()
	go e.sweep(ended)
	return e, nil
}

// now is the time of day. It may be wrong, and step: what waits is counted otherwise.
func (e *Engine) now() time.Time {
	now := e.cfg.Clock()
	ahead := int64(now.Sub(e.opened.Round(0)) - time.Since(e.opened))
	for least := e.ahead.Load(); ahead < least && !e.ahead.CompareAndSwap(least, ahead); {
		least = e.ahead.Load()
	}
	return now
}

// sure is now by a clock that nobody has set since the process began: it is never
// ahead of how long ago something was that this process has written down. What is
// forgotten by its age goes by it.
func (e *Engine) sure() time.Time {
	now := e.now()
	if counted := e.opened.Round(0).Add(time.Since(e.opened) + time.Duration(e.ahead.Load())); counted.Before(now) {
		return counted
	}
	return now
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// recover interrupts what a process before has left running, and queues all that waits.
// ended is what may have left bytes, known the names of what is kept of others.
func (e *Engine) recover(ctx context.Context) (ended []store.Ref, known map[string]bool, _ error) {
	known = map[string]bool{}
	open := store.Query{States: []lifecycle.State{lifecycle.ToSubmit, lifecycle.Running, lifecycle.Interrupted, lifecycle.InError}}
	var left []store.Ref
	for r, err := range e.cfg.Store.Find(ctx, open) {
		if err != nil {
			return nil, nil, err
		}
		if name := partialOf(&r); name != "" && len(e.arrivals.old) > 0 {
			known[name] = true
		}
		e.mu.Lock()
		e.count(countsFor(&r), classNone, classOf(&r))
		e.mu.Unlock()
		switch {
		case r.State == lifecycle.Running:
			left = append(left, store.RefOf(&r))
		case leftover(&r):
			ended = append(ended, store.RefOf(&r))
		default:
			r.Due = e.dueAtStart(&r)
			e.noted(&r)
		}
	}
	return ended, known, inParallel(left, func(ref store.Ref) error {
		r, err := e.cfg.Store.Get(ctx, ref)
		if err == nil {
			r, err = e.recovered(ctx, &r, false)
		}
		if err != nil {
			return err
		}
		e.log.Info("found running after a restart", about(&r)...)
		e.noted(&r)
		return nil
	})
}

// dueAtStart is when a record that waits is due for a process that has just started. The date in it was written by
// another one, whose clock may have been wrong, or this one's may be: no wait is longer than it can have been meant.
// Nor is a requester given up that had no chance to call while this node was down.
func (e *Engine) dueAtStart(r *lifecycle.Record) time.Time {
	now := e.now()
	most := now
	switch {
	case r.Reason == lifecycle.Scheduled || r.Failing:
		return r.Due
	case stoppedHere(r):
		most = now.Add(e.cfg.Patience)
	case r.Role == lifecycle.Requested:
		from := later(r.After, now) // an error task may have put it off
		return later(earlier(r.Due, from.Add(e.cfg.Patience)), from.Add(min(e.cfg.Patience, time.Hour)))
	case r.Delays > 0:
		return r.Due
	case r.State == lifecycle.Interrupted && r.Reason != lifecycle.Restarted:
		wait := mostWait
		e.mu.Lock()
		if rule := e.book.Rules[r.Spec.Rule]; rule != nil {
			wait = max(wait, rule.Retry.Most)
		}
		e.mu.Unlock()
		most = now.Add(wait + wait/4) // delays are spread
	}
	return earlier(r.Due, most)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// recovered interrupts a record that nobody runs any more; alive: in the process that ran it.
func (e *Engine) recovered(ctx context.Context, r *lifecycle.Record, alive bool) (lifecycle.Record, error) {
	now := time.Now()
	due := now
	if r.Role == lifecycle.Requested && !r.Failing {
		due = now.Add(e.cfg.Patience)
	}
	return e.cfg.Store.Apply(ctx, store.RefOf(r), now, lifecycle.Recover{Due: due, Alive: alive})
}

// inParallel does the same for each, many at a time, so that they share commits.
func inParallel[T any](all []T, do func(T) error) error {
	const most = 256
	var group sync.WaitGroup
	slots := make(chan struct{}, most)
	var mu sync.Mutex
	var first error
	for _, v := range all {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			if err := do(v); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = err
				}
			}
		})
	}
	group.Wait()
	return first
}

// Book is the present one.
func (e *Engine) Book() Book {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.book
}

// SetBook replaces partners and rules for what begins from now on. Nobody may
// change it afterwards.
func (e *Engine) SetBook(b Book) error {
	for name, r := range b.Rules {
		if err := r.Check(); err != nil {
			return err
		}
		if name != r.Name {
			return fault.New("set book", fault.Invalid, "rule %q is listed as %q", r.Name, name)
		}
		if r.Pool != "" && b.Pools[r.Pool] == nil {
			return fault.New("set book", fault.Invalid, "rule %q: there is no pool %q", r.Name, r.Pool)
		}
	}
	for name, p := range b.Partners {
		if p.Pool != "" && b.Pools[p.Pool] == nil {
			return fault.New("set book", fault.Invalid, "partner %q: there is no pool %q", name, p.Pool)
		}
	}
	moved := map[string][]string{} // and by which keys they are still where they were
	e.mu.Lock()
	for name, p := range b.Partners {
		old := e.book.Partners[name]
		switch {
		case old == nil:
		case old.Address != p.Address:
			moved[name] = nil
		case !slices.Equal(old.Keys, p.Keys):
			moved[name] = p.Keys
		}
	}
	for name := range e.book.Partners {
		if b.Partners[name] == nil {
			moved[name] = nil
		}
		if !b.calls(name) { // its requests wait until it is there again
			l := e.queue.line(name)
			l.up, l.refused = false, false
		}
	}
	e.book = b
	e.queue.rebook(b)
	e.relimit(b)
	e.queue.resettle(func(w *waiter) { e.bedtime(w, e.now()) })
	e.mu.Unlock()
	e.kick()
	if e.cfg.Line != nil {
		for name, keys := range moved {
			e.cfg.Line.Forget(name, keys...)
		}
	}
	return nil
}

// Get is one request at this node. NotFound without one.
func (e *Engine) Get(ctx context.Context, ref store.Ref) (Status, error) {
	r, err := e.cfg.Store.Get(ctx, ref)
	return e.status(r), err
}

// Find yields requests as store.Store.Find does.
func (e *Engine) Find(ctx context.Context, q store.Query) iter.Seq2[Status, error] {
	return func(yield func(Status, error) bool) {
		for r, err := range e.cfg.Store.Find(ctx, q) {
			if !yield(e.status(r), err) {
				return
			}
		}
	}
}

// Named are requests by what is known of their names, as store.Store.Named.
func (e *Engine) Named(ctx context.Context, n store.Name, most int) ([]store.Ref, error) {
	return e.cfg.Store.Named(ctx, n, most)
}

// Events are what happened to a request at this node.
func (e *Engine) Events(ctx context.Context, ref store.Ref) ([]store.Entry, error) {
	return e.cfg.Store.Events(ctx, ref)
}

func (e *Engine) status(r lifecycle.Record) Status {
	s := Status{Record: r}
	if x := e.runOf(store.RefOf(&r)); x != nil && r.State == lifecycle.Running {
		s.Live = x.report()
	}
	return s
}

func (e *Engine) runOf(ref store.Ref) *run {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.runs[ref]
}

func (e *Engine) isDraining() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.draining
}

// changed tells everybody of a record that was committed.
func (e *Engine) changed(r *lifecycle.Record, live *Live) {
	e.noted(r)
	e.watch.publish(Status{Record: *r, Live: live})
}

// storeFailed notes an error of the store itself, after which this process can
// promise nothing any more.
func (e *Engine) storeFailed(err error) error {
	if err == nil {
		return nil
	}
	switch fault.KindOf(err) {
	case fault.IO, fault.Corrupt:
		e.once.Do(func() {
			e.cause = err
			e.log.Error("the store has failed: the process has to end", "error", err)
			close(e.broken)
			e.stop(err)
		})
	}
	return err
}

// Failed is closed when the store has failed; Cause says why then. The process
// has to end, and another one finds out what is on disk.
func (e *Engine) Failed() <-chan struct{} { return e.broken }

// Cause is why Failed is closed.
func (e *Engine) Cause() error {
	select {
	case <-e.broken:
		return e.cause
	default:
		return nil
	}
}

// Drain takes nothing new, gives what runs until ctx ends, then interrupts it.
func (e *Engine) Drain(ctx context.Context) error {
	e.mu.Lock()
	e.draining = true
	e.mu.Unlock()
	e.kick()
	for {
		x := e.anyRun()
		if x == nil {
			break
		}
		select {
		case <-x.over:
			continue
		case <-ctx.Done():
		case <-e.ctx.Done():
		}
		break
	}
	e.mu.Lock() // after what more has let begin
	e.stop(fault.New("run", fault.Draining, "the node goes down"))
	e.mu.Unlock()
	e.settled()
	e.watch.close()
	return nil
}

// leaveAfter is for how many seconds what was told to end is waited for: what is in a system call to a file system
// that does not answer cannot be told, and the next process finds its requests as one that is killed leaves them.
// They are counted one by one: a machine that stands still meanwhile is no reason.
var leaveAfter = 25

// settled waits until nothing runs any more.
func (e *Engine) settled() {
	over := make(chan struct{})
	go func() {
		e.work.Wait()
		close(over)
	}()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for range leaveAfter {
		select {
		case <-over:
			return
		case <-second.C:
		}
	}
	e.mu.Lock()
	left := slices.Collect(maps.Keys(e.runs))
	e.mu.Unlock()
	for _, ref := range left {
		e.log.Error("the node ends, and this request does not: a file system does not answer", e.named(ref)...)
	}
	if len(left) == 0 {
		e.log.Error("the node ends, and work of it does not: a file system does not answer")
	}
}

// named is what the log says of a request of which there is only the name: its chain is in its record.
func (e *Engine) named(ref store.Ref) []any {
	about := []any{"id", ref.Key.ID.String(), "role", ref.Role.String()}
	if r, err := e.cfg.Store.Get(context.Background(), ref); err == nil {
		about = append(about, "follow", r.Spec.Follow.String(), "partner", r.Spec.Partner)
	}
	return about
}

func (e *Engine) anyRun() *run {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.runs {
		return x
	}
	return nil
}

// Close is Drain without patience. The store stays open.
func (e *Engine) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return e.Drain(ctx)
}

// Purge forgets DONE requests that were changed before that time, but none
// younger than lifecycle.MinRetention.
func (e *Engine) Purge(ctx context.Context, before time.Time) (int, error) {
	before = e.purgeable(before)
	const batch = 500
	total := 0
	for {
		n, err := e.cfg.Store.Purge(ctx, before, batch)
		total += n
		if err != nil || n < batch {
			return total, err
		}
	}
}

// When the retention is looked after: soon after a start, since a process may not live for long; not at
// once, so that a clock that is wrong when the machine starts is right by then.
const (
	firstPurge = 5 * time.Minute
	purgeEvery = time.Hour
)

// retain purges what is older than the retention, for as long as the engine runs.
func (e *Engine) retain() {
	defer e.work.Done()
	timer := time.NewTimer(firstPurge)
	defer timer.Stop()
	for ; ; timer.Reset(purgeEvery) {
		select {
		case <-timer.C:
		case <-e.ctx.Done():
			return
		}
		n, err := e.Purge(e.ctx, e.sure().Add(-e.cfg.Retention))
		failed := 0
		if err == nil {
			failed, err = e.PurgeFailed(e.ctx, e.sure().Add(-e.cfg.Failed))
		}
		if err != nil && e.ctx.Err() == nil {
			e.log.Error("purge", "error", e.storeFailed(err))
		} else if n+failed > 0 {
			e.log.Info("purged", "requests", n, "failed", failed)
		}
	}
}

// about is what every line of the log says of a request.
func about(r *lifecycle.Record) []any {
	return []any{"id", r.Key.ID.String(), "follow", r.Spec.Follow.String(), "role", r.Role.String(), "side", r.Side.String(),
		"partner", r.Spec.Partner, "rule", r.Spec.Rule, "state", r.State.String(), "phase", r.Phase.Name(r.Side), "attempt", r.Attempt}
}
