package rpc_test

import (
	"context"
	"testing"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
)

// BenchmarkUp is a unary call with 16 KiB towards the server over loopback TCP:
// none of it, in a bytes field, as a side effect inside the message.
// `pannier bench rpc` measures the same between processes.
func BenchmarkUp(b *testing.B) {
	payload := make([]byte, 16<<10)
	into := make([]byte, 16<<10)
	for _, tc := range []struct {
		name string
		req  *storepb.Item
		with bool
	}{{"none", &storepb.Item{}, false}, {"field", &storepb.Item{Body: payload}, false}, {"inline", &storepb.Item{}, true}} {
		b.Run(tc.name, func(b *testing.B) {
			p := start(b, "tcp", setup{})
			p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
				se, err := rpc.SideEffect(ctx)
				if !tc.with {
					copy(into, i.Body)
					return &storepb.Receipt{}, nil
				}
				if err != nil {
					return nil, err
				}
				d := sideeffect.Descriptor{Direction: sideeffect.ClientToServer, Local: sideeffect.Memory(into), Quota: sideeffect.NoQuota}
				return &storepb.Receipt{}, se.Run(ctx, &d, sideeffect.AwaitRemote)
			}
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if tc.with {
					d := sideeffect.Descriptor{Direction: sideeffect.ClientToServer, Local: sideeffect.Memory(payload), Quota: sideeffect.NoQuota}
					_, err = p.stub.Call(b.Context(), tc.req, rpc.With(&d))
				} else {
					_, err = p.stub.Call(b.Context(), tc.req)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
