package engine

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// Third-party copies, at the node that wants one: a request whose partner makes another to a
// third node. No bytes come here; what the record says is what the partner tells.

// ThirdRule is the name of the rule of a third-party copy, at the node that wants it: of the
// rule that its partner is to use, if it is named. Rules that can be configured do not begin so.
func ThirdRule(rule string) string { return thirdPrefix + rule }

const thirdPrefix = "@@"

// RuleShown is a rule's name as people see it: of a third-party copy that of its partner's, empty
// where none was named.
func RuleShown(rule string) string { return strings.TrimPrefix(rule, thirdPrefix) }

// Between is between which nodes the bytes of a third-party copy go; ok is false for what is none.
func Between(s *lifecycle.Spec) (from, to string, ok bool) {
	if s.Fetch {
		return s.Third, s.Partner, s.Third != ""
	}
	return s.Partner, s.Third, s.Third != ""
}

// thirdRule is the rule of that name, which nobody has written.
func thirdRule(name string) *Rule {
	return &Rule{
		Name: name, Direction: Send, Partners: []string{AnyPartner}, Third: true, Quota: sideeffect.NoQuota,
		Retry: Retry{Attempts: 1000, Delay: 2 * time.Second, Most: 5 * time.Minute}, // the partner has a limit of attempts
	}
}

// Commissioner is a Line over which a partner can be asked to make a request.
type Commissioner interface {
	Commission(ctx context.Context, partner string, c Commission) (Commissioned, error)
}

// commissioner is the line's, if it has one.
func (e *Engine) commissioner() (Commissioner, error) {
	if c, ok := e.cfg.Line.(Commissioner); ok {
		return c, nil
	}
	return nil, fault.New("copy", fault.Unsupported, "this node asks no partner to make requests")
}

// probeLimit is how long a partner may take to say whether it consents.
const probeLimit = 10 * time.Second

// choose makes the order one to the node that is to make the request: the one that is named,
// the one that is known from before, or the first that consents, the source before the
// destination. A source that cannot be asked just now, nor the destination, is waited for.
func (e *Engine) choose(ctx context.Context, o *Order) error {
	const op = "copy"
	book, from, to := e.Book(), o.From, o.Partner
	for _, name := range []string{from, to} {
		p, err := book.Partner(name)
		switch {
		case err != nil:
			return err
		case name == e.cfg.Node:
			return fault.New(op, fault.Invalid, "%q is this node: use send or get", name)
		case p.Bridge:
			return fault.New(op, fault.Unsupported, "%q is a bridge, and the other is a node: receive the file here, and send it on with a task, as { task = \"bridge\" }", name)
		}
	}
	switch {
	case from == to:
		return fault.New(op, fault.Invalid, "%q is the source and the destination", from)
	case o.Asked != "" && o.Asked != from && o.Asked != to:
		return fault.New(op, fault.Invalid, "%q is neither the source nor the destination", o.Asked)
	}
	if o.Asked != "" {
		o.madeBy(o.Asked == to)
		return nil
	}
	if o.ID != (lifecycle.ID{}) {
		old, err := e.Get(ctx, store.Ref{Key: lifecycle.Key{Requester: e.cfg.Node, ID: o.ID}, Role: lifecycle.Requester})
		if err == nil && old.Spec.Third != "" {
			o.madeBy(old.Spec.Fetch)
			return nil
		}
	}
	var errs [2]error
	for i, fetch := range []bool{false, true} {
		trial := *o
		trial.madeBy(fetch)
		if errs[i] = e.probe(ctx, &trial); errs[i] == nil {
			*o = trial
			return nil
		}
		if fault.KindOf(errs[i]) == fault.Invalid {
			return errs[i]
		}
	}
	if !refuses(errs[0]) {
		o.madeBy(false)
		return nil
	}
	return fault.New(op, fault.KindOf(errs[0]), "neither node makes the request: %s; %s. One of them has to list a rule in third_party of its partner %q", fault.Brief(errs[0]), fault.Brief(errs[1]), e.cfg.Node)
}

// madeBy makes the order of a copy one to the node that makes the request: the source, or with
// fetch the destination.
func (o *Order) madeBy(fetch bool) {
	from, to := o.From, o.Partner
	o.From, o.Asked, o.Fetch, o.Rule = "", "", fetch, ThirdRule(strings.TrimPrefix(o.Rule, thirdPrefix))
	if o.Partner, o.Third = from, to; fetch {
		o.Partner, o.Third = to, from
	}
}

// refuses reports whether a node has said no, and was not merely out of reach.
func refuses(err error) bool {
	switch fault.KindOf(err) {
	case fault.Permission, fault.Unsupported, fault.NotFound, fault.Refused, fault.Unauthenticated:
		return true
	}
	return false
}

// probe asks a node whether it would make the request.
func (e *Engine) probe(ctx context.Context, o *Order) error {
	c, err := e.commissioner()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	a, err := c.Commission(ctx, o.Partner, Commission{ID: lifecycle.ID{1}, Probe: true, Third: o.Third, Fetch: o.Fetch,
		Rule: strings.TrimPrefix(o.Rule, thirdPrefix), Source: o.Source, Target: o.Target, Follow: lifecycle.ID{1}, Bandwidth: o.Bandwidth})
	if err == nil && a.Bandwidth != o.Bandwidth {
		return fault.New("commission", fault.Unsupported, "%s is of a version that holds no copy to a bandwidth", fault.Shown(o.Partner))
	}
	return err
}

