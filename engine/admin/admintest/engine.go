// Package admintest has an engine that moves no bytes, for tests of what is
// above engines: requests are as the test sets them, operators' words are the
// real lifecycle's.
package admintest

import (
	"cmp"
	"context"
	"encoding/hex"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// Engine is a node in memory. Its methods may be called at the same time.
type Engine struct {
	Node string

	mu       sync.Mutex
	book     engine.Book
	requests map[store.Ref]engine.Status
	events   map[store.Ref][]store.Entry
	explain  map[store.Ref]engine.Explanation
	there    map[store.Ref]engine.Timeline
	partners map[string]engine.PartnerStatus
	reach    map[string]error
	changed  chan struct{} // closed and replaced by each change
	log      []store.Ref   // of each change, in order
	waiting  int           // calls of Wait that are under way
}

// New is a node without requests.
func New(node string, book engine.Book) *Engine {
	e := &Engine{
		Node: node, book: book, requests: map[store.Ref]engine.Status{}, events: map[store.Ref][]store.Entry{},
		explain: map[store.Ref]engine.Explanation{}, there: map[store.Ref]engine.Timeline{}, partners: map[string]engine.PartnerStatus{}, reach: map[string]error{}, changed: make(chan struct{}),
	}
	for name, p := range book.Partners {
		e.partners[name] = engine.PartnerStatus{Name: name, Address: p.Address}
	}
	return e
}

// Set makes a request as it is given, and tells watchers.
func (e *Engine) Set(s engine.Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ref := store.RefOf(&s.Record)
	s.Version = max(s.Version, e.requests[ref].Version+1)
	e.put(ref, s)
}

// put is Set with e.mu held.
func (e *Engine) put(ref store.Ref, s engine.Status) {
	e.requests[ref] = s
	e.log = append(e.log, ref)
	close(e.changed)
	e.changed = make(chan struct{})
}

// SetEvents says what Events answers.
func (e *Engine) SetEvents(ref store.Ref, all ...store.Entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events[ref] = all
}

// SetExplanation says what Explain answers; its Status is the request's.
func (e *Engine) SetExplanation(ref store.Ref, x engine.Explanation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.explain[ref] = x
}

// SetTimeline says what Timeline answers of the other end.
func (e *Engine) SetTimeline(ref store.Ref, t engine.Timeline) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.there[ref] = t
}

// SetPartner says how a partner is doing, and how Reach ends.
func (e *Engine) SetPartner(p engine.PartnerStatus, reach error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.partners[p.Name], e.reach[p.Name] = p, reach
}

// Requests are all there are, by id.
func (e *Engine) Requests() []engine.Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.SortedFunc(maps.Values(e.requests), func(a, b engine.Status) int {
		return cmp.Compare(a.Key.ID.String(), b.Key.ID.String())
	})
}

func (e *Engine) Submit(_ context.Context, o engine.Order) (lifecycle.Record, bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	rule, err := e.book.Rule(o.Rule)
	if err != nil {
		return lifecycle.Record{}, false, err
	}
	if !rule.Allows(o.Partner) {
		return lifecycle.Record{}, false, fault.New("submit", fault.Permission, "partner %q may not use rule %q", o.Partner, o.Rule)
	}
	if o.ID == (lifecycle.ID{}) {
		o.ID[0], o.ID[15] = 0xab, byte(len(e.requests)+1)
	}
	if o.Target.IsZero() {
		o.Target = o.Source
	}
	if o.Follow == (lifecycle.ID{}) {
		o.Follow = o.ID
	}
	spec := lifecycle.Spec{Partner: o.Partner, Rule: o.Rule, Source: o.Source, Target: o.Target, Priority: o.Priority, NotAt: o.NotAt, Follow: o.Follow, Info: o.Info, Bandwidth: o.Bandwidth}
	r, err := lifecycle.Register(lifecycle.Key{Requester: e.Node, ID: o.ID}, rule.Direction.Side(), spec, time.Now())
	if err != nil {
		return r, false, err
	}
	ref := store.RefOf(&r)
	if old, ok := e.requests[ref]; ok {
		if !old.Spec.Same(spec) {
			return r, false, fault.New("submit", fault.Exists, "request %s asks for something else", o.ID)
		}
		return old.Record, false, nil
	}
	e.put(ref, engine.Status{Record: r})
	return r, true, nil
}

