package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// run takes one record through its phases under one claim, at either end. What
// it decides is lifecycle.Next; here it is made true and committed.
//
// Changes are applied to r at once and wait in pending until something outside
// would show them: a call, an answer, a task, bytes. So several rungs share a commit.
type run struct {
	engine *Engine
	ref    store.Ref
	ctx    context.Context // ends when an operator or the node wants the run to end
	cancel context.CancelCauseFunc
	over   chan struct{} // closed when the record is released

	// Guarded by Engine.mu.
	missed  *waiter // the record came due meanwhile
	attempt uint32  // of the call that is served; 0: it is no call's
	waiters int     // calls that wait for the run to be over
	line    *line   // of which it has a place; nil: it has none
	guest   bool    // its place at the node is lent by the run that waits for it
	lends   bool    // it waits for another, to which it lends its own
	caller  string  // of whose calls it has a place; empty: of none
	dir     string  // the root of its rule, once it may be in there
	aside   bool    // that does not answer: its places count for nothing

	// Of the run's own goroutine, or of the pump while that waits for it.
	log     *slog.Logger
	rule    *Rule
	root    *os.Root
	known   bool             // r is what is committed, pending apart
	lost    bool             // the last commit has failed: the record may be RUNNING, and is not run
	full    bool             // because the store had no room for it
	fresh   bool             // there is no record yet: the next commit makes it
	r       lifecycle.Record // with pending applied
	first   lifecycle.Record // fresh: before any
	class   class            // what the record counts as
	pending []lifecycle.Event
	epoch   uint64
	peer    lifecycle.Phase
	suspect bool          // it may end the process
	brief   bool          // requested end: what may take long is not begun, see errLong
	made    uint8         // requester: bits of the moves it has called for
	said    bool          // requester: the other end has said that the request has ended there
	acts    acts          // what it is at, for the Observer
	effect  Effect        // requested end: the bytes of the call
	sent    sent          // sender: what it has sent
	whole   int64         // sender: what the receiver has said to have, which is WHOLE
	granted int64         // requester: bytes a second that the other end grants; 0: no limit
	again   time.Duration // a task has asked for another attempt after this
	silent  bool          // requested end: the file system of the rule's root does not answer

	mu      sync.Mutex // guards what follows, for who looks at the run from outside
	live    Live
	meter   meter     // of the bytes that move
	rose    time.Time // when bytes last moved
	paced   int       // waits for a limit of this node's
	most    int64     // bytes a second that it can get; 0: no limit
	least   string    // whose limit that is
	letGo   time.Time // when a limit last let bytes go that had waited
	holding bool      // they wait
	wish    wish
}

// wish is what an operator wants of a record that runs.
type wish struct {
	what  lifecycle.Event // Stop or Cancel, its epoch to be set
	asked bool
}

// errWished ends a run whose operator has asked for something.
var errWished = fault.New("run", fault.Canceled, "an operator has asked for it")

// storeError is an error of the store: nothing can be done about the request.
type storeError struct{ error }

func (s storeError) Unwrap() error { return s.error }

// do applies events to be committed.
func (x *run) do(events ...lifecycle.Event) error {
	now := x.engine.now()
	for _, e := range events {
		rank := x.r.Rank
		if err := x.r.Apply(e, now); err != nil {
			return err
		}
		if lost := rank - x.r.Rank; lost > 0 {
			x.engine.cfg.Observer.Wasted(&x.r, lost)
		}
		x.pending = append(x.pending, e)
	}
	return nil
}

// commit makes what was done durable. It does not end with the run: what has
// been made true is written down.
func (x *run) commit() error {
	if len(x.pending) == 0 && !x.fresh {
		return nil
	}
	ctx := context.WithoutCancel(x.ctx)
	events := x.pending
	x.pending = nil
	if err := x.write(ctx, events); err != nil {
		x.known, x.lost, x.full = false, true, fault.KindOf(err) == fault.NoSpace
		x.r = lifecycle.Record{Key: x.r.Key, Role: x.r.Role, Side: x.r.Side, Spec: x.r.Spec} // nobody knows how far it has come
		return storeError{x.engine.storeFailed(err)}
	}
	if x.fresh {
		x.log.Info("accepted", "side", x.r.Side.String())
	}
	x.fresh, x.known = false, true
	x.counted()
	if x.suspect && x.r.Deaths == 0 {
		x.progressed()
	}
	x.tell()
	return nil
}

// The parts of commit that hold whole records have functions of their own: thousands of runs
// wait on stacks that have once been as deep as all of them together.

// write makes events durable, with the record if it is new.
func (x *run) write(ctx context.Context, events []lifecycle.Event) error {
	if x.fresh {
		return x.register(ctx, events)
	}
	kept, err := x.engine.cfg.Store.Apply(ctx, x.ref, x.engine.now(), events...)
	if err == nil {
		x.r = kept
	}
	return err
}

