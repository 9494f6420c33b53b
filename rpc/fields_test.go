package rpc

import (
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/rpcpb"
)

// The messages that are written and read by hand are those of effects.proto:
// generated code makes the same bytes, and reads the same values out of them.

func drawSum(t *rapid.T) sideeffect.Sum {
	a := sideeffect.Algorithm(rapid.IntRange(0, int(sideeffect.BLAKE3)).Draw(t, "algorithm"))
	if a == sideeffect.None {
		return sideeffect.Sum{}
	}
	return sideeffect.Sum{Algorithm: a, Bytes: rapid.SliceOfN(rapid.Byte(), a.Size(), a.Size()).Draw(t, "sum")}
}

// agree marshals m, which has to give the bytes written by hand.
func agree(t *rapid.T, byHand []byte, m proto.Message) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil || !reflect.DeepEqual(append([]byte{}, b...), append([]byte{}, byHand...)) {
		t.Fatalf("by hand  %x\ngenerated %x, %v", byHand, b, err)
	}
}

func TestAskByHand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := &ask{carried: rapid.Bool().Draw(t, "carried")}
		copy(a.call[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "call"))
		m := &rpcpb.Ask{Call: a.call[:]}
		if a.carried {
			a.session, a.token = [16]byte{1}, [16]byte{2}
			m.Session, m.Token = a.session[:], a.token[:]
		}
		for range rapid.IntRange(1, MaxEffects).Draw(t, "effects") {
			o := offer{
				direction: sideeffect.Direction(rapid.IntRange(1, 2).Draw(t, "direction")), kind: rapid.SampledFrom([]string{"", "file", "pipe", "ä"}).Draw(t, "kind"),
				road: sideeffect.Road(rapid.IntRange(0, 3).Draw(t, "road")), size: rapid.Int64Range(-1, 1<<62).Draw(t, "size"),
				limit: rapid.Int64Range(-1, 1<<62).Draw(t, "limit"), inline: rapid.Bool().Draw(t, "inline"), optional: rapid.Bool().Draw(t, "optional"),
				hash: sideeffect.Algorithm(rapid.IntRange(0, 3).Draw(t, "hash")), compress: sideeffect.Compression(rapid.IntRange(0, 3).Draw(t, "compress")),
				policy: sideeffect.OverQuota(rapid.IntRange(0, 1).Draw(t, "policy")),
			}
			a.effects = append(a.effects, o)
			m.Effects = append(m.Effects, &rpcpb.EffectAsk{
				Direction: rpcpb.Direction(o.direction), Kind: o.kind, Road: rpcpb.Road(o.road), Size: o.size + 1, Limit: o.limit + 1,
				InlineOk: o.inline, Optional: o.optional, Hash: uint32(o.hash), Compress: uint32(o.compress), Cut: o.policy == sideeffect.Cut,
			})
		}
		b, err := a.encode()
		if err != nil {
			t.Fatal(err)
		}
		agree(t, b, m)
		if got, err := parseAsk(b); err != nil || !reflect.DeepEqual(got, a) {
			t.Fatalf("%+v became %+v, %v", a, got, err)
		}
	})
}

func TestAnswerByHand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var outs []outcome
		m := &rpcpb.Answer{}
		for i := range rapid.IntRange(1, MaxEffects).Draw(t, "outcomes") {
			o := outcome{status: sideeffect.Status(rapid.IntRange(0, 3).Draw(t, "status")), bytes: rapid.Int64Range(0, 1<<62).Draw(t, "bytes"), road: sideeffect.Road(rapid.IntRange(0, 3).Draw(t, "road"))}
			p := &rpcpb.Outcome{Index: uint32(i), Status: rpcpb.Status(o.status), Bytes: o.bytes, Road: rpcpb.Road(o.road)}
			if rapid.Bool().Draw(t, "failed") {
				f := fault.FromPeer("store", fault.NoSpace, rapid.StringN(0, 100, 400).Draw(t, "text"))
				f.Side = rapid.SampledFrom([]fault.Side{fault.Here, fault.Peer, fault.Inferred}).Draw(t, "side")
				o.err = f
				p.Fault = faultProto(o.err, i)
				p.Fault.Text = clip(p.Fault.Text, maxCause)
			}
			if rapid.Bool().Draw(t, "judged") {
				o.verdict = &sideeffect.Verdict{Bytes: rapid.Int64Range(0, 1<<62).Draw(t, "stored"), Durable: 3, QuotaExceeded: rapid.Bool().Draw(t, "over"), Hash: drawSum(t)}
				p.Verdict = verdictProto(*o.verdict)
			}
			outs, m.Outcomes = append(outs, o), append(m.Outcomes, p)
		}
		b, err := encodeAnswer(outs)
		if err != nil {
			t.Fatal(err)
		}
		agree(t, b, m)
		got, err := parseAnswer(b, len(outs))
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range got {
			if fault.KindOf(o.err) != fault.KindOf(outs[i].err) || (o.err == nil) != (outs[i].err == nil) {
				t.Fatalf("%v became %v", outs[i].err, o.err)
			}
			if o.err != nil && sideIn(o.err) != [...]fault.Side{fault.Peer, fault.Here, fault.Inferred}[sideIn(outs[i].err)] {
				t.Fatalf("a failure of side %v became one of side %v", sideIn(outs[i].err), sideIn(o.err))
			}
			if v := o.verdict; v != nil {
				v.Err = nil
			}
			o.err, outs[i].err = nil, nil
			if !reflect.DeepEqual(o, outs[i]) {
				t.Fatalf("%+v became %+v", outs[i], o)
			}
		}
	})
}

