package engine

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/quantity"
)

// Timetable is a rate by the time of the week, as texts have it.
type Timetable = quantity.Timetable

// Pool is a bandwidth that partners and rules share, by its name.
type Pool struct {
	Name      string
	Bandwidth Timetable // none: no limit
}

// limits are the rates that a book sets. They are replaced as a whole; a share lives on from one to
// the next, so that what a transfer waits for is what the present book says.
type limits struct {
	partners map[string]*share // those with a bandwidth
	pools    map[string]*share // all
	partner  map[string]string // the pool of a partner, by its name
	rule     map[string]string // of a rule
}

// relimit makes the limits those of a book. e.mu is held.
func (e *Engine) relimit(b Book) {
	old := e.limits.Load()
	if old == nil {
		old = &limits{}
	}
	l := &limits{partners: map[string]*share{}, pools: map[string]*share{}, partner: map[string]string{}, rule: map[string]string{}}
	for name, p := range b.Partners {
		if s := reshare(old.partners[name], p.Bandwidth, e.cfg.Clock); s != nil {
			l.partners[name] = s
		}
		if p.Pool != "" {
			l.partner[name] = p.Pool
		}
	}
	for name, p := range b.Pools {
		if s := reshare(old.pools[name], p.Bandwidth, e.cfg.Clock); s != nil {
			l.pools[name] = s
		}
	}
	for name, r := range b.Rules {
		if r.Pool != "" {
			l.rule[name] = r.Pool
		}
	}
	e.limits.Store(l)
	for name, s := range old.partners {
		if l.partners[name] == nil {
			s.set(nil)
		}
	}
	for name, s := range old.pools {
		if l.pools[name] == nil {
			s.set(nil)
		}
	}
}

// reshare is a share with that timetable: the old one, if there is one. nil: no limit.
func reshare(old *share, table Timetable, clock func() time.Time) *share {
	if old == nil || len(table) == 0 {
		return newShare(table, clock)
	}
	old.set(table)
	return old
}

// most is how many bytes a second of a request can move here, of what is the same at any time, and
// whose limit that is; 0: there is none.
func (e *Engine) most(r *lifecycle.Record) (rate int64, of string) {
	l := e.limits.Load()
	partner, rule := l.partner[r.Spec.Partner], l.rule[r.Spec.Rule]
	rate, of = r.Spec.Bandwidth, ofRequest
	for _, limit := range []struct {
		share *share
		of    string
	}{{l.partners[r.Spec.Partner], ofPartner}, {l.pools[partner], ofPool(partner)}, {l.pools[rule], ofPool(rule)}, {e.all, ofNode}} {
		if steady := limit.share.steady(); steady > 0 && (rate == 0 || steady < rate) {
			rate, of = steady, limit.of
		}
	}
	return rate, of
}

// Whose a bandwidth is, in words.
const (
	ofRequest = "the request"
	ofPartner = "the partner"
	ofNode    = "the node"
)

func ofPool(name string) string { return "pool " + name }

// own is the rate of the request itself, and whose it is: its own, or what the other end has granted,
// if that is less. For a requester it holds until the next attempt.
func (x *run) own() (rate int64, of string) {
	if g := x.granted; g > 0 && (x.r.Spec.Bandwidth == 0 || g < x.r.Spec.Bandwidth) {
		return g, x.r.Spec.Partner + ", which grants " + quantity.Rate.Format(g)
	}
	return x.r.Spec.Bandwidth, ofRequest
}

// pace holds the bytes to the limits of the request, of the partner, of pools, and of the node, as
// those are when each block is about to move.
func (x *run) pace() func(context.Context, int) error {
	partner, rule, all := x.r.Spec.Partner, x.r.Spec.Rule, x.engine.all
	rate, whose := x.own()
	mine := newShare(quantity.Always(rate), x.engine.cfg.Clock)
	most, least := x.engine.most(&x.r)
	if rate > 0 && rate < most || most == 0 {
		most, least = rate, whose
	}
	x.mu.Lock()
	x.most, x.least = most, least
	x.mu.Unlock()
	return func(ctx context.Context, n int) error {
		l := x.engine.limits.Load()
		pool, other := l.partner[partner], l.rule[rule]
		if other == pool {
			other = ""
		}
		own, shared, ruled := l.partners[partner], l.pools[pool], l.pools[other]
		if mine == nil && own == nil && shared == nil && ruled == nil && all == nil {
			return nil
		}
		defer x.held(time.Now())
		x.pacing(1)
		defer x.pacing(-1)
		return cmp.Or(
			x.hold(ctx, mine, n, whose), x.hold(ctx, own, n, ofPartner), x.hold(ctx, shared, n, ofPool(pool)), x.hold(ctx, ruled, n, ofPool(other)),
			x.hold(ctx, all, n, ofNode),
		)
	}
}

// hold waits until the share of something has room for n bytes. It says so.
func (x *run) hold(ctx context.Context, s *share, n int, of string) error {
	if s == nil || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	held := false
	err := s.wait(ctx, x.r.Spec.Partner, n, func() {
		held = true
		x.mu.Lock()
		defer x.mu.Unlock()
		x.live.Limit, x.holding = bandwidthOf+of, true
	})
	if held {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.holding, x.letGo = false, time.Now()
	}
	return err
}

// bandwidthOf is what is before whose limit it is in Live.Limit.
const bandwidthOf = "bandwidth of "

// PoolStatus is how a pool is doing.
type PoolStatus struct {
	Pool     Pool
	Rate     int64     // bytes a second just now; 0: no limit
	Next     time.Time // when it is another; zero: never
	NextRate int64
	Partners []string // that name it
	Rules    []string
	Moved    int64 // bytes that have gone through it since the process began
	Waiting  int   // transfers that wait for it
}

// Pools is the pools of the book, by name.
func (e *Engine) Pools() (all []PoolStatus) {
	b, l, now := e.Book(), e.limits.Load(), e.now()
	for _, name := range slices.Sorted(maps.Keys(b.Pools)) {
		p := b.Pools[name]
		s := PoolStatus{Pool: *p, Rate: p.Bandwidth.At(now), Next: p.Bandwidth.Next(now)}
		if !s.Next.IsZero() {
			s.NextRate = p.Bandwidth.At(s.Next)
		}
		for partner, is := range b.Partners {
			if is.Pool == name {
				s.Partners = append(s.Partners, partner)
			}
		}
		for rule, is := range b.Rules {
			if is.Pool == name {
				s.Rules = append(s.Rules, rule)
			}
		}
		slices.Sort(s.Partners)
		slices.Sort(s.Rules)
		if share := l.pools[name]; share != nil {
			s.Moved, s.Waiting = share.status()
		}
		all = append(all, s)
	}
	return all
}

// status is how many bytes have gone or wait, and how many wait with them.
func (s *share) status() (moved int64, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moved, s.waits
}