//go:noinline
func (x *run) register(ctx context.Context, events []lifecycle.Event) error {
	kept, made, err := x.engine.cfg.Store.Register(ctx, x.first, events...)
	switch {
	case err != nil:
		return err
	case !made:
		return fault.New("accept request", fault.Stale, "another call was faster")
	}
	x.r = kept
	return nil
}

// tell tells those who watch or wait.
//
//go:noinline
func (x *run) tell() {
	x.engine.watch.publish(Status{Record: x.r, Live: x.report()})
}

// read takes the record as it is in the store.
func (x *run) read(r lifecycle.Record) { x.r, x.known, x.class = r, true, classOf(&r) }

// now is do and commit.
func (x *run) now(events ...lifecycle.Event) error {
	if err := x.do(events...); err != nil {
		return err
	}
	return x.commit()
}

// begin looks up what the run needs to work, and makes its log.
func (x *run) begin() error {
	x.log = x.engine.log.With("id", x.r.Key.ID.String(), "follow", x.r.Spec.Follow.String(),
		"role", x.r.Role.String(), "partner", x.r.Spec.Partner, "rule", x.r.Spec.Rule)
	x.epoch = x.engine.epoch<<32 | x.engine.claim.Add(1)
	return nil
}

// prepare finds the rule and opens its root.
func (x *run) prepare() error {
	const op = "prepare"
	if x.root != nil || x.rule != nil && (x.rule.Bridge != "" || x.rule.Third) {
		return nil
	}
	book := x.engine.Book()
	rule, err := book.Rule(x.r.Spec.Rule)
	if err != nil {
		return err
	}
	switch {
	case !rule.Allows(x.r.Spec.Partner):
		return fault.New(op, fault.Permission, "rule %q does not list partner %q", fault.Shown(rule.Name), fault.Shown(x.r.Spec.Partner))
	case (rule.Direction.Side() == x.r.Side) != (x.r.Role == lifecycle.Requester):
		return fault.New(op, fault.Permission, "rule %q is for the other direction", fault.Shown(rule.Name))
	}
	if rule.Bridge != "" {
		if x.r.Side != lifecycle.Sender {
			return fault.New(op, fault.Unsupported, "the files of rule %q are at a bridge, where none are received: receive them into a directory, and send them on with a task", fault.Shown(rule.Name))
		}
		x.rule = rule
		return nil
	}
	x.rule = rule // whose retries count, if there is no root
	if rule.Third {
		return nil
	}
	x.isIn(rule.Root)
	x.root, err = rule.openRoot()
	return err
}

// end closes what prepare has opened, and removes what nobody wants any more.
func (x *run) end() {
	if x.epoch != 0 && x.known && len(x.pending) == 0 && leftover(&x.r) {
		x.discard()
	}
	if x.root != nil {
		x.root.Close()
		x.root = nil
	}
}

// steps takes the record on until it is not this run's any more. The error is
// the store's, or of a kind that the caller has to answer with.
func (x *run) steps() error {
	for {
		act := lifecycle.Next(&x.r, x.peer)
		done, err := x.act(act)
		if err != nil {
			done, err = x.failed(err)
		}
		if done || err != nil {
			return err
		}
	}
}

// act does one thing. done: the run is over, and all is committed.
func (x *run) act(act lifecycle.Act) (done bool, err error) {
	if err := x.wished(); err != nil {
		return false, err
	}
	if x.brief && (act.Do == lifecycle.DoTask || act.Do == lifecycle.DoClimb && x.looksThrough()) {
		return true, errLong
	}
	switch act.Do {
	case lifecycle.DoCall:
		if act.Move == lifecycle.Prepare && x.offers() {
			return false, x.bytes(act.Move)
		}
		return false, x.call(act.Move)
	case lifecycle.DoAnswer:
		return true, x.wait(lifecycle.Awaiting, lifecycle.Requester, x.engine.now().Add(x.engine.cfg.Patience), lifecycle.Failure{})
	case lifecycle.DoTask:
		return false, x.task()
	case lifecycle.DoClimb:
		return false, x.climb(act.Move)
	case lifecycle.DoBytes:
		if x.r.Role == lifecycle.Requested && x.effect == nil {
			return true, x.wait(lifecycle.Awaiting, lifecycle.Requester, x.engine.now().Add(x.engine.cfg.Patience), lifecycle.Failure{})
		}
		return false, x.bytes(act.Move)
	case lifecycle.DoConclude:
		return true, x.now(lifecycle.Conclude{Epoch: x.epoch})
	case lifecycle.DoSettle:
		return true, x.settle()
	}
	return false, fault.New("reconcile", fault.Internal, "this end is in %s, the other in %s: no run can have led here; was a store restored from a backup?",
		fault.Shown(x.r.Phase.Name(x.r.Side)), fault.Shown(x.peer.Name(x.r.Side.Other())))
}

