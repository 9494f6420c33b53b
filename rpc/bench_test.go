package rpc_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
)

// BenchmarkCall is a unary call over loopback TCP with 16 KiB towards the server
// or back: none of it, in a bytes field, as a side effect inside the message.
// `pannier bench rpc` measures the same between processes.
func BenchmarkCall(b *testing.B) {
	b.Run("none", func(b *testing.B) { benchCalls(b, &storepb.Item{}, 0) })
	b.Run("field-up", func(b *testing.B) { benchCalls(b, &storepb.Item{Body: make([]byte, benchSize)}, 0) })
	b.Run("inline-up", func(b *testing.B) { benchCalls(b, &storepb.Item{}, sideeffect.ClientToServer) })
	b.Run("field-down", func(b *testing.B) { benchCalls(b, &storepb.Item{Name: "body"}, 0) })
	b.Run("inline-down", func(b *testing.B) { benchCalls(b, &storepb.Item{}, sideeffect.ServerToClient) })
}

const benchSize = 16 << 10

// benchCalls times calls with an effect in the given direction, or none.
func benchCalls(b *testing.B, req *storepb.Item, direction sideeffect.Direction) {
	here, there := make([]byte, benchSize), make([]byte, benchSize)
	p := start(b, "tcp", setup{})
	p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
		if i.Name != "" {
			return &storepb.Receipt{Item: &storepb.Item{Body: there}}, nil
		}
		if direction == 0 {
			copy(there, i.Body)
			return &storepb.Receipt{}, nil
		}
		se, err := rpc.SideEffect(ctx)
		if err != nil {
			return nil, err
		}
		d := sideeffect.Descriptor{Direction: direction, Local: sideeffect.Memory(there), Quota: sideeffect.NoQuota}
		return &storepb.Receipt{}, se.Run(ctx, &d, sideeffect.AwaitLocal)
	}
	call := func() error {
		if direction == 0 {
			_, err := p.stub.Call(b.Context(), req)
			return err
		}
		d := sideeffect.Descriptor{Direction: direction, Local: sideeffect.Memory(here), Quota: sideeffect.NoQuota}
		_, err := p.stub.Call(b.Context(), req, rpc.With(&d))
		return err
	}
	b.ReportAllocs()
	before := processorTime(b)
	for b.Loop() {
		if err := call(); err != nil {
			b.Fatal(err)
		}
	}
	used := processorTime(b) - before
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-us/op")
}

// processorTime is what this process, which is both ends of the call, has used:
// steadier than wall time on a machine that does other things too.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
