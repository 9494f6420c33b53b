package engine_test

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/engine/enginetest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/relpath"
	"github.com/pannier/pannier/spec/scorecard/score"
)

// pair is nodes joined by a wire: a and b, of which a is the requester, and
// whoever else a test has.
type pair struct {
	t     *testing.T
	wire  *enginetest.Wire
	nodes map[string]*node
}

type node struct {
	name       string
	dir        string
	root       string
	store      *boltstore.Store
	engine     *engine.Engine
	rules      map[string]*engine.Rule
	limits     engine.Config // Concurrent and the like
	gate       *enginetest.Gate
	concurrent int // with one partner; 0: the default
	open       int // requests of one partner; 0: the default
	shutAt     int // commit of the next start at which the gate shuts; 0: never
	after      bool
	line       func(engine.Line) engine.Line // between the engine and the wire; nil: nothing
	wrap       func(store.Store) store.Store // between the engine and the gate; nil: nothing
}

func newPair(t *testing.T, rules func(n *node)) *pair {
	return newGroup(t, rules, "a", "b")
}

func newGroup(t *testing.T, rules func(n *node), names ...string) *pair {
	p := &pair{t: t, wire: &enginetest.Wire{}, nodes: map[string]*node{}}
	for _, name := range names { // all of them are partners of each
		p.nodes[name] = nil
	}
	for _, name := range names {
		n := &node{name: name, dir: t.TempDir(), rules: map[string]*engine.Rule{}}
		n.root = filepath.Join(n.dir, "files")
		if err := os.Mkdir(n.root, 0o755); err != nil {
			t.Fatal(err)
		}
		for rule, direction := range map[string]engine.Direction{"push": engine.Send, "pull": engine.Receive} {
			n.rules[rule] = &engine.Rule{Name: rule, Direction: direction, Partners: []string{"*"}, Root: n.root, Quota: sideeffect.NoQuota,
				Digest: sideeffect.SHA256, Retry: engine.Retry{Delay: 10 * time.Millisecond}}
		}
		if rules != nil {
			rules(n)
		}
		p.nodes[name] = n
		p.start(name)
	}
	t.Cleanup(func() {
		for name := range p.nodes {
			p.stop(name)
		}
	})
	return p
}

func (p *pair) start(name string) {
	p.t.Helper()
	n := p.nodes[name]
	n.store = openStore(p.t, n)
	cfg := n.limits
	n.gate = enginetest.NewGate(n.store, n.shutAt, n.after)
	cfg.Node, cfg.Store, cfg.Line = name, n.gate, p.wire.Line(name)
	if n.wrap != nil {
		cfg.Store = n.wrap(cfg.Store)
	}
	if n.line != nil {
		cfg.Line = n.line(cfg.Line)
	}
	cfg.Book = engine.Book{Rules: n.rules, Partners: map[string]*engine.Partner{}}
	for name := range p.nodes {
		cfg.Book.Partners[name] = &engine.Partner{Name: name, Address: "wire:" + name, Concurrent: n.concurrent, Open: n.open}
	}
	if cfg.Log == nil && testing.Verbose() && score.N(0) == 0 {
		cfg.Log = slog.New(slog.NewTextHandler(p.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name)
	}
	var err error
	if n.engine, err = engine.Open(p.t.Context(), cfg); err != nil {
		p.t.Fatal(err)
	}
	p.wire.Join(name, n.engine)
}

func openStore(t testing.TB, n *node) *boltstore.Store {
	t.Helper()
	s, err := boltstore.Open(boltstore.Config{Path: filepath.Join(n.dir, "store")})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (p *pair) stop(name string) {
	n := p.nodes[name]
	if n.engine == nil {
		return
	}
	p.wire.Join(name, nil)
	_ = n.engine.Close()
	if err := n.store.Close(); err != nil {
		p.t.Error(err)
	}
	n.engine = nil
}

// file makes a file of random content at a node.
func (p *pair) file(node, name string, size int) []byte {
	p.t.Helper()
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size)})
	r.Read(b)
	if err := os.WriteFile(filepath.Join(p.nodes[node].root, name), b, 0o644); err != nil {
		p.t.Fatal(err)
	}
	return b
}

