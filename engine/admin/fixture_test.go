package admin_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/admin/admintest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a daemon without an engine of its own.
type node struct {
	*admin.Client
	engine  *admintest.Engine
	server  *admin.Server
	address string
	log     *flowtest.Log
	out, in string // roots of the rules "out" and "in"
}

// newNode serves a node "here" with the partners "there" and "far", which may use
// "out" (send) and "in" (receive); "closed" (send) is for nobody.
func newNode(t *testing.T, change ...func(*admin.Config)) *node {
	t.Helper()
	n := &node{out: t.TempDir(), in: t.TempDir(), log: &flowtest.Log{}}
	rules := map[string]*engine.Rule{
		"out":    {Name: "out", Direction: engine.Send, Partners: []string{"there", "far"}, Root: n.out, Quota: sideeffect.NoQuota, Digest: sideeffect.SHA256},
		"in":     {Name: "in", Direction: engine.Receive, Partners: []string{engine.AnyPartner}, Root: n.in, Quota: sideeffect.NoQuota},
		"closed": {Name: "closed", Direction: engine.Send, Root: n.out},
	}
	n.engine = admintest.New("here", engine.Book{
		Partners: map[string]*engine.Partner{"there": {Name: "there", Address: "tls://there:6610"}, "far": {Name: "far"}}, Rules: rules,
	})
	cfg := admin.Config{Engine: n.engine, Node: "here", Key: "sha256:00", Version: "v1"}
	for _, c := range change {
		c(&cfg)
	}
	n.serve(t, cfg)
	return n
}

func (n *node) serve(t *testing.T, cfg admin.Config) {
	t.Helper()
	n.address = "unix://" + filepath.Join(shortDir(t), "s")
	l, err := admin.Listen(n.address, admin.Access{})
	if err != nil {
		t.Fatal(err)
	}
	if n.server, err = admin.New(cfg); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- n.server.Serve(l) }()
	t.Cleanup(func() {
		n.server.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	if n.Client, err = admin.Dial(n.address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Client.Close() })
}

// shortDir is a directory whose name leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// request is one of "here" to "there" by rule "out", in a state of its own.
func request(first byte, change ...func(*engine.Status)) engine.Status {
	var s engine.Status
	s.Key = lifecycle.Key{Requester: "here", ID: lifecycle.ID{first, 0xaa, 15: 1}}
	s.Role, s.Side, s.State, s.Phase = lifecycle.Requester, lifecycle.Sender, lifecycle.ToSubmit, lifecycle.Accepted
	s.Spec = lifecycle.Spec{Partner: "there", Rule: "out", Source: name("a.txt"), Target: name("b.txt")}
	s.File, s.Size = s.Spec.Source, -1
	s.Registered, s.Changed = time.Now(), time.Now()
	s.Due = s.Changed
	for _, c := range change {
		c(&s)
	}
	return s
}

func refOf(s engine.Status) store.Ref { return store.RefOf(&s.Record) }

func done(s *engine.Status) {
	s.State, s.Phase, s.Due = lifecycle.Done, lifecycle.Finished, time.Time{}
}

func name(s string) relpath.Path {
	p, err := relpath.Parse(s)
	if err != nil {
		panic(err)
	}
	return p
}

// all reads a stream to its end.
func all[T any](t *testing.T, s grpc.ServerStreamingClient[T], err error) (got []*T) {
	t.Helper()
	for err == nil {
		var m *T
		if m, err = s.Recv(); err == nil {
			got = append(got, m)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return got
}

// wantKind fails unless err has the kind.
func wantKind(t *testing.T, err error, k fault.Kind) {
	t.Helper()
	if err == nil || fault.KindOf(err) != k {
		t.Errorf("%v; want %v", err, k)
	}
}