// wished is errWished when an operator has asked for something, and the error of
// a node that goes down.
func (x *run) wished() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.wish.asked {
		return errWished
	}
	return context.Cause(x.ctx)
}

// wait interrupts the record.
func (x *run) wait(why lifecycle.Reason, owner lifecycle.Role, due time.Time, f lifecycle.Failure) error {
	if x.r.Failing {
		owner = x.r.Role
		if why == lifecycle.Awaiting {
			why = lifecycle.Restarted
		}
	}
	return x.now(lifecycle.Interrupt{Epoch: x.epoch, Reason: why, Owner: owner, Due: due, Failure: f})
}

// climb makes true what the next rung says, and climbs it.
func (x *run) climb(move lifecycle.Move) error {
	if x.r.Phase < lifecycle.Ready && move > lifecycle.Prepare {
		return x.catchUp()
	}
	to := x.r.Phase + 1
	if x.looksThrough() {
		published, err := x.publish()
		if err != nil || !published {
			return err
		}
	}
	return x.rung(to)
}

// catchUp climbs to MOVING, of which nobody learns but together.
func (x *run) catchUp() error {
	for x.r.Phase < lifecycle.Moving {
		if err := x.rung(x.r.Phase + 1); err != nil {
			return err
		}
	}
	return nil
}

// rung climbs one, with what is known of the whole.
func (x *run) rung(to lifecycle.Phase) error {
	up := lifecycle.Advance{Epoch: x.epoch, To: to}
	switch {
	case to == lifecycle.Moving && x.arrived():
		up.Size = x.whole
	case to == lifecycle.Moving:
		up.Size = x.size()
	case to == lifecycle.Ended && x.r.Side == lifecycle.Sender:
		up.Rank, up.Proof, up.Verified = x.sent.size, x.sent.proof, x.sent.verified
		switch { // in an earlier attempt
		case x.arrived():
			up.Rank = x.whole
			if x.r.Rank == x.whole { // noted when all of it was safe there
				up.Proof, up.Verified = x.r.Proof, x.r.Verified
			}
		case !x.sent.known:
			up.Rank, up.Proof, up.Verified = max(x.r.Rank, x.r.Size), x.r.Proof, x.r.Verified
		}
		if up.Rank < x.r.Rank {
			if err := x.do(lifecycle.Rewind{Epoch: x.epoch, Rank: up.Rank, Size: up.Rank}); err != nil {
				return err
			}
		}
	}
	return x.do(up)
}

// arrived: the receiver has said that it has the whole, and this attempt has sent none of it. The
// source may be another by now, of which the record must not speak.
func (x *run) arrived() bool {
	return x.r.Role == lifecycle.Requester && x.r.Side == lifecycle.Sender && x.r.Spec.Third == "" &&
		!x.sent.known && x.peer >= lifecycle.Whole && x.peer != lifecycle.Unheard && x.whole >= 0
}

// looksThrough: the next rung gives a file its name that another run has received; the
// sink of this one has said it.
func (x *run) looksThrough() bool {
	return x.r.Phase == lifecycle.Whole && x.r.Side == lifecycle.Receiver
}

// publish gives the whole its name again after a crash. Without the whole the
// receiver is back in MOVING.
func (x *run) publish() (bool, error) {
	x.doing("giving the file its name")
	if err := x.commit(); err != nil {
		return false, err
	}
	if err := x.prepare(); err != nil {
		return false, err
	}
	w, err := sideeffect.ParseWhole(x.r.Size, x.r.Proof)
	if err == nil {
		err = x.keptIn(x.root).Publish(x.ctx, x.mode(), w)
	}
	if kind := fault.KindOf(err); err != nil && (kind == fault.NotFound || kind == fault.Corrupt) {
		x.log.Warn("what had arrived is gone: it is fetched again", "error", err)
		return false, x.do(lifecycle.Rewind{Epoch: x.epoch, Rank: 0, Size: x.r.Size})
	}
	return err == nil, err
}

func (x *run) mode() sideeffect.Mode {
	if x.rule.Exists == Refuse {
		return sideeffect.CreateNew
	}
	return sideeffect.Replace
}

