package rpc

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"pgregory.net/rapid"

	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

func someAsk() *ask {
	return &ask{call: callID{1}, effects: []offer{
		{direction: sideeffect.ClientToServer, size: 7, limit: sideeffect.NoQuota, road: sideeffect.RoadInline, hash: sideeffect.SHA256},
		{direction: sideeffect.ServerToClient, kind: "pipe", size: -1, limit: 0, policy: sideeffect.Cut, inline: true, optional: true, compress: sideeffect.CompressS2},
	}}
}

func FuzzAsk(f *testing.F) {
	b, err := someAsk().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	carried := someAsk()
	carried.carried, carried.session, carried.token = true, [16]byte{2}, [16]byte{3}
	b, _ = carried.encode()
	f.Add(b)
	f.Add([]byte{})
	f.Add(make([]byte, maxAsk+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAsk(b)
		if err != nil {
			if k := fault.KindOf(err); k != fault.Invalid && k != fault.TooLong {
				t.Fatalf("kind %v", k)
			}
			return
		}
		again, err := a.encode()
		if err != nil {
			if fault.KindOf(err) == fault.TooLong { // non-minimal input
				return
			}
			t.Fatal(err)
		}
		c, err := parseAsk(again)
		if err != nil || !reflect.DeepEqual(a, c) {
			t.Fatalf("%+v became %+v: %v", a, c, err)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	b, err := encodeAnswer([]outcome{
		{status: sideeffect.Success, bytes: 3, road: sideeffect.RoadInline, verdict: &sideeffect.Verdict{Bytes: 3}},
		{status: sideeffect.Failure, err: fault.New("x", fault.NoSpace, "full")},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, 2)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		outs, err := parseAnswer(b, n)
		if err != nil {
			return
		}
		if len(outs) != n || n > maxAnswer {
			t.Fatalf("%d outcomes, want %d", len(outs), n)
		}
		for _, o := range outs {
			if o.bytes < 0 || o.err != nil && len(fault.Text(o.err)) > fault.MaxText {
				t.Fatalf("%+v", o)
			}
		}
	})
}

func FuzzMeta(f *testing.F) {
	source := &sourceHalf{size: 10, hash: sideeffect.SHA512, compress: sideeffect.CompressZstd, start: 4}
	sink := &sinkHalf{limit: sideeffect.NoQuota, policy: sideeffect.Cut, resume: sideeffect.ResumePoint{BlockSize: 4096, Offset: 8192}}
	for _, o := range []opening{{call: callID{1}, index: 3, source: source}, {sink: sink, fresh: true}, {}} {
		b, err := o.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	b, _ := (accepting{source: source}).encode()
	f.Add(b)
	b, _ = proto.Marshal(endProto(sideeffect.End{Total: 5, Cut: true}))
	f.Add(b)
	b, _ = proto.Marshal(verdictProto(sideeffect.Verdict{Bytes: 5, Err: fault.New("x", fault.IO, "y")}))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := parseOpening(b); err == nil {
			again, err := o.encode()
			if err != nil {
				t.Fatal(err)
			}
			if p, err := parseOpening(again); err != nil || !reflect.DeepEqual(normal(o), normal(p)) {
				t.Fatalf("%+v became %+v: %v", o, p, err)
			}
		}
		for _, want := range []bool{true, false} {
			if a, err := parseAccepting(b, want); err == nil && (a.source != nil) != want {
				t.Fatal("the wrong half")
			}
		}
		if e, err := parseEnd(b); err == nil && e.Total < 0 {
			t.Fatal("negative total")
		}
		if v, err := parseVerdict(b); err == nil && (v.Bytes < 0 || v.Durable < 0) {
			t.Fatal("negative verdict")
		}
	})
}

// normal leaves out resume points that mean the same: from the first byte.
func normal(o opening) opening {
	if o.sink != nil && o.sink.resume.Offset == 0 {
		s := *o.sink
		s.resume = sideeffect.ResumePoint{}
		o.sink = &s
	}
	return o
}

func FuzzCargo(f *testing.F) {
	f.Add([]byte{})
	for _, loads := range [][]cargo{{{data: []byte("abc"), source: sourceHalf{size: 3}, end: sideeffect.End{Total: 3}}}} {
		b, err := appendCargo(nil, InlineRequestField, loads)
		if err != nil {
			f.Fatal(err)
		}
		_, _, n := protowire.ConsumeTag(b)
		payload, _ := protowire.ConsumeBytes(b[n:])
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		loads, err := parseCargo(b)
		if err != nil {
			return
		}
		total := 0
		for _, l := range loads {
			total += len(l.data)
		}
		if total > MaxInline || len(loads) > MaxEffects {
			t.Fatalf("%d bytes in %d effects", total, len(loads))
		}
	})
}

