package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/spec/fault"
)

// TestFullAtEveryCommit has no room for one commit of either node, each in turn:
// the request goes on by itself, without a restart.
func TestFullAtEveryCommit(t *testing.T) {
	for _, rule := range []string{"push", "pull"} {
		for _, victim := range []string{"a", "b"} {
			for at, more := 1, true; more && at < 100; at++ {
				t.Run(fmt.Sprintf("%s/%s/%d", rule, victim, at), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { more = fullAt(t, rule, victim, at) })
				})
				if testing.Short() && at > 3 {
					break
				}
			}
		}
	}
}

// TestFullLog: what is said of a request whose commit found no room, and the next one none either, says
// which chain it is of.
func TestFullLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log flowtest.Log
		p := newPair(t, nil)
		p.stop("a")
		a := p.nodes["a"]
		a.limits.Log = slog.New(slog.NewJSONHandler(&log, nil))
		a.wrap = func(s store.Store) store.Store { return &noRoom{Store: s, from: 2, to: 4} }
		p.start("a")
		p.file("a", "x", crashSize)
		p.end(p.submit("push", "x", "y"), lifecycle.Done)
		said := 0
		for line := range strings.Lines(log.String()) {
			var l struct{ Msg, ID, Follow string }
			if err := json.Unmarshal([]byte(line), &l); err != nil || l.ID != l.Follow {
				t.Errorf("%v: %s", err, line)
			}
			if strings.HasPrefix(l.Msg, "how far a request has come cannot be written down") {
				said++
			}
		}
		if said == 0 {
			t.Errorf("it is not said that there is no room:\n%s", log.String())
		}
	})
}

// TestRecoveredLog: what is said of a request that a process has left running says which chain it is of.
func TestRecoveredLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log flowtest.Log
		p := newPair(t, func(n *node) { n.limits.Log = slog.New(slog.NewJSONHandler(&log, nil)) })
		p.file("a", "x", crashSize)
		reached, open := gateOn(p)
		ref := p.submit("push", "x", "y")
		<-reached
		p.nodes["a"].gate.Shut()
		close(open)
		synctest.Wait()
		p.stop("a")
		p.start("a")
		p.endWithin(ref, lifecycle.Done, time.Hour)
		p.stop("a")
		p.stop("b")
		said := false
		for line := range strings.Lines(log.String()) {
			var l struct{ Msg, ID, Follow string }
			if err := json.Unmarshal([]byte(line), &l); err != nil || l.ID != l.Follow {
				t.Errorf("%v: %s", err, line)
			}
			said = said || l.Msg == "found running after a restart"
		}
		if !said {
			t.Errorf("it is not said that it was found:\n%s", log.String())
		}
	})
}

// noRoom is a store that has no room for some commits.
type noRoom struct {
	store.Store
	mu       sync.Mutex
	n        int
	from, to int
}

func (s *noRoom) Apply(ctx context.Context, ref store.Ref, now time.Time, events ...lifecycle.Event) (lifecycle.Record, error) {
	s.mu.Lock()
	s.n++
	full := s.n >= s.from && s.n < s.to
	s.mu.Unlock()
	if full {
		return lifecycle.Record{}, fault.New("commit", fault.NoSpace, "there is no room")
	}
	return s.Store.Apply(ctx, ref, now, events...)
}

// TestFullIsNoDeath: a request whose commits find no room again and again is not taken for one that ends the
// process: that lives.
func TestFullIsNoDeath(t *testing.T) {
	for _, victim := range []string{"a", "b"} {
		t.Run(victim, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &onlyClaims{times: 4}
				p := newPair(t, func(n *node) {
					n.rules["push"].Retry.Attempts = 10
					if n.name == victim {
						n.wrap = func(of store.Store) store.Store { s.Store = of; return s }
					}
				})
				content := p.file("a", "x", 2<<20) // too many for an offer
				a, b := p.endWithin(p.submit("push", "x", "y"), lifecycle.Done, time.Hour)
				p.has("b", "y", content)
				if a.Deaths != 0 || b.Deaths != 0 || s.deaths.Load() != 0 {
					t.Errorf("%d and %d deaths at the end, %d between", a.Deaths, b.Deaths, s.deaths.Load())
				}
				if s.refused.Load() != int32(s.times) {
					t.Errorf("%d commits found no room, want %d", s.refused.Load(), s.times)
				}
			})
		})
	}
}

