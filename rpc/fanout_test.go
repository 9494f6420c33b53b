package rpc_test

import (
	"bytes"
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// TestFanout: one request to many, on all carriers, with the source read once;
// one target omitted, one failing.
func TestFanout(t *testing.T) {
	for _, n := range []int{100, 1 << 20} {
		ctx := within(t)
		var targets []rpc.Target
		stored := make([]bytes.Buffer, len(carriers))
		for i, name := range carriers {
			p := start(t, name, setup{})
			p.store.call = run(func() *sideeffect.Descriptor { return up(sideeffect.Buffer(&stored[i])) }, sideeffect.AwaitRemote)
			switch i {
			case 1:
				p.store.call = func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
					if len(rpc.SideEffects(ctx)) != 0 {
						t.Error("the omitted effect was offered")
					}
					return &storepb.Receipt{Name: "omitted"}, nil
				}
			case 2:
				p.store.call = func(context.Context, *storepb.Item) (*storepb.Receipt, error) {
					return nil, status.Error(codes.DataLoss, "no")
				}
			}
			d := up(nil)
			d.Hash = sideeffect.SHA256
			targets = append(targets, rpc.Target{Conn: p.cc, Descriptor: d, Omit: i == 1, Reply: &storepb.Receipt{}})
		}
		source := &watched{Identity: sideeffect.Memory(content(n))}
		told := 0
		f := rpc.Fanout{
			Method: storepb.Store_Call_FullMethodName, Request: &storepb.Item{Name: "to all"}, Source: source,
			Stop: func(rpc.TargetResult) bool { told++; return false },
		}
		results, err := f.Call(ctx, targets)
		if err != nil || len(results) != len(targets) || told != len(targets) {
			t.Fatal(err, results, told)
		}
		for i, r := range results {
			d := targets[i].Descriptor
			switch i {
			case 1:
				if r.Err != nil || d.LocalStatus != sideeffect.NotStarted || targets[i].Reply.(*storepb.Receipt).GetName() != "omitted" {
					t.Errorf("omitted: %v, %+v", r.Err, d.Result)
				}
			case 2:
				wantCode(t, r.Err, codes.DataLoss)
			default:
				if r.Err != nil || !bytes.Equal(stored[i].Bytes(), content(n)) {
					t.Fatalf("target %d: %v", i, r.Err)
				}
				wantSuccess(t, d, n)
				if d.Local != nil || d.Digest.IsZero() {
					t.Errorf("target %d: local %v, digest %v", i, d.Local, d.Digest)
				}
			}
		}
		if source.opened.Load() != 1 || source.read.Load() != int64(n) {
			t.Errorf("the source was opened %d times, and %d bytes of %d read", source.opened.Load(), source.read.Load(), n)
		}
	}
}

// TestFanoutStop: the first answer is enough; the others are cut off.
func TestFanoutStop(t *testing.T) {
	ctx := within(t)
	var targets []rpc.Target
	for i := range 3 {
		p := start(t, "tcp", setup{})
		p.store.call = func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
			if i > 0 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			var b bytes.Buffer
			return run(func() *sideeffect.Descriptor { return up(sideeffect.Buffer(&b)) }, sideeffect.AwaitRemote)(ctx, &storepb.Item{})
		}
		targets = append(targets, rpc.Target{Conn: p.cc, Descriptor: up(nil), Reply: &storepb.Receipt{}})
	}
	f := rpc.Fanout{
		Method: storepb.Store_Call_FullMethodName, Request: &storepb.Item{}, Source: sideeffect.Reader(bytes.NewReader(content(100<<10)), -1),
		Stop: func(r rpc.TargetResult) bool { return r.Err == nil },
	}
	results, err := f.Call(ctx, targets)
	if err != nil || results[0].Err != nil {
		t.Fatal(err, results)
	}
	wantSuccess(t, targets[0].Descriptor, 100<<10)
	for _, r := range results[1:] {
		wantCode(t, r.Err, codes.Canceled)
	}
}

func TestFanoutArguments(t *testing.T) {
	d := up(sideeffect.Memory(nil))
	p := start(t, "tcp", setup{})
	for _, c := range []struct {
		name    string
		targets []rpc.Target
	}{
		{"no connection", []rpc.Target{{Reply: &storepb.Receipt{}}}},
		{"no reply", []rpc.Target{{Conn: p.cc}}},
		{"no local", []rpc.Target{{Conn: p.cc, Reply: &storepb.Receipt{}, Descriptor: up(nil)}}},
		{"one descriptor twice", []rpc.Target{{Conn: p.cc, Reply: &storepb.Receipt{}, Descriptor: d}, {Conn: p.cc, Reply: &storepb.Receipt{}, Descriptor: d}}},
		{"too many", make([]rpc.Target, rpc.MaxTargets+1)},
	} {
		_, err := rpc.Fanout{Method: storepb.Store_Call_FullMethodName, Request: &storepb.Item{}}.Call(within(t), c.targets)
		t.Run(c.name, func(t *testing.T) { wantKind(t, err, fault.Invalid) })
	}
}

// TestFanoutOpening: a shared source that takes a time to open is not waited for when the context has ended.
func TestFanoutOpening(t *testing.T) {
	p := start(t, "tcp", setup{})
	ctx, cancel := context.WithCancel(within(t))
	f := rpc.Fanout{
		Method: storepb.Store_Call_FullMethodName, Request: &storepb.Item{},
		Source: slow{sideeffect.Memory(nil), func() { cancel() }},
	}
	_, err := f.Call(ctx, []rpc.Target{{Conn: p.cc, Reply: &storepb.Receipt{}, Descriptor: up(nil)}})
	wantKind(t, err, fault.Canceled)
}
