package peer

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// on runs a test on each carrier, the pipe inside of a bubble.
func on(t *testing.T, f func(t *testing.T, scheme string)) {
	for _, scheme := range carriers {
		t.Run(scheme, func(t *testing.T) {
			if scheme == "pipe" {
				synctest.Test(t, func(t *testing.T) { f(t, scheme) })
			} else {
				f(t, scheme)
			}
		})
	}
}

// TestFields: all of an ask and of an answer travels.
func TestFields(t *testing.T) {
	on(t, func(t *testing.T, scheme string) {
		p := start(t, scheme)
		answers := []engine.Answer{
			{Outcome: engine.Served, Phase: lifecycle.Finished, Rank: 1 << 50, Size: -1, Bandwidth: 3},
			{Outcome: engine.Failed, Phase: lifecycle.Moving, Rank: 5, Size: 0,
				Failure: lifecycle.Failure{Kind: fault.SourceChanged, Side: fault.Inferred, Cause: "changed", At: time.Unix(1, 2).UTC()}},
			{Outcome: engine.Paused, Size: 1 << 60},
			{Outcome: engine.Outdate, Size: -1},
			{Outcome: engine.Busy, Size: -1, Wait: time.Minute, All: true, Failure: lifecycle.Failure{Kind: fault.Overloaded, Cause: "too many"}},
		}
		for i, m := range moves {
			want := answers[i%len(answers)]
			p.fake.serve = func(context.Context, engine.Ask, engine.Effect) (engine.Answer, error) { return want, nil }
			a := ask(m)
			got, err := p.line.Call(within(t), "paris", a, nil)
			if err != nil || got != want {
				t.Errorf("%v: answer %+v, %v; want %+v", m, got, err, want)
			}
			if asked, from := p.fake.last(t); asked != a || from != "lyon" {
				t.Errorf("%v: %q asked\n%+v, want\n%+v", m, from, asked, a)
			}
		}
		a := request()
		a.Target = relpath.Path{}
		if _, err := p.line.Call(within(t), "paris", a, nil); err != nil {
			t.Error(err)
		}
		if asked, _ := p.fake.last(t); asked != a {
			t.Errorf("without a target: %+v", asked)
		}
		if rtt, err := p.line.Reach(within(t), "paris"); err != nil || rtt <= 0 && scheme != "pipe" {
			t.Errorf("reach: %v, %v", rtt, err)
		}
	})
}

// TestTransfer: bytes ride along both ways, small and large.
func TestTransfer(t *testing.T) {
	on(t, func(t *testing.T, scheme string) {
		p := start(t, scheme)
		for _, n := range []int{0, 1000, 3 << 20} {
			content := bytes.Repeat([]byte("0123456"), n/7+1)[:n]
			for _, side := range []lifecycle.Side{lifecycle.Sender, lifecycle.Receiver} {
				a := ask(lifecycle.Transfer)
				a.Side = side
				var here, there bytes.Buffer
				dir, from, to := sideeffect.ClientToServer, sideeffect.Memory(content), sideeffect.Buffer(&there)
				ours, theirs, await, sunk := from, to, sideeffect.AwaitLocal, &there
				if side == lifecycle.Receiver {
					dir, to, sunk, await = sideeffect.ServerToClient, sideeffect.Buffer(&here), &here, sideeffect.AwaitRemote
					ours, theirs = to, from
				}
				p.fake.serve = func(ctx context.Context, _ engine.Ask, e engine.Effect) (engine.Answer, error) {
					if e == nil {
						return engine.Answer{}, fault.New("serve", fault.Invalid, "no effect")
					}
					d := &sideeffect.Descriptor{Direction: dir, Local: theirs, Quota: sideeffect.NoQuota}
					if err := e.Run(ctx, d, await); err != nil {
						return engine.Answer{}, err
					}
					return engine.Answer{Outcome: engine.Served, Phase: lifecycle.Whole, Rank: d.BytesTransferred, Size: int64(n)}, nil
				}
				d := &sideeffect.Descriptor{Direction: dir, Local: ours, Quota: sideeffect.NoQuota}
				got, err := p.line.Call(within(t), "paris", a, d)
				if err != nil || got.Rank != int64(n) || d.LocalStatus != sideeffect.Success || !bytes.Equal(sunk.Bytes(), content) {
					t.Fatalf("%d bytes, %v: %+v, %v, %+v; %d arrived", n, side, got, err, d.Result, sunk.Len())
				}
			}
		}
	})
}

