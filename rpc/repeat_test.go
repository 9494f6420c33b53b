package rpc_test

import (
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/rpcpb"
)

// taken is a client interceptor that keeps what a call was sent with, as a
// proxy sees it.
func taken(kept *atomic.Pointer[metadata.MD]) grpc.DialOption {
	return grpc.WithUnaryInterceptor(func(ctx context.Context, m string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, o ...grpc.CallOption) error {
		if md, ok := metadata.FromOutgoingContext(ctx); ok && len(md.Get(rpc.MetadataKey)) > 0 {
			md = md.Copy()
			kept.Store(&md)
		}
		return next(ctx, m, req, reply, cc, o...)
	})
}

// TestRepeatedCallRunsOnce: what a proxy sends again is refused, however many
// calls others make in between and however many of them are refused.
func TestRepeatedCallRunsOnce(t *testing.T) {
	for _, name := range []string{"tcp", "http2"} {
		t.Run(name, func(t *testing.T) {
			var kept atomic.Pointer[metadata.MD]
			p, ctx := start(t, name, setup{client: []grpc.DialOption{taken(&kept)}}), within(t)
			p.server.RememberCalls(8)
			var runs atomic.Int32
			p.store.call = func(_ context.Context, i *storepb.Item) (*storepb.Receipt, error) {
				if i.GetName() == "mine" {
					runs.Add(1)
				}
				return &storepb.Receipt{}, nil
			}
			d := up(sideeffect.Memory(content(100 << 10)))
			d.Optional = true
			if _, err := p.stub.Call(ctx, &storepb.Item{Name: "mine"}, rpc.With(d)); err != nil {
				t.Fatal(err)
			}
			again := metadata.NewOutgoingContext(ctx, *kept.Load())
			repeat := func() error {
				return p.cc.GRPC().Invoke(again, storepb.Store_Call_FullMethodName, &storepb.Item{Name: "mine"}, &storepb.Receipt{})
			}
			wantCode(t, repeat(), codes.Aborted) // Stale
			p.client.DialOptions = nil
			none := make([]byte, 16)
			for _, ask := range []*rpcpb.Ask{{}, {Session: none}, {Session: none, Token: none}} { // admitted, Stale, WrongBackend
				p.crowd(ctx, 64, ask)
			}
			wantCode(t, repeat(), codes.Aborted)
			if runs.Load() != 1 {
				t.Errorf("the handler ran %d times", runs.Load())
			}
		})
	}
}

// crowd makes n calls with asks of other ids on a connection of their own.
func (p *pair) crowd(ctx context.Context, n int, ask *rpcpb.Ask) {
	p.t.Helper()
	stub := storepb.NewStoreClient(p.dial())
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range n / 16 {
				a := proto.CloneOf(ask)
				a.Call = make([]byte, 16)
				rand.Read(a.Call)
				a.Effects = []*rpcpb.EffectAsk{{Direction: rpcpb.Direction_DIRECTION_CLIENT_TO_SERVER, Optional: true}}
				b, _ := proto.Marshal(a)
				_, _ = stub.Call(metadata.AppendToOutgoingContext(ctx, rpc.MetadataKey, string(b)), &storepb.Item{})
			}
		})
	}
	wg.Wait()
}
