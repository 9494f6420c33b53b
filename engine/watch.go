package engine

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// watchBacklog is how many changes wait for a watcher; more are dropped and counted.
const watchBacklog = 1024

// hub passes changes on to watchers. It never waits for one.
type hub struct {
	count atomic.Int32 // of those who want progress, too
	all   atomic.Int32

	mu       sync.Mutex
	watchers map[*watcher]bool
	waiters  map[store.Ref]map[*watcher]bool // those for the end of one request
	closed   bool
}

// watcher is one who watches.
type watcher struct {
	query   store.Query
	final   bool // it waits for the end of the request ref, and of nothing else
	ref     store.Ref
	changes chan Change
	lost    int // since the last change that fitted; guarded by hub.mu
}

func (h *hub) init() {
	h.watchers, h.waiters = map[*watcher]bool{}, map[store.Ref]map[*watcher]bool{}
}

// wanted reports whether anybody watches.
func (h *hub) wanted() bool { return h.count.Load() > 0 }

func (h *hub) publish(s Status) {
	if h.all.Load() == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.State.Final() {
		for w := range h.waiters[store.RefOf(&s.Record)] {
			select {
			case w.changes <- Change{Status: s}:
			default: // it has been told
			}
		}
	}
	for w := range h.watchers {
		if !w.query.Matches(&s.Record) {
			continue
		}
		select {
		case w.changes <- Change{Status: s, Lost: w.lost}:
			w.lost = 0
		default:
			w.lost++
		}
	}
}

func (h *hub) add(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(w.changes)
		return
	}
	h.all.Add(1)
	if !w.final {
		h.watchers[w] = true
		h.count.Add(1)
		return
	}
	if h.waiters[w.ref] == nil {
		h.waiters[w.ref] = map[*watcher]bool{}
	}
	h.waiters[w.ref][w] = true
}

func (h *hub) remove(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(w)
}

// drop takes a watcher out, once. h.mu is held.
func (h *hub) drop(w *watcher) {
	switch {
	case h.watchers[w]:
		delete(h.watchers, w)
		h.count.Add(-1)
	case h.waiters[w.ref][w]:
		if delete(h.waiters[w.ref], w); len(h.waiters[w.ref]) == 0 {
			delete(h.waiters, w.ref)
		}
	default:
		return
	}
	h.all.Add(-1)
}

// close ends all watching.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for w := range h.watchers {
		close(w.changes)
		h.drop(w)
	}
	for _, waiters := range h.waiters {
		for w := range waiters {
			close(w.changes)
			h.drop(w)
		}
	}
}

// Watch yields changes from its call on, progress included, of the requests that match,
// until ctx ends. It first yields those that are not final as they are. The state
// of a query selects what is yielded at first only: what changes has another one. What it
// returns is for one loop.
func (e *Engine) Watch(ctx context.Context, q store.Query) iter.Seq2[Change, error] {
	later := q
	later.States, later.Limit = nil, 0
	w := &watcher{query: later, changes: make(chan Change, watchBacklog)}
	e.watch.add(w)
	kept := context.AfterFunc(ctx, func() { e.watch.remove(w) }) // also if nobody looks
	return func(yield func(Change, error) bool) {
		defer e.watch.remove(w)
		defer kept()
		if len(q.States) == 0 {
			q.States = []lifecycle.State{lifecycle.ToSubmit, lifecycle.Running, lifecycle.Interrupted}
		}
		for s, err := range e.Find(ctx, q) {
			if !yield(Change{Status: s}, err) || err != nil {
				return
			}
		}
		for {
			select {
			case c, ok := <-w.changes:
				if !ok {
					yield(Change{}, fault.New("watch", fault.Draining, "the node goes down"))
					return
				}
				if !yield(c, nil) {
					return
				}
			case <-ctx.Done():
				yield(Change{}, fault.Wrap("watch", "", context.Cause(ctx)))
				return
			}
		}
	}
}

// Wait returns when the request is final. Who waits costs little: there may be one
// for each request.
func (e *Engine) Wait(ctx context.Context, ref store.Ref) (lifecycle.Record, error) {
	// Of what is published only that there is something matters: the record is read again.
	w := &watcher{ref: ref, final: true, changes: make(chan Change, 1)}
	e.watch.add(w)
	defer e.watch.remove(w)
	for {
		r, err := e.cfg.Store.Get(ctx, ref)
		if err != nil || r.State.Final() {
			return r, err
		}
		select {
		case _, ok := <-w.changes:
			if !ok {
				return r, fault.New("wait", fault.Draining, "the node goes down")
			}
		case <-ctx.Done():
			if now, err := e.cfg.Store.Get(context.WithoutCancel(ctx), ref); err == nil {
				r = now // of what was not final nobody has told
			}
			return r, fault.Wrap("wait", ref.Key.ID.String(), context.Cause(ctx))
		}
	}
}
