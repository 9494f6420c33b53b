package rpc_test

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
)

func byDefault(o ...grpc.CallOption) []grpc.DialOption {
	return []grpc.DialOption{grpc.WithDefaultCallOptions(o...)}
}

// TestDefaultCallOptions: options of every call count as those of one call do, which go first.
func TestDefaultCallOptions(t *testing.T) {
	discard := run(func() *sideeffect.Descriptor { return up(sideeffect.Writer(io.Discard)) }, sideeffect.AwaitRemote)
	t.Run("wait", func(t *testing.T) {
		path, ctx := "unix://"+filepath.Join(shortDir(t), "s"), within(t)
		cc := must(rpc.Dial(path, rpc.ClientConfig{DialOptions: byDefault(grpc.WaitForReady(true))}))
		defer cc.Close()
		stub := storepb.NewStoreClient(cc)
		if _, err := stub.Call(ctx, &storepb.Item{}, rpc.With(up(sideeffect.Memory(nil))), grpc.WaitForReady(false)); err == nil {
			t.Error("a call without a server has succeeded")
		}
		waited := make(chan error, 1)
		opening := opened{sideeffect.Memory(content(10)), make(chan struct{})}
		go func() {
			_, err := stub.Call(ctx, &storepb.Item{}, rpc.With(up(opening)))
			waited <- err
		}()
		<-opening.begun
		s := must(rpc.NewServer(rpc.ServerConfig{}))
		storepb.RegisterStoreServer(s, &store{call: discard})
		served := make(chan error, 1)
		go func() { served <- s.ListenAndServe(path) }()
		err := <-waited
		if err != nil {
			t.Error(err)
		}
		cc.Close()
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Run("codec", func(t *testing.T) {
		p, ctx := start(t, "tcp", setup{client: byDefault(grpc.ForceCodecV2(encoding.GetCodecV2(proto.Name)))}), within(t)
		p.store.call = discard
		d := up(sideeffect.Memory(content(10)))
		if _, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d)); err != nil || d.Result.Road != sideeffect.RoadSession {
			t.Errorf("%v, by road %v", err, d.Result.Road)
		}
	})
	t.Run("size", func(t *testing.T) {
		p, ctx := start(t, "http2", setup{client: byDefault(grpc.MaxCallSendMsgSize(1000), grpc.MaxCallRecvMsgSize(1000))}), within(t)
		p.store.call = discard
		if _, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(up(sideeffect.Memory(content(300<<10))))); err != nil {
			t.Error(err)
		}
	})
}

// opened tells when its source is opened, which is before the call looks for a server.
type opened struct {
	sideeffect.Identity
	begun chan struct{}
}

func (o opened) OpenSource(spec sideeffect.SourceSpec) (sideeffect.Source, error) {
	close(o.begun)
	return o.Identity.OpenSource(spec)
}

// TestCarryKeepsMetadata: the stream road is let in again by what it was let in by.
func TestCarryKeepsMetadata(t *testing.T) {
	admit := func(srv any, s grpc.ServerStream, i *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		if !slices.Equal(metadata.ValueFromIncomingContext(s.Context(), "who"), []string{"me"}) {
			return status.Error(codes.Unauthenticated, "who?")
		}
		return next(srv, s)
	}
	p := start(t, "tcp", setup{withoutClient: true, server: []grpc.ServerOption{grpc.StreamInterceptor(admit)}})
	ctx := metadata.AppendToOutgoingContext(within(t), "who", "me")
	d := &lossy{lead: must(carrier.NewDialer(p.address, carrier.Options{}))}
	cc := must(rpc.DialOver(d, rpc.ClientConfig{HTTP2: true}))
	defer cc.Close()
	stub := storepb.NewStoreClient(cc)
	for range 2 {
		var b bytes.Buffer
		p.store.call = run(func() *sideeffect.Descriptor { return up(sideeffect.Buffer(&b)) }, sideeffect.AwaitRemote)
		effect := up(sideeffect.Memory(content(100 << 10)))
		if _, err := stub.Call(ctx, &storepb.Item{}, rpc.With(effect), grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
		wantSuccess(t, effect, 100<<10)
		for _, c := range d.leadTo(d.lead) {
			c.Close()
		}
	}
}

// TestSmallMessages: who has set a limit below any message of the stream road, whose first are of 8 KiB, is told what to set.
func TestSmallMessages(t *testing.T) {
	p, ctx := start(t, "http2", setup{server: []grpc.ServerOption{grpc.MaxRecvMsgSize(6 << 10)}}), within(t)
	var handled error
	p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
		r, err := run(func() *sideeffect.Descriptor { return up(sideeffect.Writer(io.Discard)) }, sideeffect.AwaitRemote)(ctx, i)
		handled = err
		return r, err
	}
	d := up(sideeffect.Memory(content(16 << 20)))
	_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
	for where, err := range map[string]error{"the call": err, "the handler": handled} {
		if err == nil || !strings.Contains(err.Error(), "MaxRecvMsgSize") {
			t.Errorf("%s says: %v", where, err)
		}
	}
}
