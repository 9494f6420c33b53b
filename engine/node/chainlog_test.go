package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/spec/relpath"
)

// TestLogOfRequests: each line about a request has its id and that of its chain, at either end, also where
// a bridge is its partner, or a task sends to one, of a copy that another node makes, and of what has failed and
// is tried again.
func TestLogOfRequests(t *testing.T) {
	all, address := map[string]*host{}, map[string]string{}
	for _, name := range []string{"a", "b", "c"} {
		all[name], address[name] = newHost(t, name), "tls://"+freeport.For(t, "127.0.0.1")
		if err := os.MkdirAll(all[name].dir+"/state", 0o700); err != nil {
			t.Fatal(err)
		}
	}
	a := all["a"]
	box := filepath.Join(a.dir, "box")
	if err := os.Mkdir(box, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, h := range all {
		more := ""
		for other, o := range all {
			if other != name {
				more += fmt.Sprintf("[[partner]]\nname = %q\naddress = %q\nkey = %q\nthird_party = [\"push\"]\n", other, address[other], must(carrier.LoadOrCreateIdentity(o.dir+"/state")).Key())
			}
		}
		if name == "a" {
			h.o.Bundled = []string{"dir"}
			more += fmt.Sprintf("[[bridge]]\nname = \"box\"\nplugin = \"dir\"\nendpoint = \"dir://%s\"\n", box)
			more += fmt.Sprintf("[[rule]]\nname = \"tasks\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = %q\nsender = { post = [ { task = \"bridge\", to = \"box:/{name}.task\" } ] }\n", a.dir+"/files")
		}
		if name == "b" {
			more += fmt.Sprintf("[[rule]]\nname = \"tasks\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = %q\n", h.dir+"/files")
		}
		cfg := h.config(more)
		cfg.Node.Listen = []string{address[name]}
		cfg.Node.LogFormat, cfg.Node.Log = "json", slog.LevelDebug
		h.start(cfg)
	}
	a.write("x", "content")
	path := func(s string) relpath.Path { return must(relpath.Parse(s)) }
	order := func(h *host, o engine.Order) store.Ref {
		o.Source, o.Follow = path("x"), lifecycle.ID{0xfe, byte(len(o.Rule)), h.name[0]}
		if o.Target.IsZero() {
			o.Target = path("x2")
		}
		return h.ordered(o)
	}
	a.done(order(a, engine.Order{Partner: "b", Rule: "push"}))
	a.done(order(a, engine.Order{Partner: "b", Rule: "tasks", Target: path("x3")}))
	a.done(order(a, engine.Order{Partner: "box", Rule: "push"}))
	all["c"].done(order(all["c"], engine.Order{From: "a", Asked: "a", Partner: "b", Target: path("x4")}))
	if err := os.Mkdir(filepath.Join(all["b"].dir, "files", "x5"), 0o755); err != nil {
		t.Fatal(err)
	}
	failed := order(a, engine.Order{Partner: "b", Rule: "push", Target: path("x5")})
	if r, err := a.node.Engine().Wait(context.Background(), failed); err != nil || r.State != lifecycle.InError {
		t.Fatal(r.State, err)
	}
	if err := os.Remove(filepath.Join(all["b"].dir, "files", "x5")); err != nil {
		t.Fatal(err)
	}
	if _, err := a.node.Engine().Retry(context.Background(), failed); err != nil {
		t.Fatal(err)
	}
	a.done(failed)
	if r, err := a.node.Engine().Get(context.Background(), failed); err != nil || r.Attempt < 2 || r.Round != 1 {
		t.Errorf("after a retry, attempt %d of round %d, %v: attempts are counted over all retries", r.Attempt, r.Round, err)
	}
	all["b"].until(store.Ref{Key: failed.Key, Role: lifecycle.Requested})
	said := map[string]bool{}
	for name, h := range all {
		if err := h.end(); err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(h.log.String()) {
			var l struct{ Msg, ID, Follow, Partner string }
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Errorf("%v: %s", err, line)
			}
			if l.ID == "" {
				continue
			}
			said[name+": with "+l.Partner] = true
			if said[name+": "+l.Msg] = true; !strings.HasPrefix(l.Follow, "fe") {
				t.Errorf("%s does not say which chain it is of: %s", name, line)
			}
		}
	}
	for _, want := range []string{"a: registered", "a: made for a partner", "a: failed", "a: an operator's word", "a: task", "a: with box", "b: accepted", "b: failed", "b: the requester tries again what had failed", "c: registered"} {
		if !said[want] {
			t.Errorf("nothing is said like %q, but %v", want, said)
		}
	}
}

// until waits for the end of a request.
func (h *host) until(ref store.Ref) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if r, err := h.node.Engine().Wait(ctx, ref); err != nil {
		h.t.Fatal(r.State, err)
	}
}
