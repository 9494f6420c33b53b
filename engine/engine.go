package engine

import (
	"context"
	"crypto/rand"
	"iter"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
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
	Bandwidth  int64            // bytes a second of all transfers together; 0: no limit
	Patience   time.Duration    // how long the requested end waits for the requester before it gives up; default 7 days
	Retention  time.Duration    // of records that are DONE; default 30 days, at least lifecycle.MinRetention
	Failed     time.Duration    // the same of records that are INERROR; default 90 days
	Hops       int              // most requests before one in a chain that tasks make; default 16, at most MaxHops
	SyncEvery  int64            // bytes between a receiver's durable offsets; default sideeffect.DefaultSyncEvery
	Shared     int64            // bytes of sources that are kept for requests which send the same at the same time; default DefaultShared
	Layer      sideeffect.Layer // nil: the operating system's
	Clock      func() time.Time // what records, start times and windows go by; nil: time.Now. How long anything waits does not depend on it
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

	kicks       chan struct{} // to the commander
	watch       hub
	opened      time.Time    // when this process took it up
	ahead       atomic.Int64 // by how many nanoseconds the clock was ahead of what the process counts since, at the least
	all         *share       // nil: no limit
	limits      atomic.Pointer[limits]
	shared      *sideeffect.Sharing
	fans        together
	commissions struct {
		sync.Mutex
		of map[string][]lifecycle.ID // requests that were made for a partner since the start, and may be over
	}
	broken chan struct{} // closed when the store has failed
	once   sync.Once
	cause  error // why, once broken is closed

	mu       sync.Mutex // guards what follows; never held over anything that waits
	book     Book
	runs     map[store.Ref]*run // who holds a claim, or is about to
	queue    queue
	serving  int              // calls
	served   map[string]int   // the same, by partner
	records  map[string]tally // of requests that partners have made, by partner
	draining bool
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
	e.all = newShare(quantity.Always(cfg.Bandwidth), cfg.Clock)
	e.shared = sideeffect.NewSharing(cfg.Shared)
	e.watch.init()
	if err := e.SetBook(cfg.Book); err != nil {
		return nil, err
	}
	epoch, err := cfg.Store.NewEpoch(ctx)
	if err != nil {
		return nil, err
	}
	e.epoch = epoch
	e.ctx, e.stop = context.WithCancelCause(context.Background())
	ended, err := e.recover(ctx)
	if err != nil {
		e.stop(err)
		return nil, err
	}
	e.work.Add(3)
	go e.command()
	go e.retain()
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
// ended is what may have left bytes.
func (e *Engine) recover(ctx context.Context) (ended []store.Ref, _ error) {
	open := store.Query{States: []lifecycle.State{lifecycle.ToSubmit, lifecycle.Running, lifecycle.Interrupted, lifecycle.InError}}
	var left []store.Ref
	for r, err := range e.cfg.Store.Find(ctx, open) {
		if err != nil {
			return nil, err
		}
		e.mu.Lock()
		e.count(r.Spec.Partner, classNone, classOf(&r))
		e.mu.Unlock()
		switch {
		case r.State == lifecycle.Running:
			left = append(left, store.RefOf(&r))
		case leftover(&r):
			ended = append(ended, store.RefOf(&r))
		default:
			e.noted(&r)
		}
	}
	return ended, inParallel(left, func(ref store.Ref) error {
		r, err := e.cfg.Store.Get(ctx, ref)
		if err == nil {
			r, err = e.recovered(ctx, &r)
		}
		if err != nil {
			return err
		}
		e.log.Info("found running after a restart", about(&r)...)
		e.noted(&r)
		return nil
	})
}

// recovered interrupts a record that nobody runs any more.
func (e *Engine) recovered(ctx context.Context, r *lifecycle.Record) (lifecycle.Record, error) {
	now := time.Now()
	due := now
	if r.Role == lifecycle.Requested && !r.Failing {
		due = now.Add(e.cfg.Patience)
	}
	return e.cfg.Store.Apply(ctx, store.RefOf(r), now, lifecycle.Recover{Due: due})
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
	var moved []string
	e.mu.Lock()
	for name, p := range b.Partners {
		if old := e.book.Partners[name]; old != nil && (old.Address != p.Address || !equal(old.Keys, p.Keys)) {
			moved = append(moved, name)
		}
	}
	for name := range e.book.Partners {
		if b.Partners[name] == nil {
			moved = append(moved, name)
		}
	}
	e.book = b
	e.queue.rebook(b)
	e.relimit(b)
	e.queue.resettle(func(w *waiter) { e.bedtime(w, e.now()) })
	e.mu.Unlock()
	e.kick()
	if e.cfg.Line != nil {
		for _, name := range moved {
			e.cfg.Line.Forget(name)
		}
	}
	return nil
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// Order is a request to be registered.
type Order struct {
	ID       lifecycle.ID // zero: a new one is made. The same again is the same request
	Partner  string
	Rule     string
	Source   relpath.Path // below the sender's root of the rule
	Target   relpath.Path // below the receiver's; zero: as Source
	Priority int8         // 0: the rule's
	NotAt    time.Time
	Follow   lifecycle.ID // zero: its own id
	Info     string
	Hops     uint8  // requests before it in its chain
	Trace    string // W3C traceparent of what it is part of; empty: of nothing
	By       string // the partner that wants it; empty: this node does

	// From makes it a third-party copy: from that node to Partner, by one of the two. Asked is
	// which; empty: whichever consents. Rule is a ThirdRule.
	From, Asked string
	Third       string // set by that: the other one
	Fetch       bool   // set by that: Partner is where it goes to

	Together int // how many requests of this source are submitted at once, this one included: it is read once for those that run together
}

// Submit registers a request; made is false when it was registered before. Once
// it has returned the request is durable. Refused, as NotFound, Permission or Invalid, is what
// no attempt could carry out.
func (e *Engine) Submit(ctx context.Context, o Order) (_ lifecycle.Record, made bool, err error) {
	const op = "submit request"
	if o.From != "" {
		if err := e.choose(ctx, &o); err != nil {
			return lifecycle.Record{}, false, err
		}
	}
	book := e.Book()
	rule, err := book.Rule(o.Rule)
	if err != nil {
		return lifecycle.Record{}, false, err
	}
	p, err := book.Partner(o.Partner)
	switch {
	case err != nil:
		return lifecycle.Record{}, false, err
	case rule.Bridge != "" && o.Rule == CopyRule(task.BridgeOf(rule.Bridge)) && !p.Bridge:
		return lifecycle.Record{}, false, fault.New(op, fault.Permission, "%q is no bridge, and files are copied from one bridge to another", o.Partner)
	case !rule.Allows(o.Partner):
		return lifecycle.Record{}, false, fault.New(op, fault.Permission, "rule %q does not list partner %q", o.Rule, o.Partner)
	case p.Address == "":
		return lifecycle.Record{}, false, fault.New(op, fault.Invalid, "partner %q has no address: it can only call this node", o.Partner)
	case o.Source.IsZero():
		return lifecycle.Record{}, false, fault.New(op, fault.Invalid, "no source: say which file")
	case int(o.Hops) > e.cfg.Hops:
		return lifecycle.Record{}, false, e.tooFar(op)
	}
	if e.isDraining() {
		return lifecycle.Record{}, false, fault.New(op, fault.Draining, "the node is going down: submit again when it is back")
	}
	if o.ID == (lifecycle.ID{}) {
		rand.Read(o.ID[:])
	}
	if o.Follow == (lifecycle.ID{}) {
		o.Follow = o.ID
	}
	if o.Target.IsZero() {
		o.Target = o.Source
	}
	if o.Priority == 0 {
		o.Priority = rule.Priority
	}
	side := rule.Direction.Side()
	key := lifecycle.Key{Requester: e.cfg.Node, ID: o.ID}
	spec := lifecycle.Spec{
		Partner: o.Partner, Rule: o.Rule, Source: o.Source, Target: o.Target, Priority: o.Priority, NotAt: o.NotAt,
		Follow: o.Follow, Info: o.Info, Tasks: rule.Lists(side).counts(), Hops: o.Hops,
		Third: o.Third, Fetch: o.Fetch, By: o.By,
	}
	if err := refuseOwn(op, &spec); err != nil {
		return lifecycle.Record{}, false, err
	}
	r, err := lifecycle.Register(key, side, spec, e.now())
	if err != nil {
		return r, false, err
	}
	r.Trace = e.cfg.Observer.Trace(o.Trace)
	e.fans.note(o.ID, o.Together)
	if x, l := e.seize(store.RefOf(&r), rule, &o); x != nil {
		return e.registerRunning(x, l, r)
	}
	r, made, err = e.cfg.Store.Register(ctx, r)
	if err != nil {
		return r, false, e.storeFailed(err)
	}
	if made {
		e.log.Info("registered", about(&r)...)
		e.changed(&r, nil)
	}
	return r, made, nil
}

// tooFar refuses a request whose chain is too long.
func (e *Engine) tooFar(op string) error {
	return fault.New(op, fault.Refused, "more than %d requests came before it in its chain: do transfer tasks send the file round in a circle?", e.cfg.Hops)
}

// registerRunning registers a request with its first claim, and runs it.
func (e *Engine) registerRunning(x *run, l *line, r lifecycle.Record) (lifecycle.Record, bool, error) {
	x.r = r
	x.begin()
	claim := lifecycle.Claim{Epoch: x.epoch}
	kept, made, err := e.cfg.Store.Register(context.WithoutCancel(x.ctx), r, claim)
	if err != nil || !made {
		defer e.work.Done()
		e.finish(x, l)
		return kept, false, e.storeFailed(err)
	}
	x.r, x.known, x.peer = kept, true, lifecycle.Unheard
	e.log.Info("registered", about(&kept)...)
	e.watch.publish(Status{Record: kept})
	go func() {
		defer e.work.Done()
		e.carryOut(x, nil)
		e.finish(x, l)
	}()
	return kept, true, nil
}

// Forward implements task.Forwarder.
func (e *Engine) forward(ctx context.Context, o Order, wait bool) (lifecycle.ID, error) {
	r, _, err := e.Submit(ctx, o)
	if err != nil || !wait {
		return r.Key.ID, err
	}
	end, err := e.Wait(ctx, store.RefOf(&r))
	if err == nil && end.State != lifecycle.Done {
		err = fault.New("forward", end.Failure.Kind, "request %v ended %v: %s", r.Key.ID, end.State, end.Failure.Cause)
	}
	return r.Key.ID, err
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
	e.stop(fault.New("run", fault.Draining, "the node goes down"))
	e.work.Wait()
	e.watch.close()
	return nil
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

// retain purges what is older than the retention, for as long as the engine runs.
func (e *Engine) retain() {
	defer e.work.Done()
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
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
