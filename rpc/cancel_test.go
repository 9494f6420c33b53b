package rpc_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// onSessions runs a test of long-running effects on every carrier.
func onSessions(t *testing.T, f func(t *testing.T, p *pair, ctx context.Context)) {
	for _, name := range carriers {
		t.Run(name, func(t *testing.T) { f(t, start(t, name, setup{}), within(t)) })
	}
}

// TestCancel: the client gives up at every stage. Both halves end, nothing of
// the file is left at either end, and the session goes on.
func TestCancel(t *testing.T) {
	onSessions(t, func(t *testing.T, p *pair, base context.Context) {
		for _, upload := range []bool{true, false} {
			for _, s := range []string{"before", "source blocked", "after"} {
				testCancel(t, p, base, s, upload)
			}
		}
		p.works(base)
	})
}

func testCancel(t *testing.T, p *pair, base context.Context, stage string, upload bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(base)
	defer cancel()
	root, dir := rootOf(t)
	g := newGate(nil)
	source := sideeffect.Memory(content(300 << 10))
	if stage == "source blocked" {
		source = sideeffect.Reader(&interruptible{io.MultiReader(bytes.NewReader(content(300<<10)), g), g}, -1)
	}
	mine, theirs := up(source), up(sideeffect.File(root, "x"))
	if !upload {
		mine, theirs = down(sideeffect.File(root, "x")), down(source)
	}
	reached, returned := make(chan struct{}), make(chan error, 1)
	p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
		if stage != "before" {
			if stage == "source blocked" {
				go func() { <-g.entered; close(reached) }()
			}
			r, err := run(func() *sideeffect.Descriptor { return theirs }, sideeffect.AwaitRemote)(ctx, i)
			if stage == "source blocked" {
				returned <- err
				return r, err
			}
		}
		close(reached)
		<-ctx.Done()
		returned <- ctx.Err()
		return nil, ctx.Err()
	}
	go func() { <-reached; cancel() }()
	_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(mine))
	wantCode(t, err, codes.Canceled)
	wantKind(t, err, fault.Canceled)
	if got := <-returned; got == nil {
		t.Fatalf("%s, upload %v: the handler succeeded", stage, upload)
	}
	if stage == "after" {
		wantSuccess(t, theirs, 300<<10)
		return
	}
	if mine.LocalStatus == sideeffect.Success || mine.RemoteStatus == sideeffect.Success || mine.Err == nil {
		t.Fatalf("%s, upload %v: result %+v", stage, upload, mine.Result)
	}
	if stage == "source blocked" {
		wantKind(t, theirs.Err, fault.Canceled)
	}
	if left := entries(t, dir); len(left) != 0 {
		t.Fatalf("%s, upload %v: left %v", stage, upload, left)
	}
}

// interruptible is a reader that can be interrupted.
type interruptible struct {
	io.Reader
	g *gate
}

func (i *interruptible) SetDeadline(t time.Time) error { return i.g.SetDeadline(t) }

// TestHandlerLeaves: a handler that returns while bytes move loses them; one
// that opened and never started, too.
func TestHandlerLeaves(t *testing.T) {
	onSessions(t, func(t *testing.T, p *pair, ctx context.Context) {
		for _, started := range []bool{true, false} {
			root, dir := rootOf(t)
			theirs := up(sideeffect.File(root, "x"))
			g := newGate(nil)
			p.store.call = func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
				se, err := rpc.SideEffect(ctx)
				if err != nil {
					return nil, err
				}
				if err := se.Init(ctx, theirs); err != nil {
					return nil, err
				}
				if started {
					if err := se.Start(); err != nil {
						return nil, err
					}
					<-g.entered
				}
				return &storepb.Receipt{}, nil
			}
			mine := up(sideeffect.Reader(g, -1))
			_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(mine))
			wantKind(t, err, fault.Canceled)
			if mine.RemoteStatus != sideeffect.Failure || len(entries(t, dir)) != 0 {
				t.Fatalf("result %+v, left %v", mine.Result, entries(t, dir))
			}
		}
		p.works(ctx)
	})
}