// TestTransferAnswers: an answer comes through whatever the effect did.
func TestTransferAnswers(t *testing.T) {
	on(t, func(t *testing.T, scheme string) {
		p := start(t, scheme)
		paused := engine.Answer{Outcome: engine.Paused, Phase: lifecycle.Moving, Size: -1}
		p.fake.serve = func(context.Context, engine.Ask, engine.Effect) (engine.Answer, error) { return paused, nil }
		up := func() *sideeffect.Descriptor {
			return &sideeffect.Descriptor{Direction: sideeffect.ClientToServer, Local: sideeffect.Memory(make([]byte, 1<<20)), Quota: sideeffect.NoQuota}
		}
		if got, err := p.line.Call(within(t), "paris", ask(lifecycle.Transfer), up()); err != nil || got != paused {
			t.Errorf("the partner moves no bytes: %+v, %v", got, err)
		}
		full := engine.Answer{Outcome: engine.Failed, Phase: lifecycle.Moving, Size: -1, Failure: lifecycle.Failure{Kind: fault.QuotaExceeded, Cause: "too long"}}
		p.fake.serve = func(ctx context.Context, _ engine.Ask, e engine.Effect) (engine.Answer, error) {
			var b bytes.Buffer
			if err := e.Run(ctx, &sideeffect.Descriptor{Direction: sideeffect.ClientToServer, Local: sideeffect.Buffer(&b), Quota: 10}, sideeffect.AwaitLocal); err == nil {
				t.Error("a quota of 10 bytes took all")
			}
			return full, nil
		}
		if got, err := p.line.Call(within(t), "paris", ask(lifecycle.Transfer), up()); fault.KindOf(err) != fault.QuotaExceeded || got != full {
			t.Errorf("the partner's half fails: %+v, %v", got, err)
		}
		p.fake.serve = func(context.Context, engine.Ask, engine.Effect) (engine.Answer, error) {
			return engine.Answer{}, fault.New("serve", fault.IO, "the store of %q", "secret")
		}
		got, err := p.line.Call(within(t), "paris", ask(lifecycle.Transfer), up())
		if f := wantKind(t, err, fault.IO); f.Side != fault.Peer || strings.Contains(f.Error(), "secret") || got != (engine.Answer{}) {
			t.Errorf("the partner's error: %+v, %v", got, err)
		}
		if _, err := p.line.Call(within(t), "paris", ask(lifecycle.EndRequest), up()); fault.KindOf(err) != fault.Internal {
			t.Errorf("an effect with another call: %v", err)
		}
	})
}

// TestCancel: a call that is given up ends at both ends, with the caller's kind.
func TestCancel(t *testing.T) {
	on(t, func(t *testing.T, scheme string) {
		p := start(t, scheme)
		entered, left := make(chan struct{}, 20), make(chan error, 20)
		p.fake.serve = func(ctx context.Context, _ engine.Ask, _ engine.Effect) (engine.Answer, error) {
			entered <- struct{}{}
			<-ctx.Done()
			left <- context.Cause(ctx)
			return engine.Answer{}, ctx.Err()
		}
		ctx, cancel := context.WithCancel(within(t))
		go func() { <-entered; cancel() }()
		_, err := p.line.Call(ctx, "paris", ask(lifecycle.Prepare), nil)
		wantKind(t, err, fault.Canceled)
		<-left

		for limit := 50 * time.Millisecond; len(entered) == 0; limit *= 2 { // until one comes so far before its time is over
			ctx, cancel = context.WithTimeout(within(t), limit)
			_, err = p.line.Call(ctx, "paris", ask(lifecycle.Prepare), nil)
			cancel()
			wantKind(t, err, fault.Deadline)
		}
		<-left
		p.fake.serve = nil
		if _, err := p.line.Call(within(t), "paris", ask(lifecycle.Prepare), nil); err != nil {
			t.Errorf("the next call: %v", err)
		}
	})
}