// FuzzCut: whatever unknown fields a message has, taking ours out leaves all
// others byte for byte and in order.
func FuzzCut(f *testing.F) {
	field := protowire.AppendBytes(protowire.AppendTag(nil, InlineRequestField, protowire.BytesType), []byte("x"))
	other := protowire.AppendVarint(protowire.AppendTag(nil, 9, protowire.VarintType), 300)
	f.Add(field)
	f.Add(append(bytes.Clone(other), field...))
	f.Add(append(append(bytes.Clone(field), other...), field...))
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		rest, payload, found, err := cut(b, InlineRequestField)
		if err != nil {
			return
		}
		if !found && !bytes.Equal(rest, b) {
			t.Fatal("changed without a field")
		}
		if found && len(rest)+len(payload) >= len(b) {
			t.Fatal("more came out than was in")
		}
		if _, _, again, err := cut(rest, InlineRequestField); again || err != nil {
			t.Fatalf("still there: %v", err)
		}
	})
}

// TestEnvelopes: a message with contents around it is encoded as the message and
// the field, once; decoded, it is the message and the contents again.
func TestEnvelopes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &storepb.Receipt{
			Name: rapid.String().Draw(t, "name"), Bytes: rapid.Int64().Draw(t, "bytes"),
			Notes:  rapid.SliceOf(rapid.String()).Draw(t, "notes"),
			Counts: rapid.MapOf(rapid.String(), rapid.Int64()).Draw(t, "counts"),
		}
		if rapid.Bool().Draw(t, "item") {
			m.Item = &storepb.Item{Body: rapid.SliceOf(rapid.Byte()).Draw(t, "body")}
		}
		m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 5))
		before := proto.Clone(m)
		data := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "data")
		cargoes := []cargo{{index: 3, data: data, root: rootOf(data)}}
		bare, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		packed, err := seal(m.ProtoReflect(), cargoes, newCarryPool())
		if err != nil {
			t.Fatal(err)
		}
		size := proto.Size(packed)
		wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(packed)
		if err != nil || !proto.Equal(m, before) || len(wire) != size {
			t.Fatalf("%d bytes of %d, or the message changed: %v", len(wire), size, err)
		}
		if again, err := proto.Marshal(packed); err != nil || len(again) != len(bare) {
			t.Fatalf("encoded again it has %d bytes, the message %d: %v", len(again), len(bare), err)
		}
		rest, payload, found, err := cut(wire, InlineReplyField)
		got := &storepb.Receipt{}
		if err := errors.Join(err, proto.Unmarshal(rest, got)); err != nil || !found || !proto.Equal(got, before) {
			t.Fatalf("found %v, %v; %v became %v", found, err, before, got)
		}
		asked, err := appendCargo(nil, InlineRequestField, cargoes)
		if err != nil {
			t.Fatal(err)
		}
		got = &storepb.Receipt{Name: "of an earlier use"}
		o := &opened{Message: got.ProtoReflect(), memory: newCarryPool()}
		whole := slices.Concat(asked, bare)
		if rapid.Bool().Draw(t, "behind") {
			whole = slices.Concat(bare, asked)
		}
		if err := errors.Join(proto.Unmarshal(whole, o), o.err); err != nil || !proto.Equal(got, before) {
			t.Fatalf("%v; %v became %v", err, before, got)
		}
		clear(whole) // it was only lent
		if mine, err := parseCargo(o.payload); err != nil || len(mine) != 1 || !bytes.Equal(mine[0].data, data) {
			t.Fatalf("%v, %v", mine, err)
		}
		loads, err := parseCargo(payload)
		if err != nil || len(loads) != 1 || loads[0].index != 3 || !bytes.Equal(loads[0].data, data) {
			t.Fatalf("%v, %v", loads, err)
		}
	})
}

// TestCarryPool: memory that many waiting calls hold is as large as their contents; what is
// larger comes back.
func TestCarryPool(t *testing.T) {
	p := newCarryPool()
	for _, n := range []int{0, 1, 4001, carryLeast} {
		if b := *p.Get(n); len(b) != n || cap(b) > n+n/4+16 {
			t.Errorf("%d bytes take %d", n, cap(b))
		}
	}
	for n, want := range map[int]int{carryLeast + 1: carrySmall, carrySmall: carrySmall, carrySmall + 1: carryLarge, carryLarge: carryLarge} {
		b := p.Get(n)
		if len(*b) != n || cap(*b) != want {
			t.Errorf("%d bytes are %d of %d, want of %d", n, len(*b), cap(*b), want)
		}
		p.Put(b)
	}
	for range 100 { // what is not of the pool is not kept
		p.put(make([]byte, carryLeast))
		p.put(make([]byte, carrySmall+1))
	}
	if b := *p.Get(carrySmall); len(b) != carrySmall {
		t.Errorf("%d bytes, want %d", len(b), carrySmall)
	}
	if b := *p.Get(carryLarge); len(b) != carryLarge {
		t.Errorf("%d bytes, want %d", len(b), carryLarge)
	}
}