// TestRunContext: the handler's own limit on an effect fails that effect only.
func TestRunContext(t *testing.T) {
	onSessions(t, func(t *testing.T, p *pair, ctx context.Context) {
		root, dir := rootOf(t)
		g := newGate(nil)
		p.store.call = func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
			se, err := rpc.SideEffect(ctx)
			if err != nil {
				return nil, err
			}
			limited, cancel := context.WithCancel(ctx)
			go func() { <-g.entered; cancel() }()
			wantKind(t, se.Run(limited, up(sideeffect.File(root, "x")), sideeffect.AwaitRemote), fault.Canceled)
			return &storepb.Receipt{Name: "went on"}, nil
		}
		mine := up(sideeffect.Reader(g, -1))
		mine.Optional = true
		r, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(mine))
		if err != nil || r.GetName() != "went on" {
			t.Fatal(r, err)
		}
		if mine.Err == nil || len(entries(t, dir)) != 0 {
			t.Fatalf("result %+v, left %v", mine.Result, entries(t, dir))
		}
		p.works(ctx)
	})
}

// TestLinger: a source at the server whose handler has returned still gets its
// verdict, and the client's call waits for its own half.
func TestLinger(t *testing.T) {
	onSessions(t, func(t *testing.T, p *pair, ctx context.Context) {
		const n = 100 << 10
		p.store.call = run(func() *sideeffect.Descriptor { return down(sideeffect.Memory(content(n))) }, sideeffect.AwaitLocal)
		w := &slowWriter{open: make(chan struct{})}
		d := down(sideeffect.Writer(w))
		over := make(chan error, 1)
		go func() {
			_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
			over <- err
		}()
		close(w.open)
		if err := <-over; err != nil {
			t.Fatal(err)
		}
		wantSuccess(t, d, n)
	})
}

// slowWriter takes nothing until it is opened.
type slowWriter struct {
	open chan struct{}
	bytes.Buffer
}

func (w *slowWriter) Write(p []byte) (int, error) {
	<-w.open
	return w.Buffer.Write(p)
}

// TestShutdown: a graceful end waits for calls and their effects, refuses new
// ones, and leaves nothing behind.
func TestShutdown(t *testing.T) {
	onSessions(t, func(t *testing.T, p *pair, ctx context.Context) {
		var b bytes.Buffer
		entered, leave := make(chan struct{}), make(chan struct{})
		p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
			close(entered)
			<-leave
			return run(func() *sideeffect.Descriptor { return up(sideeffect.Buffer(&b)) }, sideeffect.AwaitRemote)(ctx, i)
		}
		d := up(sideeffect.Memory(content(300 << 10)))
		called, stopped := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
			called <- err
		}()
		<-entered
		go func() { stopped <- p.server.Shutdown(ctx) }()
		close(leave)
		if err := <-called; err != nil {
			t.Fatal(err)
		}
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
		wantSuccess(t, d, 300<<10)
	})
}

// slow is a source that takes as long to open as it is let, and says when that has begun.
type slow struct {
	sideeffect.Identity
	entered func()
}

func (s slow) OpenSource(spec sideeffect.SourceSpec) (sideeffect.Source, error) {
	s.entered()
	<-spec.Opening.Done()
	return nil, fault.Wrap("open source", "slow", spec.Opening.Err())
}

// TestOpeningEnds: a source that takes a time to open is not waited for by who has gone: a client
// with its own, and one whose server opens one.
func TestOpeningEnds(t *testing.T) {
	onSessions(t, func(t *testing.T, p *pair, ctx context.Context) {
		limited, cancel := context.WithCancel(ctx)
		opening := slow{sideeffect.Memory([]byte("x")), func() { cancel() }}
		_, err := p.stub.Call(limited, &storepb.Item{}, rpc.With(up(opening)))
		wantKind(t, err, fault.Canceled)
		limited, cancel = context.WithCancel(ctx)
		defer cancel()
		ended := make(chan error, 1)
		p.store.call = func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
			se, err := rpc.SideEffect(ctx)
			if err == nil {
				err = se.Run(ctx, down(opening), sideeffect.AwaitRemote)
			}
			ended <- err
			return nil, err
		}
		_, err = p.stub.Call(limited, &storepb.Item{}, rpc.With(down(sideeffect.Writer(io.Discard))))
		if err == nil {
			t.Error("the call has succeeded")
		}
		select {
		case err := <-ended:
			if err == nil {
				t.Error("the handler's effect has succeeded")
			}
		case <-ctx.Done():
			t.Error("the handler waits")
		}
		p.store.call = nil
		p.works(ctx)
	})
}