// onlyClaims is a store that some times has no room for what comes after a claim.
type onlyClaims struct {
	store.Store
	times           int
	refused, deaths atomic.Int32
}

func (s *onlyClaims) Apply(ctx context.Context, ref store.Ref, now time.Time, events ...lifecycle.Event) (lifecycle.Record, error) {
	first := true
	for _, e := range events {
		switch e.(type) {
		case lifecycle.Claim, lifecycle.Recover:
			first = false
		}
	}
	if first && int(s.refused.Load()) < s.times {
		s.refused.Add(1)
		return lifecycle.Record{}, fault.New("commit", fault.NoSpace, "there is no room")
	}
	r, err := s.Store.Apply(ctx, ref, now, events...)
	s.deaths.Store(max(s.deaths.Load(), int32(r.Deaths)))
	return r, err
}

// TestUnreadableOnce: a store that cannot do something for a while, and has not failed, costs no request its place: one
// that comes due then is read later, and one whose commit was in vain is taken up again.
func TestUnreadableOnce(t *testing.T) {
	for what, apply := range map[string]bool{"read when it is due": false, "a commit, and its reading": true} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, nil)
				p.stop("a")
				due := time.Now().Add(time.Hour)
				s := &outOfReach{apply: apply, from: due, until: due.Add(time.Minute)}
				p.nodes["a"].wrap = func(of store.Store) store.Store { s.Store = of; return s }
				p.start("a")
				content := p.file("a", "x", crashSize)
				r, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: "b", Rule: "push", Source: path(t, "x"), Target: path(t, "y"), NotAt: due})
				if err != nil {
					t.Fatal(err)
				}
				p.endWithin(store.RefOf(&r), lifecycle.Done, 2*time.Hour)
				p.has("b", "y", content)
				if s.refused.Load() == 0 {
					t.Error("nothing was refused")
				}
			})
		})
	}
}

// outOfReach is a store that cannot be read for a while; apply: nor written to, before that is tried.
type outOfReach struct {
	store.Store
	apply       bool
	from, until time.Time
	refused     atomic.Int32
}

func (s *outOfReach) away() error {
	if now := time.Now(); now.Before(s.from) || !now.Before(s.until) {
		return nil
	}
	s.refused.Add(1)
	return fault.New("find request", fault.Overloaded, "the store is out of reach")
}

func (s *outOfReach) Get(ctx context.Context, ref store.Ref) (lifecycle.Record, error) {
	if !s.apply || s.refused.Load() > 0 {
		if err := s.away(); err != nil {
			return lifecycle.Record{}, err
		}
	}
	return s.Store.Get(ctx, ref)
}

func (s *outOfReach) Apply(ctx context.Context, ref store.Ref, now time.Time, events ...lifecycle.Event) (lifecycle.Record, error) {
	if s.apply {
		if err := s.away(); err != nil {
			return lifecycle.Record{}, err
		}
	}
	return s.Store.Apply(ctx, ref, now, events...)
}

// fullAt reports false when the request was over before the victim's at-th commit.
func fullAt(t *testing.T, rule, victim string, at int) bool {
	log := filepath.Join(t.TempDir(), "log")
	p := crashPair(t, log)
	from, to := p.nodes["a"], p.nodes["b"]
	if rule == "pull" {
		from, to = to, from
	}
	content := p.file(from.name, "x", crashSize)
	ref := p.submit(rule, "x", "y") // of which the first commit is
	gate := p.nodes[victim].gate
	begun := gate.Commits()
	gate.Fill(at)
	p.end(ref, lifecycle.Done)
	p.has(to.name, "done/y", content)
	p.ran(log, 1) // the task whose end there was no room for
	return gate.Commits()-begun >= at
}
