package rpc_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// TestOneDescriptorInTwoCalls: a descriptor that a call has is refused to another one, of either sort, and neither the
// first's transfer nor its result suffers. Afterwards it may be used again, also when its call has failed before it was made.
func TestOneDescriptorInTwoCalls(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	const n = 300 << 10
	var got bytes.Buffer
	p.store.call = run(func() *sideeffect.Descriptor { return up(sideeffect.Buffer(&got)) }, sideeffect.AwaitRemote)
	p.store.gather = func(s grpc.ClientStreamingServer[storepb.Item, storepb.Receipt]) error {
		se, err := rpc.SideEffect(s.Context())
		if err == nil {
			err = se.Run(s.Context(), up(sideeffect.Buffer(&got)), sideeffect.AwaitRemote)
		}
		if err != nil {
			return err
		}
		return s.SendAndClose(&storepb.Receipt{})
	}
	g := newGate(content(n))
	d := up(sideeffect.Reader(g, n))
	called := make(chan error, 1)
	go func() {
		_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
		called <- err
	}()
	<-g.entered
	beside := up(sideeffect.Memory(nil))
	_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(beside, d))
	wantKind(t, err, fault.Invalid)
	_, err = p.stub.Gather(ctx, rpc.With(d))
	wantKind(t, err, fault.Invalid)
	close(g.open)
	if err := <-called; err != nil || !bytes.Equal(got.Bytes(), content(n)) {
		t.Errorf("the first call: %v, %d bytes", err, got.Len())
	}
	wantSuccess(t, d, n)
	if _, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(beside)); err != nil {
		t.Errorf("a descriptor of the call that was refused: %v", err)
	}
	for range 2 {
		d.Local = sideeffect.Memory(content(10))
		if _, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d)); err != nil {
			t.Errorf("the next call: %v", err)
		}
		st, err := p.stub.Gather(ctx, rpc.With(d))
		if err != nil {
			t.Fatalf("the next stream: %v", err)
		}
		if _, err := st.CloseAndRecv(); err != nil {
			t.Errorf("the next stream: %v", err)
		}
		root, _ := rootOf(t)
		d.Local = sideeffect.File(root, "none")
		_, err = p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
		wantKind(t, err, fault.NotFound)
	}
}

// TestOneDescriptorForTwoEffects: a handler that gives two effects one descriptor is told so, unless it does so one after the other.
func TestOneDescriptorForTwoEffects(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	const n = 300 << 10
	p.store.call = func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
		d := up(sideeffect.Writer(io.Discard))
		all := rpc.SideEffects(ctx)
		if err := all[0].Init(ctx, d); err != nil {
			return nil, err
		}
		wantKind(t, all[1].Init(ctx, d), fault.Invalid)
		if err := all[0].Check(ctx, sideeffect.AwaitRemote); err != nil {
			return nil, err
		}
		return &storepb.Receipt{}, all[1].Run(ctx, d, sideeffect.AwaitRemote)
	}
	one, two := up(sideeffect.Memory(content(n))), up(sideeffect.Memory(content(n)))
	if _, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(one, two)); err != nil {
		t.Fatal(err)
	}
	wantSuccess(t, one, n)
	wantSuccess(t, two, n)
}