// TestCleaned: what a handler returns when its context has ended says only that.
func TestCleaned(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		ctx  context.Context
		err  error
		kind fault.Kind
	}{
		{over, context.Canceled, fault.Canceled},
		{over, fault.New("read", fault.Lost, "x"), fault.Canceled},
		{over, fault.New("read", fault.NoSpace, "x"), fault.NoSpace},
		{t.Context(), fault.New("read", fault.Lost, "x"), fault.Lost},
		{t.Context(), errors.New("odd"), fault.Internal},
	} {
		wantKind(t, cleaned(tc.ctx, tc.err), tc.kind)
	}
	if cleaned(over, nil) != nil {
		t.Error("no error is one")
	}
}

// TestLost: calls on a session that ends fail as Lost or Draining, and the next
// ones find the partner when it is back.
func TestLost(t *testing.T) {
	for _, scheme := range carriers {
		t.Run(scheme, func(t *testing.T) {
			p := start(t, scheme)
			entered := make(chan struct{})
			p.fake.serve = func(ctx context.Context, _ engine.Ask, _ engine.Effect) (engine.Answer, error) {
				close(entered)
				<-ctx.Done()
				return engine.Answer{}, ctx.Err()
			}
			failed := make(chan error, 1)
			go func() {
				_, err := p.line.Call(within(t), "paris", ask(lifecycle.Prepare), nil)
				failed <- err
			}()
			<-entered
			p.server.Stop()
			err := <-failed
			if k := fault.KindOf(err); k != fault.Lost && k != fault.Draining {
				t.Errorf("a call on a session that ends: %v, %v", k, err)
			}
			if scheme == "pipe" {
				return // it is closed with its server
			}
			err = fault.Draining
			for errors.Is(err, fault.Draining) || strings.Contains(err.Error(), "is gone") { // the session is ending
				_, err = p.line.Call(within(t), "paris", ask(lifecycle.Prepare), nil)
			}
			if f := wantKind(t, err, fault.Lost); !strings.Contains(f.Error(), p.entry.Address) || !strings.Contains(f.Error(), "look whether") {
				t.Errorf("it does not say what was tried and what to look at: %v", err)
			}
			again := must(NewServer(p.options))
			must(again.Listen(p.entry.Address))
			served := make(chan error, 1)
			go func() { served <- again.Serve() }()
			defer func() { again.Stop(); <-served }()
			p.fake.mu.Lock()
			p.fake.serve = nil
			p.fake.mu.Unlock()
			if _, err := p.line.Call(within(t), "paris", ask(lifecycle.Prepare), nil); err != nil {
				t.Errorf("the partner is back: %v", err)
			}
		})
	}
}

// TestForget: the calls that run fail as Lost, the next takes what the book says now.
func TestForget(t *testing.T) {
	on(t, func(t *testing.T, scheme string) {
		p := start(t, scheme)
		entered := make(chan struct{})
		p.fake.serve = func(ctx context.Context, _ engine.Ask, _ engine.Effect) (engine.Answer, error) {
			close(entered)
			<-ctx.Done()
			return engine.Answer{}, ctx.Err()
		}
		go func() { <-entered; p.line.Forget("paris") }()
		_, err := p.line.Call(within(t), "paris", ask(lifecycle.Prepare), nil)
		wantKind(t, err, fault.Lost)
		p.fake.mu.Lock()
		p.fake.serve = nil
		p.fake.mu.Unlock()
		if _, err := p.line.Call(within(t), "paris", ask(lifecycle.Prepare), nil); err != nil || p.asked != 2 {
			t.Errorf("after it: %v; the book was asked %d times", err, p.asked)
		}
		p.line.Forget("nobody")
		p.line.Close()
		_, err = p.line.Reach(within(t), "paris")
		wantKind(t, err, fault.Draining)
	})
}

