package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// deafReader is a reader that nothing interrupts.
type deafReader struct{ entered, open chan struct{} }

func (r deafReader) Read([]byte) (int, error) {
	r.entered <- struct{}{}
	<-r.open
	return 0, io.EOF
}

// TestShutdownDoesNotWaitForAReader: when its time is up Shutdown says what still runs, and returns.
func TestShutdownDoesNotWaitForAReader(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	r := deafReader{make(chan struct{}, 1), make(chan struct{})}
	defer close(r.open)
	p.store.call = run(func() *sideeffect.Descriptor { return down(sideeffect.Reader(r, -1)) }, sideeffect.AwaitRemote)
	called := make(chan error, 1)
	go func() {
		_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(down(sideeffect.Writer(io.Discard))))
		called <- err
	}()
	<-r.entered
	over, cancel := context.WithCancel(ctx)
	cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- p.server.Shutdown(over) }()
	select {
	case err := <-stopped:
		if !errors.Is(err, fault.Canceled) || !errors.Is(err, fault.Deadline) {
			t.Errorf("Shutdown says %v, and not that its time is up and that a source still runs", err)
		}
	case <-ctx.Done():
		t.Error("Shutdown waits for a Read that does not return")
	}
	if err := <-called; err == nil {
		t.Error("the call has succeeded")
	}
}

// TestStartAfterStop: a handler that has not heard that the server is stopped starts its effect in vain.
func TestStartAfterStop(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	opened, stopped, checked := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	p.store.call = func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
		se, err := rpc.SideEffect(ctx)
		if err == nil {
			err = se.Init(ctx, down(sideeffect.Reader(deafReader{}, -1)))
		}
		close(opened)
		<-stopped
		if err == nil {
			err = se.Check(context.WithoutCancel(ctx), sideeffect.AwaitRemote)
		}
		checked <- err
		return nil, err
	}
	go func() {
		_, _ = p.stub.Call(ctx, &storepb.Item{}, rpc.With(down(sideeffect.Writer(io.Discard))))
	}()
	<-opened
	p.server.Stop()
	close(stopped)
	select {
	case err := <-checked:
		if err == nil {
			t.Error("the effect has succeeded")
		}
	case <-ctx.Done():
		t.Error("nobody ends the effect")
	}
}

// bomb is a reader of some bytes that panics then.
type bomb struct{ bytes.Reader }

func (b *bomb) Read(p []byte) (int, error) {
	if b.Len() == 0 {
		panic(errBomb)
	}
	return b.Reader.Read(p)
}

var errBomb = errors.New("boom")

// TestPanicIsTheHandlers: a reader that panics does so in the goroutine of the handler that waits for it, where an
// interceptor may recover it; the call fails, and the server goes on.
func TestPanicIsTheHandlers(t *testing.T) {
	recovered := 0
	recovers := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (reply any, err error) {
		defer func() {
			if p := recover(); p != nil {
				if e, ok := p.(error); !ok || !errors.Is(e, errBomb) {
					t.Errorf("panic %v", p)
				}
				recovered++
				err = status.Error(codes.Internal, "recovered")
			}
		}()
		return next(ctx, req)
	}
	p, ctx := start(t, "tcp", setup{server: []grpc.ServerOption{grpc.UnaryInterceptor(recovers)}}), within(t)
	source := func() sideeffect.Identity {
		b := &bomb{}
		b.Reset(content(300 << 10))
		return sideeffect.Reader(b, -1)
	}
	for name, handler := range map[string]func(context.Context, *rpc.Effect) error{
		"run": func(ctx context.Context, se *rpc.Effect) error {
			return se.Run(ctx, down(source()), sideeffect.AwaitRemote)
		},
		"check": func(ctx context.Context, se *rpc.Effect) error {
			if err := se.Init(ctx, down(source())); err != nil {
				return err
			}
			return se.Check(ctx, sideeffect.AwaitLocal)
		},
	} {
		recovered = 0
		p.store.call = func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
			se, err := rpc.SideEffect(ctx)
			if err != nil {
				return nil, err
			}
			return &storepb.Receipt{}, handler(ctx, se)
		}
		d := down(sideeffect.Writer(io.Discard))
		_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
		wantCode(t, err, codes.Internal)
		if recovered != 1 || d.LocalStatus != sideeffect.Failure {
			t.Errorf("%s: recovered %d times, %+v", name, recovered, d.Result)
		}
	}
	p.works(ctx)
}

// TestOpeningBesideClose: a connection that gRPC gets while the client is closed is closed, too.
func TestOpeningBesideClose(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	s := must(p.cc.Connect(ctx))
	closed := must(rpc.Dial(p.address, p.client))
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := rpc.OpenRPC(ctx, closed, s)
	if err == nil {
		c.Close()
	}
	wantKind(t, err, fault.Canceled)
}
