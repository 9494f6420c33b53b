package rpc_test

import (
	"bytes"
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/rpcpb"
)

// TestHostileServer: streams that belong to no running call, come twice or ask
// for another direction than was offered are refused, and read or write nothing.
func TestHostileServer(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	root, dir := rootOf(t)
	var old []byte // call id of a call that is over
	p.store.call = func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
		q, _ := peer.FromContext(ctx)
		session := q.AuthInfo.(rpc.AuthInfo).Session
		a := new(rpcpb.Ask)
		if err := proto.Unmarshal([]byte(metadata.ValueFromIncomingContext(ctx, rpc.MetadataKey)[0]), a); err != nil {
			return nil, err
		}
		sink, source := &rpcpb.Sink{}, &rpcpb.Source{}
		try := func(name string, want fault.Kind, send bool, o *rpcpb.Open) {
			t.Helper()
			meta, _ := proto.Marshal(o)
			bs, err := session.OpenBlocks(ctx, flow.Open{Kind: "effect", Meta: meta, Send: send})
			if err == nil {
				bs.Reset(nil)
				t.Fatalf("%s: accepted", name)
			}
			t.Run(name, func(t *testing.T) { wantKind(t, err, want) })
		}
		try("unknown call", fault.Stale, false, &rpcpb.Open{Call: make([]byte, 16), Sink: sink})
		try("bad call", fault.Protocol, false, &rpcpb.Open{Call: []byte{1}, Sink: sink})
		try("bad index", fault.Invalid, false, &rpcpb.Open{Call: a.Call, Index: 7, Sink: sink})
		try("huge index", fault.Protocol, false, &rpcpb.Open{Call: a.Call, Index: 1 << 31, Sink: sink})
		try("other direction", fault.Invalid, true, &rpcpb.Open{Call: a.Call, Source: source})
		try("other half", fault.Invalid, false, &rpcpb.Open{Call: a.Call, Source: source})
		try("no half", fault.Invalid, false, &rpcpb.Open{Call: a.Call})
		try("both halves", fault.Protocol, false, &rpcpb.Open{Call: a.Call, Sink: sink, Source: source})
		try("wrong way for a sink", fault.Invalid, false, &rpcpb.Open{Call: a.Call, Index: 1, Sink: sink})
		try("fresh before", fault.Invalid, true, &rpcpb.Open{Call: a.Call, Index: 0, Source: source, Fresh: true})
		if old != nil {
			try("call that is over", fault.Stale, false, &rpcpb.Open{Call: old, Sink: sink})
		}
		if _, err := session.OpenBytes(ctx, flow.Open{Kind: "effect", Meta: must(proto.Marshal(&rpcpb.Open{Call: a.Call}))}); err == nil {
			t.Error("a pipe was accepted for a file")
		}
		if _, err := session.OpenBytes(ctx, flow.Open{Kind: "shell"}); err == nil {
			t.Error("a stream of an unknown kind was accepted")
		}
		old = a.Call
		var b bytes.Buffer
		if err := rpc.SideEffects(ctx)[0].Run(ctx, up(sideeffect.Buffer(&b)), sideeffect.AwaitRemote); err != nil {
			return nil, err
		}
		try("twice", fault.Stale, false, &rpcpb.Open{Call: a.Call, Sink: sink})
		try("twice, fresh", fault.Stale, false, &rpcpb.Open{Call: a.Call, Sink: sink, Fresh: true})
		return &storepb.Receipt{}, nil
	}
	for range 2 {
		mine := up(sideeffect.Memory(content(100 << 10)))
		other := down(sideeffect.File(root, "x"))
		other.Optional = true
		if _, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(mine, other)); err != nil {
			t.Fatal(err)
		}
		wantSuccess(t, mine, 100<<10)
	}
	if len(entries(t, dir)) != 0 {
		t.Fatalf("left %v", entries(t, dir))
	}
}

// TestHostileClient: streams that a client opens are refused, contents that
// were not announced, or not as announced, are not given to the handler.
func TestHostileClient(t *testing.T) {
	p, ctx := start(t, "tcp", setup{withoutClient: true}), within(t)
	d := must(rpc.Dial(p.address, p.client))
	defer d.Close()
	stub := storepb.NewStoreClient(d)
	p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
		var b bytes.Buffer
		return run(func() *sideeffect.Descriptor { return up(sideeffect.Buffer(&b)) }, sideeffect.AwaitRemote)(ctx, i)
	}
	announce := func(id byte, e ...*rpcpb.EffectAsk) context.Context {
		b, _ := proto.Marshal(&rpcpb.Ask{Call: bytes.Repeat([]byte{id}, 16), Effects: e})
		return metadata.AppendToOutgoingContext(ctx, rpc.MetadataKey, string(b))
	}
	inline := &rpcpb.EffectAsk{Direction: rpcpb.Direction_DIRECTION_CLIENT_TO_SERVER, Road: rpcpb.Road_ROAD_INLINE}
	_, err := stub.Call(announce(1, inline), &storepb.Item{})
	wantKind(t, err, fault.Protocol) // promised, not there
	item := func(effects ...*rpcpb.InlineEffect) *storepb.Item {
		i := &storepb.Item{}
		b, _ := proto.Marshal(&rpcpb.Inline{Effects: effects})
		i.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, rpc.InlineRequestField, protowire.BytesType), b))
		return i
	}
	whole := func(index uint32, data []byte) *rpcpb.InlineEffect {
		root := [16]byte{}
		if len(data) > 0 {
			root = sideeffect.FoldRoot(root, 0, data)
		}
		return &rpcpb.InlineEffect{Index: index, Data: data, Source: &rpcpb.Source{}, End: &rpcpb.End{Total: int64(len(data))}, Root: root[:]}
	}
	if _, err := stub.Call(announce(2, inline), item(whole(0, []byte("good")))); err != nil {
		t.Fatal(err)
	}
	damaged := whole(0, []byte("good"))
	damaged.Data = []byte("evil")
	for i, c := range []struct {
		name string
		item *storepb.Item
		want fault.Kind
	}{
		{"damaged", item(damaged), fault.Corrupt},
		{"another index", item(whole(1, []byte("x"))), fault.Protocol},
		{"twice", item(whole(0, []byte("x")), whole(0, []byte("x"))), fault.Protocol},
		{"too much", item(whole(0, make([]byte, rpc.MaxInline+1))), fault.TooLong},
		{"nothing", item(), fault.Protocol},
		{"no end", item(&rpcpb.InlineEffect{Source: &rpcpb.Source{}, Root: make([]byte, 16)}), fault.Protocol},
	} {
		_, err := stub.Call(announce(byte(10+i), inline), c.item)
		t.Run(c.name, func(t *testing.T) { wantKind(t, err, c.want) })
	}
	got := new(peer.Peer)
	p.store.call = func(context.Context, *storepb.Item) (*storepb.Receipt, error) { return &storepb.Receipt{}, nil }
	if err := d.Invoke(ctx, storepb.Store_Call_FullMethodName, &storepb.Item{}, &storepb.Receipt{}, grpc.Peer(got)); err != nil {
		t.Fatal(err)
	}
	session := got.AuthInfo.(rpc.AuthInfo).Session
	_, err = session.OpenBlocks(ctx, flow.Open{Kind: "effect", Send: true})
	wantKind(t, err, fault.Unsupported)
}