// TestWrongName: a node that calls itself otherwise is not called.
func TestWrongName(t *testing.T) {
	on(t, func(t *testing.T, scheme string) {
		p := start(t, scheme, func(p *pair) { p.options.Name = "london" })
		_, err := p.line.Call(within(t), "paris", ask(lifecycle.Prepare), nil)
		if f := wantKind(t, err, fault.Unauthenticated); !strings.Contains(f.Error(), `"london"`) || !strings.Contains(f.Error(), `"paris"`) {
			t.Errorf("it does not say which: %v", err)
		}
		if p.fake.count() != 0 {
			t.Error("it was called")
		}
	})
}

// TestKeys: who is known by which key, at both ends, with two while rotating.
func TestKeys(t *testing.T) {
	t.Run("the partner has another", func(t *testing.T) {
		p := start(t, "tls", func(p *pair) { p.entry.Keys = []string{identity(t).Key()} })
		_, err := p.line.Reach(within(t), "paris")
		if f := wantKind(t, err, fault.Unauthenticated); !strings.Contains(f.Advice, "`pannier id`") {
			t.Errorf("no advice: %v", err)
		}
	})
	t.Run("the partner does not know ours", func(t *testing.T) {
		p := start(t, "tls")
		stranger := p.newLine(identity(t))
		defer stranger.Close()
		_, err := stranger.Call(within(t), "paris", ask(lifecycle.Prepare), nil)
		if f := wantKind(t, err, fault.Unauthenticated); !strings.Contains(f.Advice, "`pannier id`") || !strings.Contains(f.Error(), "does not let this one in") {
			t.Errorf("no advice: %v", err)
		}
		if p.fake.count() != 0 {
			t.Error("it was called")
		}
	})
	t.Run("none is known", func(t *testing.T) {
		p := start(t, "tls", func(p *pair) { p.entry.Keys = nil })
		_, err := p.line.Reach(within(t), "paris")
		wantKind(t, err, fault.Invalid)
	})
	t.Run("two while rotating", func(t *testing.T) {
		next := identity(t)
		var log flowtest.Log
		p := start(t, "tls", func(p *pair) {
			p.options.Flow.Logger = slog.New(slog.NewTextHandler(&log, nil))
			p.book.Partners["lyon"].Keys = append(p.book.Partners["lyon"].Keys, next.Key())
			p.entry.Keys = []string{identity(t).Key(), p.paris.Key()}
		})
		rotated := p.newLine(next)
		defer rotated.Close()
		for _, l := range []*Line{p.line, rotated} {
			if _, err := l.Call(within(t), "paris", ask(lifecycle.Prepare), nil); err != nil {
				t.Error(err)
			}
			if _, from := p.fake.last(t); from != "lyon" {
				t.Errorf("%q called", from)
			}
		}
		session, other := sessionOf(p.line), sessionOf(rotated)
		// The old key goes, and its session with it.
		b := engine.Book{Partners: map[string]*engine.Partner{"lyon": {Name: "lyon", Keys: []string{next.Key()}}}}
		if err := p.server.SetBook(b); err != nil {
			t.Fatal(err)
		}
		if said := log.String(); strings.Count(said, "session over") != 1 || !strings.Contains(said, "partner lyon has another key") {
			t.Errorf("the partner's log has\n%s", said)
		}
		select {
		case <-session.Done():
			wantKind(t, session.Err(), fault.Unauthenticated)
		case <-within(t).Done():
			t.Error("its session stands")
		}
		_, err := p.line.Call(within(t), "paris", ask(lifecycle.Prepare), nil)
		wantKind(t, err, fault.Unauthenticated)
		_, err = p.line.Reach(within(t), "paris")
		if f := wantKind(t, err, fault.Unauthenticated); !strings.Contains(f.Error(), "does not let this one in") {
			t.Error(err)
		}
		if _, err := rotated.Reach(within(t), "paris"); err != nil || sessionOf(rotated) != other {
			t.Errorf("the session of the key that stays: %v, %v", err, other.Err())
		}
		if _, err := rotated.Call(within(t), "paris", ask(lifecycle.Prepare), nil); err != nil {
			t.Error(err)
		}
		if p.fake.count() != 3 {
			t.Errorf("%d calls were served, want 3", p.fake.count())
		}
	})
	t.Run("one key, two partners", func(t *testing.T) {
		p := start(t, "pipe")
		b := engine.Book{Partners: map[string]*engine.Partner{"a": {Name: "a", Keys: []string{p.lyon.Key()}}, "b": {Name: "b", Keys: []string{p.lyon.Key()}}}}
		wantKind(t, p.server.SetBook(b), fault.Invalid)
		b.Partners["a"].Keys, b.Partners["b"].Keys = []string{p.lyon.Key(), p.lyon.Key()}, []string{"sha256:1"}
		wantKind(t, p.server.SetBook(b), fault.Invalid)
	})
}