// task runs the next task of the present list, recorded before and after.
func (x *run) task() error {
	key, _ := x.r.NextTask()
	if err := x.prepare(); err != nil {
		return err
	}
	list := x.rule.Lists(x.r.Side).List(key.List)
	if int(key.Index) >= len(list) {
		return fault.New("run task", fault.Invalid, "the rule has only %d %s tasks now, and had %d when the request was registered", len(list), fault.Shown(key.List.String()), x.r.Spec.Tasks[key.List])
	}
	step := list[key.Index]
	again := x.r.Begun != 0 || x.r.Attempt > 1 // a failure, or a retry, forgets that it had begun
	if err := x.now(lifecycle.BeginTask{Epoch: x.epoch}); err != nil {
		return err
	}
	x.doing("%v task %d, %s", key.List, key.Index+1, step.Name)
	if x.engine.watch.wanted() { // the record does not change until it is done
		x.tell()
	}
	record := x.r
	_, over := x.within(ActTask, step.Name)
	on := &task.On{Record: &record, Signer: x.engine.cfg.Signer, PartnerKeys: x.engine.keysOf(x.r.Spec.Partner), Key: key, Again: again, Follow: x.r.Spec.Follow, Hops: x.r.Spec.Hops, Delays: x.r.Delays, Root: x.root, File: x.r.File, Log: x.log, Next: forwarder{x}, Bridges: x.engine.cfg.Bridges,
		Moved: key.List == lifecycle.PostList && !slices.ContainsFunc(list[:key.Index], func(s task.Step) bool { return s.Other }),
		Vars:  task.VarsOf(&x.r, x.engine.cfg.Node, x.r.File, x.size())}
	began := time.Now()
	res, err := step.Run(x.ctx, on)
	over(err)
	x.output(res.Output)
	if err == nil && res.Again > 0 {
		x.again = res.Again
	}
	level := slog.LevelInfo
	if err != nil || res.Warning != "" {
		level = slog.LevelWarn
	}
	x.log.Log(x.ctx, level, "task", "list", key.List.String(), "task", int(key.Index)+1, "name", step.Name,
		"took", time.Since(began).Round(time.Microsecond), "warning", res.Warning != "", "output", shown(res.Output), "error", err)
	if err != nil {
		return numbered(err, key, len(list))
	}
	done := lifecycle.EndTask{Epoch: x.epoch, Warning: warningOf(key, step.Name, &res)}
	if x.r.Side == lifecycle.Sender || x.r.Phase >= lifecycle.Committed {
		done.Moved, done.File = res.Moved, res.File
	}
	if err := x.do(done); err != nil || x.again == 0 {
		return err
	}
	return x.reschedule()
}

// keysOf are the keys by which a partner is known.
func (e *Engine) keysOf(partner string) []string {
	book := e.Book()
	if p, err := book.Partner(partner); err == nil {
		return p.Keys
	}
	return nil
}

// size is the file's for tasks: known, or what is there before it is.
func (x *run) size() int64 {
	if x.sent.known {
		return x.sent.size
	}
	if x.r.Size >= 0 || x.r.Side == lifecycle.Receiver || x.r.File.IsZero() || x.root == nil {
		return x.r.Size
	}
	if fi, err := x.root.Stat(x.r.File.String()); err == nil {
		return fi.Size()
	}
	return -1
}

// reschedule ends a failing request and makes it due again, in one commit.
func (x *run) reschedule() error {
	retry := lifecycle.Retry{Due: x.engine.now().Add(x.again), Task: true}
	if x.r.Role == lifecycle.Requested { // who is called, and before that time in vain
		retry.After, retry.Due = retry.Due, retry.Due.Add(x.engine.cfg.Patience)
	}
	if err := x.now(lifecycle.Settle{Epoch: x.epoch}, retry); err != nil {
		return err
	}
	return errRescheduled
}

// errRescheduled ends a run that an error task has made due again.
var errRescheduled = errors.New("an error task has made the request due again")

// settle ends a failing request.
func (x *run) settle() error { return x.now(lifecycle.Settle{Epoch: x.epoch}) }

// numbered says in which list and place a task is that has failed, if there are several.
func numbered(err error, key lifecycle.TaskKey, tasks int) error {
	e, ok := err.(*fault.Error)
	if !ok || tasks < 2 {
		return err
	}
	n := *e
	n.Op = fmt.Sprintf("%v task %d, %s", key.List, key.Index+1, strings.TrimPrefix(e.Op, "task "))
	return &n
}

// warningOf is what a task that is done warns of.
func warningOf(key lifecycle.TaskKey, name string, res *task.Result) string {
	if res.Warning == "" {
		return ""
	}
	return fmt.Sprintf("%v task %d, %s", key.List, key.Index+1, name) + warns + res.Warning
}

// warns is between a task that warns and what it has said. It is in no name of a task.
const warns = ": "

// warner is which task it is that warns, without what it has said.
func warner(warning string) string {
	task, _, _ := strings.Cut(warning, warns)
	return task
}

// shown is the end of a task's output as a log line has it.
func shown(out []byte) string {
	const most = 500
	return string(out[max(0, len(out)-most):])
}
