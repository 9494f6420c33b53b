package enginetest

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// Gate is a store that can fail for good at a chosen commit, like the death of
// the process: nothing is written, or learned, after it.
type Gate struct {
	store.Store
	// Dead is closed when the gate has shut.
	Dead chan struct{}

	mu      sync.Mutex
	commits int
	at      int // the commit that fails; 0: none does
	after   bool
	shut    bool
	full    int // the commit for which there is no room; 0: none
}

// NewGate is s behind a gate that shuts at commit number at, from 1 on; with
// after that commit is kept and only its result is lost. at 0 never shuts.
func NewGate(s store.Store, at int, after bool) *Gate {
	return &Gate{Store: s, Dead: make(chan struct{}), at: at, after: after}
}

// Fill has the n-th commit from now on fail with NoSpace, once: what a full disk
// or a quota does, which damages nothing. 0: none.
func (g *Gate) Fill(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.full = n
	if n > 0 {
		g.full += g.commits
	}
}

var errFull = &fault.Error{Op: "commit", Kind: fault.NoSpace, Err: fault.New("gate", fault.NoSpace, "there is no room")}

// isFull counts a commit that there is no room for.
func (g *Gate) isFull() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut || g.full == 0 || g.commits+1 != g.full {
		return false
	}
	g.commits++
	return true
}

// Commits is how many were asked for.
func (g *Gate) Commits() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.commits
}

// Shut shuts the gate now.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.close()
}

func (g *Gate) close() {
	if !g.shut {
		g.shut = true
		close(g.Dead)
	}
}

// pass says whether a commit is made, and whether its result is known.
func (g *Gate) pass() (do, tell bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false, false
	}
	g.commits++
	if g.commits != g.at {
		return true, true
	}
	g.close()
	return g.after, false
}

var errShut = &fault.Error{Op: "commit", Kind: fault.IO, Err: fault.New("gate", fault.IO, "the process has died here")}

// Register implements store.Store.
func (g *Gate) Register(ctx context.Context, r lifecycle.Record, events ...lifecycle.Event) (lifecycle.Record, bool, error) {
	if g.isFull() {
		return r, false, errFull
	}
	do, tell := g.pass()
	if !do {
		return r, false, errShut
	}
	r, made, err := g.Store.Register(ctx, r, events...)
	if !tell {
		return r, false, errShut
	}
	return r, made, err
}

// Apply implements store.Store.
func (g *Gate) Apply(ctx context.Context, ref store.Ref, now time.Time, events ...lifecycle.Event) (lifecycle.Record, error) {
	if g.isFull() {
		return lifecycle.Record{}, errFull
	}
	do, tell := g.pass()
	if !do {
		return lifecycle.Record{}, errShut
	}
	r, err := g.Store.Apply(ctx, ref, now, events...)
	if !tell {
		return r, errShut
	}
	return r, err
}

// Drop implements store.Store.
func (g *Gate) Drop(ctx context.Context, ref store.Ref, before time.Time) (bool, error) {
	do, tell := g.pass()
	if !do {
		return false, errShut
	}
	dropped, err := g.Store.Drop(ctx, ref, before)
	if !tell {
		return false, errShut
	}
	return dropped, err
}

// Get implements store.Store.
func (g *Gate) Get(ctx context.Context, ref store.Ref) (lifecycle.Record, error) {
	if g.isShut() {
		return lifecycle.Record{}, errShut
	}
	return g.Store.Get(ctx, ref)
}

// Find implements store.Store.
func (g *Gate) Find(ctx context.Context, q store.Query) iter.Seq2[lifecycle.Record, error] {
	if g.isShut() {
		return func(yield func(lifecycle.Record, error) bool) { yield(lifecycle.Record{}, errShut) }
	}
	return g.Store.Find(ctx, q)
}

// Named implements store.Store.
func (g *Gate) Named(ctx context.Context, n store.Name, most int) ([]store.Ref, error) {
	if g.isShut() {
		return nil, errShut
	}
	return g.Store.Named(ctx, n, most)
}

func (g *Gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut
}
