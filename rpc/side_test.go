package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// fullWriter takes n bytes.
type fullWriter struct{ n int }

func (w *fullWriter) Write(p []byte) (int, error) {
	if w.n -= len(p); w.n < 0 {
		return 0, syscall.ENOSPC
	}
	return len(p), nil
}

// badReader gives n bytes, then fails.
func badReader(n int) io.Reader {
	return io.MultiReader(bytes.NewReader(content(n)), failing{})
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, syscall.EIO }

// TestSides: whatever fails, and on whichever road, is this end's failure at
// the end where it failed and the peer's at the other; the call's error says
// the same as the descriptor of the client.
func TestSides(t *testing.T) {
	onRoads(t, func(t *testing.T, p *pair, ctx context.Context, n int) {
		root, _ := rootOf(t)
		for _, c := range []struct {
			name   string
			broken func() sideeffect.Identity
			source bool
			kind   fault.Kind
		}{
			{"sink cannot be opened", func() sideeffect.Identity { return sideeffect.File(root, "no/such/folder") }, false, fault.NotFound},
			{"sink fails at once", func() sideeffect.Identity { return sideeffect.Writer(&fullWriter{0}) }, false, fault.NoSpace},
			{"sink fails in the middle", func() sideeffect.Identity { return sideeffect.Writer(&fullWriter{n / 2}) }, false, fault.NoSpace},
			{"sink fails at the end", func() sideeffect.Identity { return sideeffect.Writer(&lateWriter{}) }, false, fault.NoSpace},
			{"source cannot be opened", func() sideeffect.Identity { return sideeffect.File(root, "missing") }, true, fault.NotFound},
			{"source fails at once", func() sideeffect.Identity { return sideeffect.Reader(failing{}, int64(n)) }, true, fault.IO},
			{"source fails in the middle", func() sideeffect.Identity { return sideeffect.Reader(badReader(n/2), int64(n)) }, true, fault.IO},
			{"source is too short", func() sideeffect.Identity { return sideeffect.Reader(bytes.NewReader(content(n/2)), int64(n)) }, true, fault.SourceChanged},
		} {
			for _, atClient := range []bool{true, false} {
				for _, swallow := range []bool{false, true} {
					t.Run(fmt.Sprint(c.name, " at client ", atClient, " handler swallows it ", swallow), func(t *testing.T) {
						s := sided{p: p, ctx: ctx, n: n, broken: c.broken(), source: c.source, atClient: atClient, swallow: swallow}
						s.test(t, c.kind)
					})
				}
			}
		}
		p.works(ctx)
	})
}

type sided struct {
	p                         *pair
	ctx                       context.Context
	n                         int
	broken                    sideeffect.Identity
	source, atClient, swallow bool
}

func (s sided) test(t *testing.T, kind fault.Kind) {
	good := sideeffect.Identity(sideeffect.Writer(io.Discard))
	if !s.source {
		good = sideeffect.Memory(content(s.n))
	}
	mine, theirs := down(good), down(s.broken)
	if s.atClient {
		mine.Local, theirs.Local = s.broken, good
	}
	if s.source == s.atClient {
		mine.Direction, theirs.Direction = sideeffect.ClientToServer, sideeffect.ClientToServer
	}
	ran := false
	var handled error
	s.p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
		ran = true
		_, handled = run(func() *sideeffect.Descriptor { return theirs }, sideeffect.AwaitLocal)(ctx, i)
		if s.swallow {
			return &storepb.Receipt{}, nil
		}
		return &storepb.Receipt{}, handled
	}
	_, err := s.p.stub.Call(s.ctx, &storepb.Item{}, rpc.With(mine))
	here, there := fault.Here, fault.Peer
	if !s.atClient {
		here, there = there, here
	}
	wantSide(t, "call", err, kind, here)
	wantSide(t, "client", mine.Err, kind, here)
	// A reply is not acknowledged, and what fails before the call is never asked for.
	if ran && theirs.RemoteStatus != sideeffect.InProgress {
		wantSide(t, "handler", handled, kind, there)
		wantSide(t, "server", theirs.Err, kind, there)
	}
}

func wantSide(t *testing.T, who string, err error, kind fault.Kind, side fault.Side) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != kind || f.Side != side {
		t.Errorf("%s: %v, want %v, side %v", who, err, kind, side)
	}
}

// TestSidesOfPipe: likewise for live bytes both ways.
func TestSidesOfPipe(t *testing.T) {
	for _, name := range []string{"tcp", "http2"} {
		for _, atClient := range []bool{true, false} {
			t.Run(fmt.Sprint(name, " at client ", atClient), func(t *testing.T) {
				p, ctx := start(t, name, setup{}), within(t)
				good := func() sideeffect.Identity { return sideeffect.Duplex(bytes.NewReader(content(300<<10)), io.Discard) }
				bad := sideeffect.Duplex(bytes.NewReader(content(300<<10)), &fullWriter{1000})
				mine, theirs := up(good()), up(bad)
				if atClient {
					mine, theirs = up(bad), up(good())
				}
				mine.Kind, theirs.Kind = sideeffect.KindPipe, sideeffect.KindPipe
				var handled error
				p.store.call = func(ctx context.Context, i *storepb.Item) (_ *storepb.Receipt, err error) {
					_, handled = run(func() *sideeffect.Descriptor { return theirs }, sideeffect.AwaitLocal)(ctx, i)
					return &storepb.Receipt{}, handled
				}
				_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(mine))
				failed, other := theirs, mine
				if atClient {
					failed, other = mine, theirs
				}
				wantSide(t, "where it failed", failed.Err, fault.NoSpace, fault.Here)
				var f *fault.Error
				if !errors.As(other.Err, &f) || f.Side != fault.Peer {
					t.Errorf("the other end: %v", other.Err)
				}
				if !errors.As(err, &f) || (f.Side == fault.Here) != atClient {
					t.Errorf("the call: %v", err)
				}
			})
		}
	}
}

// TestSidesOfALoss: of a connection that goes away nobody has said anything, so
// both ends say that they concluded it.
func TestSidesOfALoss(t *testing.T) {
	for _, upload := range []bool{true, false} {
		t.Run(fmt.Sprint("upload ", upload), func(t *testing.T) {
			p, ctx := start(t, "tcp", setup{withoutClient: true, flow: flow.Config{ResumeTimeout: -1}}), within(t)
			tap := newTap(t, p)
			stub := storepb.NewStoreClient(p.dial())
			g := newGate(nil)
			source := sideeffect.Reader(&interruptible{io.MultiReader(bytes.NewReader(content(300<<10)), g), g}, -1)
			mine, theirs := up(source), up(sideeffect.Writer(io.Discard))
			if !upload {
				mine, theirs = down(sideeffect.Writer(io.Discard)), down(source)
			}
			var handled error
			over := make(chan struct{})
			p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
				defer close(over)
				_, handled = run(func() *sideeffect.Descriptor { return theirs }, sideeffect.AwaitRemote)(context.WithoutCancel(ctx), i)
				return nil, handled
			}
			go func() { <-g.entered; tap.cut() }()
			_, err := stub.Call(ctx, &storepb.Item{}, rpc.With(mine))
			<-over
			for who, err := range map[string]error{"client": mine.Err, "handler": handled} {
				var f *fault.Error
				if !errors.As(err, &f) || f.Side != fault.Inferred || f.Kind != fault.Lost && f.Kind != fault.Canceled {
					t.Errorf("%s: %v", who, err)
				}
			}
			if err == nil {
				t.Error("the call is a success")
			}
		})
	}
}
