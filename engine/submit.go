package engine

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

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
	ByRound  uint32 // retries of that partner's operator until now

	Bandwidth int64 // bytes a second that it may move at most, at either end; 0: no limit of its own

	Version sideeffect.Version // of the source, if no other is to be sent; zero: any is. Its device and its change time do not count

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
		Third: o.Third, Fetch: o.Fetch, By: o.By, Bandwidth: o.Bandwidth,
	}
	if o.Version != (sideeffect.Version{}) {
		spec.Version = string(o.Version.WithoutDevice().Encode())
	}
	if err := refuseOwn(op, &spec); err != nil {
		return lifecycle.Record{}, false, err
	}
	r, err := lifecycle.Register(key, side, spec, e.now())
	if err != nil {
		return r, false, err
	}
	r.ByRound = o.ByRound
	r.Trace = e.cfg.Observer.Trace(o.Trace)
	e.fans.note(o.ID, o.Together)
	if x := e.seize(store.RefOf(&r), rule, &o); x != nil {
		return e.registerRunning(x, r)
	}
	// Whoever goes away meanwhile stops no commit, and what is kept has to be in the queue.
	r, made, err = e.cfg.Store.Register(context.WithoutCancel(ctx), r)
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
func (e *Engine) registerRunning(x *run, r lifecycle.Record) (lifecycle.Record, bool, error) {
	x.r = r
	x.begin()
	claim := lifecycle.Claim{Epoch: x.epoch}
	kept, made, err := e.cfg.Store.Register(context.WithoutCancel(x.ctx), r, claim)
	if err != nil || !made {
		defer e.work.Done()
		e.finish(x)
		return kept, false, e.storeFailed(err)
	}
	x.read(kept)
	x.peer = lifecycle.Unheard
	e.log.Info("registered", about(&kept)...)
	e.watch.publish(Status{Record: kept})
	go func() {
		defer e.work.Done()
		e.carryOut(x, nil)
		e.finish(x)
	}()
	return kept, true, nil
}