// TestAddresses: what is tried, and what cannot be.
func TestAddresses(t *testing.T) {
	for address, want := range map[string]struct {
		kind fault.Kind
		say  string
	}{
		"tcp://127.0.0.1:1":            {fault.Invalid, "tls://"},
		"plain+exec:[\"cat\"]":         {fault.Invalid, "plain+"},
		"exec:[\"false\"]":             {fault.Lost, "exit status 1"},
		"ftp://x":                      {fault.Invalid, ""},
		"tls://127.0.0.1:1":            {fault.Lost, "connection refused"},
		"tls://no-such-host.invalid:1": {fault.Lost, "no-such-host.invalid"},
		"unix:///no/such/socket":       {fault.Lost, "/no/such/socket"},
	} {
		p := start(t, "pipe", func(p *pair) { p.entry.Address = address })
		_, err := p.line.Reach(within(t), "paris")
		if f := wantKind(t, err, want.kind); !strings.Contains(f.Error(), want.say) {
			t.Errorf("%s: %v", address, err)
		}
	}
	p := start(t, "pipe", func(p *pair) { p.entry.Address, p.entry.Keys = `exec:["cat"]`, nil })
	_, err := p.line.Reach(within(t), "paris")
	if f := wantKind(t, err, fault.Invalid); !strings.Contains(f.Error(), "no key is known") {
		t.Errorf("a command without a key: %v", err)
	}
	p = start(t, "pipe")
	p.entry.Address = ""
	_, err = p.line.Reach(within(t), "paris")
	wantKind(t, err, fault.Invalid)
	_, err = p.line.Reach(within(t), "nobody")
	wantKind(t, err, fault.NotFound)
	if _, err := p.server.Listen("tcp://127.0.0.1:0"); fault.KindOf(err) != fault.Invalid {
		t.Errorf("listened on tcp: %v", err)
	}
	bad := Options{Name: strings.Repeat("x", 65), Node: p.fake}
	if _, err := NewServer(bad); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a name of 65 bytes: %v", err)
	}
	if _, err := NewLine(LineOptions{Node: "x"}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("without a book: %v", err)
	}
}