// commissions asks the partner for the request, or how it is.
func (x *run) commissions(ctx context.Context, seen uint64) (Commissioned, error) {
	line, err := x.engine.commissioner()
	if err != nil {
		return Commissioned{}, err
	}
	c, err := line.Commission(ctx, x.r.Spec.Partner, x.commission(seen))
	return c, x.uncalled(err)
}

func (x *run) commission(seen uint64) Commission { return commissionOf(&x.r, seen) }

func commissionOf(r *lifecycle.Record, seen uint64) Commission {
	s := &r.Spec
	return Commission{
		ID: r.Key.ID, Third: s.Third, Fetch: s.Fetch, Rule: strings.TrimPrefix(s.Rule, thirdPrefix), Source: s.Source, Target: s.Target,
		Priority: s.Priority, Follow: s.Follow, Info: s.Info, Hops: s.Hops + 1, Round: r.Round, Known: r.Phase >= lifecycle.Moving, Seen: seen, Bandwidth: s.Bandwidth,
	}
}

// callThird is the answer to a call of a third-party copy that has no bytes.
func (x *run) callThird(ctx context.Context, m lifecycle.Move) (Answer, error) {
	served := func(p lifecycle.Phase, rank int64) Answer {
		return Answer{Outcome: Served, Phase: p, Rank: rank, Size: -1}
	}
	switch p := x.r.Phase; {
	case p == lifecycle.Finished, m >= lifecycle.EndRequest:
		return served(lifecycle.Finished, 0), nil
	case p >= lifecycle.Ended:
		return served(lifecycle.Posted, 0), nil
	}
	c, err := x.commissions(ctx, 0)
	if err != nil {
		return Answer{}, err
	}
	if c.State == lifecycle.InError {
		return c.failed(x.r.Spec.Partner), nil
	}
	return served(lifecycle.Ready, c.Rank), nil
}

// failed is the answer of a partner whose request has failed.
func (c *Commissioned) failed(partner string) Answer {
	f := c.Failure
	if f.Kind == 0 {
		f.Kind = fault.Internal
	}
	f.Cause = "at " + partner + ": " + f.Cause
	return Answer{Outcome: Failed, Size: -1, Failure: f}
}

// How a request of a partner's is followed: while it makes no progress for so long, the place
// of the run is given to others meanwhile.
const (
	followFor   = 30 * time.Second
	followAgain = 10 * time.Second
)

// followThird is bytes for a third-party copy: it is over when the partner's request is.
func (x *run) followThird() error {
	if err := x.prepare(); err != nil {
		return err
	}
	if err := x.turns(lifecycle.Transfer); err != nil {
		return err
	}
	if err := x.catchUp(); err != nil {
		return err
	}
	if err := x.commit(); err != nil {
		return err
	}
	x.moving()
	partner := x.r.Spec.Partner
	for rank, rose, seen := x.r.Rank, time.Now(), uint64(0); ; {
		c, err := x.commissions(x.ctx, seen)
		if err != nil {
			return x.short(err)
		}
		if seen = c.Version; c.Rank > rank {
			rank, rose = c.Rank, time.Now()
		}
		x.told(&c)
		switch {
		case c.State == lifecycle.Done:
			x.sent = sent{known: true, size: c.Size, proof: c.Digest, verified: "third-party"}
			if c.Verified != "" {
				x.sent.verified += "+" + c.Verified
			}
			return x.hear(Answer{Outcome: Served, Phase: lifecycle.Posted, Rank: c.Size, Size: -1})
		case c.State == lifecycle.InError:
			return x.short(x.hear(c.failed(partner)))
		case time.Since(rose) > followFor:
			why := lifecycle.Failure{Kind: fault.Overloaded, Side: fault.Peer, Cause: c.words(partner)}
			return x.short(x.hear(Answer{Outcome: Busy, Wait: followAgain, Size: -1, Failure: why}))
		}
	}
}

// told shows what the partner has told. These bytes are none of this node's: they are counted
// nowhere.
func (x *run) told(c *Commissioned) {
	x.doing("%s", c.words(x.r.Spec.Partner))
	x.mu.Lock()
	x.live.Durable, x.live.Received, x.live.Total = max(x.live.Durable, c.Rank), max(x.live.Received, c.Rank), c.Size
	x.rose = time.Now()
	x.mu.Unlock()
	if x.engine.watch.wanted() {
		x.engine.watch.publish(Status{Record: x.r, Live: x.report()})
	}
}

// refusedThird is why a third-party copy cannot be cancelled: for the partner's request it is too late. The record here does
// not say so, which is MOVING until that is over. A partner that does not answer has refused nothing.
func (e *Engine) refusedThird(ctx context.Context, r *lifecycle.Record, why string) error {
	if r.Spec.Third == "" || r.Attempt == 0 || r.State == lifecycle.Done {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	a, err := e.cancelThird(ctx, commissionOf(r, 0), r.Spec.Partner, why)
	if err != nil || a.State == lifecycle.InError {
		return nil
	}
	_, to, _ := Between(&r.Spec)
	return fault.New("cancel", fault.Invalid, "too late, %s: if the file is not wanted, remove it at %s", fault.Shown(a.words(r.Spec.Partner)), fault.Shown(to))
}

// cancelThird tells the partner that the copy is not wanted, and returns what has become of it: INERROR where there is none.
func (e *Engine) cancelThird(ctx context.Context, c Commission, partner, why string) (Commissioned, error) {
	line, err := e.commissioner()
	if err != nil {
		return Commissioned{}, err
	}
	c.Cancel = why
	a, err := line.Commission(ctx, partner, c)
	if errors.Is(err, fault.NotFound) || errors.Is(err, fault.Canceled) {
		return Commissioned{State: lifecycle.InError}, nil
	}
	return a, err
}