// TestCargoIsCopied: what gRPC still sends after a cancelled call does not share
// memory with the source, nor with what the pool has handed out since.
func TestCargoIsCopied(t *testing.T) {
	data, pool := bytes.Repeat([]byte("content"), 2000), newCarryPool() // more than carryLeast
	d := sideeffect.Descriptor{Direction: sideeffect.ClientToServer, Local: sideeffect.Memory(data), Quota: sideeffect.NoQuota}
	c := newCall(t.Context(), []*sideeffect.Descriptor{&d})
	if err := c.openSources(); err != nil {
		t.Fatal(err)
	}
	defer c.close()
	c.effects[0].inline = &packer{memory: pool, room: len(data) + 1}
	field, err := c.pack(pool)
	if err != nil {
		t.Fatal(err)
	}
	codec := newInlineCodec(field, false)
	out, err := codec.Marshal(&emptypb.Empty{}) // gRPC's hold on it
	if err != nil {
		t.Fatal(err)
	}
	before := out.Materialize()
	codec.free() // the call is over
	copy(data, "changed")
	for range 10 {
		copy(*pool.Get(carrySmall), "overwritten by the next call")
	}
	if got := out.Materialize(); !bytes.Equal(got, before) || !bytes.Contains(got, []byte("content")) {
		t.Fatalf("%q became %q", before, got)
	}
	out.Free()
}

// TestKindsCross: every kind of failure crosses the wire as itself, inside a
// status whose code gRPC tools understand.
func TestKindsCross(t *testing.T) {
	for _, k := range fault.Kinds() {
		err := asCall(fault.New("op", k, "text %d", k), 2)
		if got := status.Code(err); got != Code(k) || got == codes.OK || got == codes.Unknown {
			t.Errorf("%v travels as %v", k, got)
		}
		wire := status.FromProto(status.Convert(err).Proto()).Err()
		back := fromCall("call", wire)
		var f *fault.Error
		if !errors.As(back, &f) || f.Kind != k || f.Side != fault.Peer || status.Code(back) != Code(k) {
			t.Errorf("%v became %v", k, back)
		}
		if asCall(back, 0) != back || fromCall("again", back) != back {
			t.Errorf("%v is translated twice", k)
		}
	}
	plain := status.Error(codes.NotFound, "user's")
	if asCall(plain, 0) != plain || fromCall("x", plain) != plain || asCall(nil, 0) != nil || fromCall("x", nil) != nil {
		t.Error("a status without a fault was changed")
	}
	for c, kind := range map[codes.Code]fault.Kind{codes.Canceled: fault.Canceled, codes.DeadlineExceeded: fault.Deadline, codes.Unavailable: fault.Lost} {
		made := status.Error(c, "as gRPC says it") // of itself
		back := fromCall("call", made)
		var f *fault.Error
		if !errors.As(back, &f) || f.Kind != kind || f.Side == fault.Peer || status.Code(back) != c || !strings.Contains(back.Error(), "as gRPC says it") {
			t.Errorf("%v became %v", made, back)
		}
	}
	if Code(fault.Kind(999)) != codes.Internal {
		t.Error("a kind of a later version")
	}
}

// TestAnswerFits: sixteen failures with the longest texts fit the trailer.
func TestAnswerFits(t *testing.T) {
	var outs []outcome
	for range MaxEffects {
		outs = append(outs, outcome{status: sideeffect.Failure, bytes: 1 << 62, road: sideeffect.RoadStream,
			err:     fault.FromPeer("x", fault.IO, strings.Repeat("ä", 600)),
			verdict: &sideeffect.Verdict{Bytes: 1 << 62, Durable: 1 << 62, Hash: sideeffect.Sum{Algorithm: sideeffect.SHA512, Bytes: make([]byte, 64)}}})
	}
	b, err := encodeAnswer(outs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseAnswer(b, MaxEffects); err != nil {
		t.Fatal(err)
	}
	var offers []offer
	for range MaxEffects {
		offers = append(offers, offer{direction: 1, kind: "pipe", road: 3, size: 1 << 62, limit: -1, inline: true, optional: true, hash: 3, compress: 3})
	}
	if _, err := (&ask{carried: true, effects: offers}).encode(); err != nil {
		t.Fatal(err)
	}
}

// TestSplitAllocates: a call without side effects costs the client nothing.
func TestSplitAllocates(t *testing.T) {
	opts := []grpc.CallOption{grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(1)}
	if n := testing.AllocsPerRun(100, func() { split(opts) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// appendCargo appends the field with its contents, which are copied; there is one
// at least.
func appendCargo(dst []byte, field protowire.Number, loads []cargo) ([]byte, error) {
	before, err := heads(field, loads)
	for i := range before {
		dst = append(append(dst, before[i]...), loads[i].data...)
	}
	return dst, err
}