func (e *Engine) Get(_ context.Context, ref store.Ref) (engine.Status, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok := e.requests[ref]
	if !ok {
		return s, fault.New("find request", fault.NotFound, "no request %s of %q", ref.Key.ID, ref.Key.Requester)
	}
	return s, nil
}

func (e *Engine) Named(ctx context.Context, n store.Name, most int) (found []store.Ref, _ error) {
	if id, err := hex.DecodeString(n.Digits); err == nil && len(id) == len(lifecycle.ID{}) && n.Requester != "" && n.Role != 0 { // as a page asks for each of its rows: like a real one, it looks at no others
		ref := store.Ref{Key: lifecycle.Key{Requester: n.Requester, ID: lifecycle.ID(id)}, Role: n.Role}
		if _, err := e.Get(ctx, ref); err != nil || most < 1 {
			return nil, nil
		}
		return []store.Ref{ref}, nil
	}
	for _, s := range e.Requests() {
		at := store.RefOf(&s.Record)
		if len(found) < most && strings.HasPrefix(at.Key.ID.String(), n.Digits) && (n.Requester == "" || n.Requester == at.Key.Requester) && (n.Role == 0 || n.Role == at.Role) {
			found = append(found, at)
		}
	}
	return found, nil
}

func (e *Engine) Find(_ context.Context, q store.Query) iter.Seq2[engine.Status, error] {
	return func(yield func(engine.Status, error) bool) {
		n := 0
		for _, s := range e.ordered() {
			if q.Looked != nil {
				if err := q.Looked(1); err != nil {
					yield(engine.Status{}, err)
					return
				}
			}
			if !q.Matches(&s.Record) {
				continue
			}
			if n++; q.Limit > 0 && n > q.Limit || !yield(s, nil) {
				return
			}
		}
	}
}

// ordered is what is not DONE, then the others, finished last first.
func (e *Engine) ordered() []engine.Status {
	all := e.Requests()
	slices.SortStableFunc(all, func(a, b engine.Status) int {
		if d, f := a.State == lifecycle.Done, b.State == lifecycle.Done; d != f {
			if d {
				return 1
			}
			return -1
		} else if !d {
			return 0
		}
		return b.Changed.Compare(a.Changed)
	})
	return all
}

func (e *Engine) Events(ctx context.Context, ref store.Ref) ([]store.Entry, error) {
	_, err := e.Get(ctx, ref)
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.events[ref], err
}

func (e *Engine) Explain(ctx context.Context, ref store.Ref) (engine.Explanation, error) {
	s, err := e.Get(ctx, ref)
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.explain[ref]
	x.Status = s
	return x, err
}

func (e *Engine) Timeline(ctx context.Context, ref store.Ref, _ bool) (engine.Timeline, error) {
	s, err := e.Get(ctx, ref)
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.there[ref]
	t.Partner, t.Here = s.Spec.Partner, engine.StepsOf(&s, e.events[ref], time.Now())
	return t, err
}