// TestOthers: what is no node of Pannier is not called.
func TestOthers(t *testing.T) {
	address := filepath.Join(shortDir(t), "s")
	l := must(net.Listen("unix", address))
	other := grpc.NewServer()
	served := make(chan error, 1)
	go func() { served <- other.Serve(l) }()
	p := start(t, "pipe", func(p *pair) { p.entry.Address = "unix://" + address })
	_, err := p.line.Reach(within(t), "paris")
	if f := wantKind(t, err, fault.Unsupported); !strings.Contains(f.Error(), "HTTP/2") {
		t.Error(err)
	}
	other.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// sessionOf is the line's session with paris.
func sessionOf(l *Line) *flow.Session { return l.stands("paris").session }

// TestForgetButKey: a session whose other end has proved a key that stays goes on, and is of no other key later;
// one of a key that has gone ends.
func TestForgetButKey(t *testing.T) {
	other := identity(t).Key()
	p := start(t, "tls", func(p *pair) { p.entry.Keys = []string{other, p.paris.Key()} })
	must(p.line.Reach(within(t), "paris"))
	r := p.line.stands("paris")
	p.line.Forget("paris", p.paris.Key())
	must(p.line.Reach(within(t), "paris"))
	if now := p.line.stands("paris"); now != r || r.session.Err() != nil {
		t.Errorf("its key stays, and its session has ended: %v", r.session.Err())
	}
	wantKind(t, r.authorize(flow.Peer{Key: other}), fault.Unauthenticated)
	if err := r.authorize(r.session.Peer()); err != nil {
		t.Error(err)
	}
	p.line.Forget("paris", other)
	if r.session.Err() == nil {
		t.Error("its key has gone, and its session goes on")
	}
}

// TestNoPartnerAnyMore: what runs on the session of a partner that is taken out of the book ends at
// both ends, as what may be better later at the caller, and as nobody's failure here; its next calls are refused until it is back.
func TestNoPartnerAnyMore(t *testing.T) {
	on(t, func(t *testing.T, scheme string) {
		p := start(t, scheme)
		entered, left := make(chan struct{}, 2), make(chan error, 2)
		p.fake.serve = func(ctx context.Context, _ engine.Ask, e engine.Effect) (engine.Answer, error) {
			if e == nil {
				entered <- struct{}{}
				<-ctx.Done()
				left <- nil
				return engine.Answer{}, ctx.Err()
			}
			err := e.Run(ctx, &sideeffect.Descriptor{Direction: sideeffect.ClientToServer, Local: sideeffect.Writer(entering{stuck{ctx}, entered}), Quota: sideeffect.NoQuota}, sideeffect.AwaitLocal)
			left <- err
			return engine.Answer{}, err
		}
		ended := make(chan error, 2)
		go func() {
			_, err := p.line.Call(within(t), "paris", ask(lifecycle.Prepare), nil)
			ended <- err
		}()
		go func() {
			_, err := p.line.Call(within(t), "paris", ask(lifecycle.Transfer), &sideeffect.Descriptor{Direction: sideeffect.ClientToServer,
				Local: sideeffect.Memory(make([]byte, 9<<20)), Quota: sideeffect.NoQuota})
			ended <- err
		}()
		<-entered
		<-entered
		if err := p.server.SetBook(engine.Book{}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if k := fault.KindOf(<-ended); k != fault.Lost && k != fault.Unauthenticated {
				t.Errorf("the caller has %v", k)
			}
			var f *fault.Error
			if err := <-left; errors.As(err, &f) && f.Kind != fault.Canceled && (f.Kind != fault.Unauthenticated || f.Side == fault.Here) {
				t.Errorf("this end has %v", err)
			}
		}
		if n := p.server.Sessions(); n != 0 {
			t.Errorf("%d sessions", n)
		}
		p.fake.mu.Lock()
		p.fake.serve = nil
		p.fake.mu.Unlock()
		_, err := p.line.Call(within(t), "paris", ask(lifecycle.Prepare), nil)
		wantKind(t, err, fault.Unauthenticated)
		must(0, p.server.SetBook(p.book))
		if _, err := p.line.Call(within(t), "paris", ask(lifecycle.Prepare), nil); err != nil {
			t.Error(err)
		}
	})
}