func TestCargoByHand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var loads []cargo
		m := &rpcpb.Inline{}
		for i := range rapid.IntRange(1, MaxEffects).Draw(t, "effects") {
			c := cargo{index: i, data: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data"), end: sideeffect.End{Hash: drawSum(t), Cut: rapid.Bool().Draw(t, "cut")}}
			c.end.QuotaExceeded, c.end.Total, c.root = c.end.Cut, int64(len(c.data)), rootOf(c.data)
			c.source = sourceHalf{size: rapid.Int64Range(-1, 1<<62).Draw(t, "size"), hash: c.end.Hash.Algorithm}
			loads = append(loads, c)
			m.Effects = append(m.Effects, &rpcpb.InlineEffect{Index: uint32(i), Data: c.data, Source: c.source.proto(), End: endProto(c.end), Root: c.root[:]})
		}
		b, err := appendCargo(nil, InlineRequestField, loads)
		if err != nil {
			t.Fatal(err)
		}
		_, _, tag := protowire.ConsumeTag(b)
		payload, _ := protowire.ConsumeBytes(b[tag:])
		back := &rpcpb.Inline{}
		if err := proto.Unmarshal(payload, back); err != nil || !proto.Equal(back, m) {
			t.Fatalf("generated code reads %v, %v; want %v", back, err, m)
		}
		generated, err := proto.Marshal(m) // an empty content is not there at all
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{payload, generated} {
			got, err := parseCargo(b)
			if err != nil || len(got) != len(loads) {
				t.Fatalf("%d contents, %v", len(got), err)
			}
			for i := range got {
				if len(got[i].data) == 0 {
					got[i].data = loads[i].data
				}
			}
			if !reflect.DeepEqual(got, loads) {
				t.Fatalf("%+v became %+v", loads, got)
			}
		}
	})
}

// TestFieldsRefuse: what generated code would take for an unknown field, cut to
// width or replace is refused.
func TestFieldsRefuse(t *testing.T) {
	tag := func(num protowire.Number, kind protowire.Type) []byte { return protowire.AppendTag(nil, num, kind) }
	number := func(num protowire.Number, n uint64) []byte {
		return protowire.AppendVarint(tag(num, protowire.VarintType), n)
	}
	text := func(num protowire.Number, s string) []byte {
		return protowire.AppendString(tag(num, protowire.BytesType), s)
	}
	call := text(1, strings.Repeat("c", 16))
	good := string(number(1, 1))
	for name, b := range map[string][]byte{
		"no direction":          append(call, text(4, "")...),
		"direction 3":           append(call, text(4, string(number(1, 3)))...),
		"direction beyond 32":   append(call, text(4, string(number(1, 1<<32+1)))...),
		"negative size":         append(call, text(4, good+string(number(4, 1<<63)))...),
		"kind not UTF-8":        append(call, text(4, good+string(text(2, "\xff")))...),
		"kind too long":         append(call, text(4, good+string(text(2, strings.Repeat("k", sideeffect.MaxKindName+1))))...),
		"hash 4":                append(call, text(4, good+string(number(8, 4)))...),
		"size as bytes":         append(call, text(4, good+string(text(4, "1")))...),
		"effects as a number":   append(call, number(4, 1)...),
		"short call":            append(text(1, "c"), text(4, good)...),
		"no call":               text(4, good),
		"token without session": append(append(text(3, strings.Repeat("t", 16)), call...), text(4, good)...),
		"cut off":               append(call, tag(4, protowire.BytesType)...),
		"no effects":            call,
		"17 effects":            append(call, []byte(strings.Repeat(string(text(4, good)), MaxEffects+1))...),
	} {
		if a, err := parseAsk(b); err == nil || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	if _, err := parseAsk(append(append(call, number(99, 5)...), text(4, good+string(text(77, "later")))...)); err != nil {
		t.Errorf("fields of a later version: %v", err)
	}
}