func (e *Engine) Watch(ctx context.Context, q store.Query) iter.Seq2[engine.Change, error] {
	e.mu.Lock()
	next := len(e.log)
	e.mu.Unlock()
	return func(yield func(engine.Change, error) bool) {
		for s := range e.Find(ctx, q) {
			if !s.State.Final() && !yield(engine.Change{Status: s}, nil) {
				return
			}
		}
		for ctx.Err() == nil {
			e.mu.Lock()
			var now []engine.Status
			for ; next < len(e.log); next++ {
				if s := e.requests[e.log[next]]; q.Matches(&s.Record) {
					now = append(now, s)
				}
			}
			changed := e.changed
			e.mu.Unlock()
			for _, s := range now {
				if !yield(engine.Change{Status: s}, nil) {
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
}

// Waiting is how many calls of Wait are under way.
func (e *Engine) Waiting() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.waiting
}

// wait counts a call of Wait.
func (e *Engine) wait(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting += n
}

func (e *Engine) Wait(ctx context.Context, ref store.Ref) (lifecycle.Record, error) {
	e.wait(1)
	defer e.wait(-1)
	for {
		e.mu.Lock()
		s, ok := e.requests[ref]
		changed := e.changed
		e.mu.Unlock()
		switch {
		case !ok:
			return s.Record, fault.New("find request", fault.NotFound, "no request %s", ref.Key.ID)
		case s.State.Final():
			return s.Record, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s.Record, fault.Wrap("wait", "", context.Cause(ctx))
		}
	}
}

func (e *Engine) Pause(_ context.Context, ref store.Ref) (lifecycle.Record, error) {
	return e.apply(ref, func(r *lifecycle.Record) lifecycle.Event {
		return lifecycle.Stop{Epoch: held(r), Due: time.Now().Add(time.Hour)}
	})
}

func (e *Engine) Resume(_ context.Context, ref store.Ref) (lifecycle.Record, error) {
	return e.apply(ref, func(*lifecycle.Record) lifecycle.Event { return lifecycle.Resume{Due: time.Now()} })
}

func (e *Engine) Cancel(_ context.Context, ref store.Ref, why string) (lifecycle.Record, error) {
	return e.apply(ref, func(r *lifecycle.Record) lifecycle.Event { return lifecycle.Cancel{Epoch: held(r), Cause: why} })
}

func (e *Engine) Retry(_ context.Context, ref store.Ref) (lifecycle.Record, error) {
	return e.apply(ref, func(*lifecycle.Record) lifecycle.Event { return lifecycle.Retry{Due: time.Now()} })
}

// held is the epoch an operator's event has to name.
func held(r *lifecycle.Record) uint64 {
	if r.State == lifecycle.Running {
		return r.Epoch
	}
	return 0
}

func (e *Engine) apply(ref store.Ref, event func(*lifecycle.Record) lifecycle.Event) (lifecycle.Record, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok := e.requests[ref]
	if !ok {
		return s.Record, fault.New("find request", fault.NotFound, "no request %s", ref.Key.ID)
	}
	if err := s.Record.Apply(event(&s.Record), time.Now()); err != nil {
		return s.Record, err
	}
	s.Live = nil
	e.put(ref, s)
	return s.Record, nil
}

// Pools implements admin.Engine: there are none.
func (e *Engine) Pools() []engine.PoolStatus { return nil }

func (e *Engine) Partners() []engine.PartnerStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.SortedFunc(maps.Values(e.partners), func(a, b engine.PartnerStatus) int { return cmp.Compare(a.Name, b.Name) })
}

func (e *Engine) Reach(_ context.Context, partner string) (engine.PartnerStatus, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.partners[partner], e.reach[partner]
}

func (e *Engine) Book() engine.Book {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.book
}

// PurgeFailed leaves those of the last hour, as an engine does.
func (e *Engine) PurgeFailed(_ context.Context, before time.Time) (n int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for ref, s := range e.requests {
		if s.State == lifecycle.InError && time.Since(s.Changed) >= lifecycle.MinRetention && s.Changed.Before(before) {
			delete(e.requests, ref)
			n++
		}
	}
	return n, nil
}

// Purge leaves those of the last hour, as an engine does.
func (e *Engine) Purge(_ context.Context, before time.Time) (n int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for ref, s := range e.requests {
		if s.Purgeable(time.Now()) && s.Changed.Before(before) {
			delete(e.requests, ref)
			n++
		}
	}
	return n, nil
}
