package peer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ Node = (*engine.Engine)(nil)

// fake is an engine in memory: it keeps what it was asked and answers with serve.
type fake struct {
	commissions  []engine.Commission
	commissioned engine.Commissioned
	refusal      error
	steps        func(partner string, key lifecycle.Key, role lifecycle.Role) (engine.Steps, error)

	mu    sync.Mutex
	asks  []engine.Ask
	froms []string
	serve func(context.Context, engine.Ask, engine.Effect) (engine.Answer, error)

	inside int  // calls about files that have entered
	full   bool // there is no place for one
}

func (f *fake) Commission(_ context.Context, partner string, c engine.Commission) (engine.Commissioned, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commissions = append(f.commissions, c)
	return f.commissioned, f.refusal
}

func (f *fake) Steps(_ context.Context, partner string, key lifecycle.Key, role lifecycle.Role) (engine.Steps, error) {
	return f.steps(partner, key, role)
}

func (f *fake) Enter(string) (leave func(), ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full {
		return nil, false
	}
	f.inside++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.inside--
	}, true
}

func (f *fake) Serve(ctx context.Context, partner string, a engine.Ask, e engine.Effect) (engine.Answer, error) {
	f.mu.Lock()
	f.asks, f.froms = append(f.asks, a), append(f.froms, partner)
	serve := f.serve
	f.mu.Unlock()
	if serve == nil {
		return engine.Answer{Outcome: engine.Served, Phase: lifecycle.Ready, Size: -1}, nil
	}
	return serve(ctx, a, e)
}

func (f *fake) last(t testing.TB) (engine.Ask, string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asks) == 0 {
		t.Fatal("nothing was asked")
	}
	return f.asks[len(f.asks)-1], f.froms[len(f.froms)-1]
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asks)
}

// pair is node "paris", which is served by the fake, and node "lyon", which calls it.
type pair struct {
	t       testing.TB
	scheme  string
	fake    *fake
	server  *Server
	options Options
	book    engine.Book // paris's
	line    *Line
	lyon    *carrier.Identity
	paris   *carrier.Identity
	pipe    *carrier.Pipe

	mu    sync.Mutex
	entry engine.Partner // paris in lyon's book
	asked int            // how often the book was asked
}

// carriers are those that every promise is tested on.
var carriers = []string{"pipe", "tls", "unix"}

type change func(*pair)

// start makes both nodes; close has to be called, inside of a bubble too.
func start(t testing.TB, scheme string, changes ...change) *pair {
	t.Helper()
	p := &pair{t: t, scheme: scheme, fake: &fake{}, lyon: identity(t), paris: identity(t), pipe: carrier.NewPipe()}
	p.book = engine.Book{Partners: map[string]*engine.Partner{"lyon": {Name: "lyon", Keys: []string{p.lyon.Key()}}}, Rules: map[string]*engine.Rule{}}
	p.options = Options{Name: "paris", Version: "1.2.3", Features: []string{"peer/1"}, Identity: p.paris, Node: p.fake, Pipe: p.pipe,
		UnixPartner: func(uid int) (string, error) {
			if uid != os.Getuid() {
				return "", fault.New("find user", fault.NotFound, "user %d", uid)
			}
			return "lyon", nil
		}}
	p.entry = engine.Partner{Name: "paris", Keys: []string{p.paris.Key()}}
	for _, c := range changes {
		c(p)
	}
	p.options.Book = p.book
	p.server = must(NewServer(p.options))
	address := map[string]string{"pipe": "pipe:", "tls": "tls://127.0.0.1:0", "unix": "unix://" + filepath.Join(shortDir(t), "s")}[scheme]
	if p.entry.Address == "" {
		p.entry.Address = must(p.server.Listen(address))
	} else {
		must(p.server.Listen(address))
	}
	served := make(chan error, 1)
	go func() { served <- p.server.Serve() }()
	p.line = p.newLine(p.lyon)
	t.Cleanup(func() {
		p.line.Close()
		p.server.Stop()
		if err := <-served; err != nil && !errors.Is(err, fault.Draining) { // stopped before it began
			t.Errorf("Serve: %v", err)
		}
	})
	return p
}

func (p *pair) newLine(id *carrier.Identity) *Line {
	return must(NewLine(LineOptions{Node: "lyon", Identity: id, Pipe: func(string) *carrier.Pipe { return p.pipe },
		Book: func(name string) (engine.Partner, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.asked++
			if name != "paris" {
				return engine.Partner{}, fault.New("find partner", fault.NotFound, "no partner is called %q", name)
			}
			return p.entry, nil
		}}))
}

func identity(t testing.TB) *carrier.Identity {
	t.Helper()
	return must(carrier.NewIdentity())
}

func shortDir(t testing.TB) string {
	t.Helper()
	d := must(os.MkdirTemp("", "peer"))
	t.Cleanup(func() { os.RemoveAll(d) })
	return d
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// within bounds a test that hangs; nothing is asserted about the time.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func wantKind(t testing.TB, err error, k fault.Kind) *fault.Error {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != k {
		t.Fatalf("error %v (%T) has kind %v, want %v", err, err, fault.KindOf(err), k)
	}
	return f
}

func path(s string) relpath.Path { return must(relpath.Parse(s)) }

func id(b byte) (i lifecycle.ID) {
	for n := range i {
		i[n] = b + byte(n)
	}
	return i
}

// request is an ask for Prepare with every field set.
func request() engine.Ask {
	return engine.Ask{Move: lifecycle.Prepare, Key: lifecycle.Key{Requester: "lyon", ID: id(1)}, Side: lifecycle.Sender,
		Call: lifecycle.Call{Attempt: 7, Round: 3, Phase: lifecycle.Accepted},
		Rule: "rule", Source: path("a/b.txt"), Target: path("c/d.txt"), Priority: -5, Follow: id(9), Info: "für alle", Hops: 7, Bandwidth: 5e6}
}

// ask is a call with a move, from the side that makes it.
func ask(m lifecycle.Move) engine.Ask {
	a := request()
	a.Move, a.Call.Phase = m, lifecycle.Posted
	if m == lifecycle.Acknowledge || m == lifecycle.Finish {
		a.Side = lifecycle.Receiver
	}
	if m != lifecycle.Prepare {
		a.Rule, a.Source, a.Target, a.Priority, a.Follow, a.Info, a.Hops, a.Bandwidth = "", relpath.Path{}, relpath.Path{}, 0, lifecycle.ID{}, "", 0, 0
	}
	if m == lifecycle.Mismatch {
		a.Why = lifecycle.Failure{Kind: fault.NoSpace, Side: fault.Peer, Cause: "the disk is full", At: time.Unix(1800000000, 123456789).UTC()}
	}
	return a
}

var moves = []lifecycle.Move{lifecycle.Prepare, lifecycle.Transfer, lifecycle.EndTransfer, lifecycle.Acknowledge, lifecycle.EndRequest, lifecycle.Finish, lifecycle.Mismatch}