func path(t testing.TB, s string) relpath.Path {
	p, err := relpath.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// submit registers a request at a.
func (p *pair) submit(rule, source, target string) store.Ref {
	p.t.Helper()
	r, made, err := p.nodes["a"].engine.Submit(p.t.Context(), engine.Order{Partner: "b", Rule: rule, Source: path(p.t, source), Target: path(p.t, target)})
	if err != nil || !made {
		p.t.Fatal(made, err)
	}
	return store.RefOf(&r)
}

// other is the record's name at b.
func other(ref store.Ref) store.Ref {
	ref.Role = ref.Role.Other()
	return ref
}

// end waits until a request is final at both ends and wants a state.
func (p *pair) end(ref store.Ref, want lifecycle.State) (a, b lifecycle.Record) {
	p.t.Helper()
	return p.endWithin(ref, want, 30*time.Second)
}

func (p *pair) endWithin(ref store.Ref, want lifecycle.State, limit time.Duration) (a, b lifecycle.Record) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), limit)
	defer cancel()
	a, err := p.nodes["a"].engine.Wait(ctx, ref)
	if err != nil {
		p.t.Fatalf("%v in %v %v: %v", a.State, a.Phase, a.Failure, err)
	}
	b, err = p.nodes["b"].engine.Wait(ctx, other(ref))
	if err != nil {
		p.t.Fatalf("%v in %v %v: %v", b.State, b.Phase, b.Failure, err)
	}
	if a.State != want || b.State != want {
		p.t.Fatalf("ends are %v (%v) and %v (%v), want %v", a.State, a.Failure, b.State, b.Failure, want)
	}
	return a, b
}

// has wants content at a node.
func (p *pair) has(node, name string, want []byte) {
	p.t.Helper()
	got, err := os.ReadFile(filepath.Join(p.nodes[node].root, name))
	if err != nil {
		p.t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		p.t.Fatalf("%s at %s has %d bytes, other ones than were sent", name, node, len(got))
	}
	left, err := filepath.Glob(filepath.Join(p.nodes[node].root, "."+filepath.Base(name)+"*"))
	if len(left) > 0 || err != nil {
		p.t.Fatal(left, err)
	}
}

func tasks(t testing.TB, tables ...task.Table) []task.Step {
	steps, err := task.Make(task.Standard(), tables)
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

func TestPushAndPull(t *testing.T) {
	for _, size := range []int{0, 1, 4000, 250_000, 3 << 20} {
		p := newPair(t, nil)
		b := p.file("a", "x", size)
		ref := p.submit("push", "x", "sub/dir/y")
		recA, recB := p.end(ref, lifecycle.Done)
		p.has("b", "sub/dir/y", b)
		if recA.Size != int64(size) || recB.Size != int64(size) || recB.Rank != int64(size) || recB.Proof == "" {
			t.Errorf("%+v\n%+v", recA, recB)
		}
		if want, err := sideeffect.ParseWhole(recB.Size, recB.Proof); err != nil || recA.Proof != want.Digest.String() || want.Digest.IsZero() {
			t.Errorf("the sender's digest is %q, the receiver's proof %q, %v", recA.Proof, recB.Proof, err)
		}
		c := p.file("b", "far", size)
		ref = p.submit("pull", "far", "near")
		p.end(ref, lifecycle.Done)
		p.has("a", "near", c)
	}
}

func TestTasksAtBothEnds(t *testing.T) {
	log := t.TempDir()
	note := func(what string) task.Table {
		return task.Table{Task: "exec", Argv: []string{"/bin/sh", "-c", `echo "$1 $2 $3" >> "$0"`, filepath.Join(log, "log"), what, "{path}", "{size}"}}
	}
	p := newPair(t, func(n *node) {
		r := n.rules["push"]
		r.Sender = engine.Lists{Pre: tasks(t, note("sender-pre")), Post: tasks(t, task.Table{Task: "move", To: "archive/{name}"}, note("sender-post"))}
		r.Receiver = engine.Lists{Pre: tasks(t, note("receiver-pre")), Post: tasks(t, task.Table{Task: "rename", To: "{stem}-{rule}{ext}"}, note("receiver-post"))}
	})
	b := p.file("a", "x.txt", 1000)
	recA, recB := p.end(p.submit("push", "x.txt", "in/y.txt"), lifecycle.Done)
	p.has("b", "in/y-push.txt", b)
	p.has("a", "archive/x.txt", b)
	got, _ := os.ReadFile(filepath.Join(log, "log"))
	want := "receiver-pre in/y.txt \nsender-pre x.txt 1000\nreceiver-post in/y-push.txt 1000\nsender-post archive/x.txt 1000\n"
	if string(got) != want {
		t.Errorf("tasks ran so:\n%swant:\n%s", got, want)
	}
	if recA.File.String() != "archive/x.txt" || recB.File.String() != "in/y-push.txt" {
		t.Error(recA.File, recB.File)
	}
}
