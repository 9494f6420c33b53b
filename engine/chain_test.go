package engine_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/enginetest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/spec/fault"
)

// unreadable is a store from which no record can be read while it is damaged.
type unreadable struct {
	store.Store
	damaged *atomic.Bool
}

func (s unreadable) Get(ctx context.Context, ref store.Ref) (lifecycle.Record, error) {
	if s.damaged.Load() {
		return lifecycle.Record{}, fault.New("read record", fault.Internal, "it cannot be read")
	}
	return s.Store.Get(ctx, ref)
}

// TestLogOfTrouble: whatever happens to a request, each line about it says which chain it is of, at both ends: a task that fails
// or warns, a pause, a cancel, a retry, a store without room, a lost connection, a start, a record that cannot be read.
func TestLogOfTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var damaged atomic.Bool
		logs := map[string]*flowtest.Log{"a": {}, "b": {}}
		p := newPair(t, func(n *node) {
			n.limits.Log = slog.New(slog.NewJSONHandler(logs[n.name], &slog.HandlerOptions{Level: slog.LevelDebug}))
			r := *n.rules["push"]
			r.Name = "failing"
			n.rules[r.Name] = &r
			fails := tasks(t, task.Table{Task: "exec", Argv: []string{"/bin/false"}})
			if n.name == "a" {
				r.Sender = engine.Lists{Pre: fails, Error: fails}
				n.wrap = func(s store.Store) store.Store { return unreadable{s, &damaged} }
			}
		})
		chain := lifecycle.ID{7, 7}
		lost := true
		p.wire.Fault = func(where enginetest.Place, c enginetest.Call) error {
			if where == enginetest.Block && lost {
				lost = false
				return fault.Concluded("call", fault.Lost, "the connection was cut")
			}
			return nil
		}
		p.file("a", "x", crashSize)
		order := func(rule, source string) store.Ref {
			t.Helper()
			r, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: "b", Rule: rule, Source: path(t, source), Target: path(t, "y"), Follow: chain})
			if err != nil {
				t.Fatal(err)
			}
			return store.RefOf(&r)
		}
		p.end(order("push", "x"), lifecycle.Done)
		e := p.nodes["a"].engine
		wait := func(ref store.Ref) {
			t.Helper()
			if r, err := e.Wait(t.Context(), ref); err != nil || r.State != lifecycle.InError {
				t.Fatalf("%v, %v", r.State, err)
			}
		}
		failed := order("failing", "x")
		wait(failed)
		if _, err := e.Retry(t.Context(), failed); err != nil {
			t.Fatal(err)
		}
		wait(failed)
		p.nodes["a"].gate.Fill(2)
		p.end(order("push", "x"), lifecycle.Done)
		p.stop("b")
		paused := order("push", "x")
		if _, err := e.Pause(t.Context(), paused); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Cancel(t.Context(), paused, "not wanted"); err != nil {
			t.Fatal(err)
		}
		order("push", "x")
		p.stop("a")
		p.start("a")
		damaged.Store(true)
		p.start("b")
		time.Sleep(time.Hour)
		for name, log := range logs {
			said := map[string]int{}
			for line := range strings.Lines(log.String()) {
				var l struct{ Msg, ID, Follow string }
				if err := json.Unmarshal([]byte(line), &l); err != nil {
					t.Errorf("%v: %s", err, line)
				}
				said[l.Msg]++
				if l.ID != "" && l.Follow != chain.String() {
					t.Errorf("%s does not say which chain it is of: %s", name, line)
				}
			}
			for _, msg := range map[string][]string{"a": {"registered", "task", "failed", "an operator's word", "read record"}, "b": {"accepted"}}[name] {
				if said[msg] == 0 {
					t.Errorf("%s has no line %q: %v", name, msg, said)
				}
			}
		}
	})
}
