package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
			if strings.HasPrefix(l.Msg, "there is no room") {
				said++
			}
		}
		if said == 0 {
			t.Errorf("it is not said that there is no room:\n%s", log.String())
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
