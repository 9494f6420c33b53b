package peer

import (
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/peerpb"
)

// written is the message of an ask, as it arrives.
func written(t testing.TB, a engine.Ask) proto.Message {
	t.Helper()
	_, m, err := writeAsk(&a)
	if err != nil {
		t.Fatal(err)
	}
	return proto.Clone(m)
}

// read is what a service does with a message.
func read(m proto.Message) (engine.Ask, error) {
	switch m := m.(type) {
	case *peerpb.RequestAsk:
		return readRequest(m)
	case *peerpb.TransferAsk:
		return readTransfer(m)
	case *peerpb.EndTransferAsk:
		return readEndTransfer(m)
	case *peerpb.EndRequestAsk:
		return readEndRequest(m)
	case *peerpb.StopAsk:
		return readStop(m)
	}
	panic("no message of the service")
}

func TestMethods(t *testing.T) {
	for m, want := range map[lifecycle.Move]string{
		lifecycle.Prepare: "Request", lifecycle.Transfer: "Transfer", lifecycle.EndTransfer: "EndTransfer", lifecycle.Acknowledge: "EndTransfer",
		lifecycle.EndRequest: "EndRequest", lifecycle.Finish: "EndRequest", lifecycle.Mismatch: "Stop",
	} {
		a := ask(m)
		if method, _, err := writeAsk(&a); err != nil || method != "/pannier.peer.v1.Peer/"+want {
			t.Errorf("%v goes by %s, %v; want %s", m, method, err, want)
		}
	}
	for _, a := range []engine.Ask{{Move: lifecycle.Nothing}, {Move: 99}, {Move: lifecycle.Finish, Side: lifecycle.Sender}, {Move: lifecycle.EndTransfer, Side: lifecycle.Receiver}} {
		if _, _, err := writeAsk(&a); fault.KindOf(err) != fault.Internal {
			t.Errorf("%v from a %v: %v", a.Move, a.Side, err)
		}
	}
}

// TestHostileCalls: everything out of bounds is refused as Invalid, the bounds
// themselves are not.
func TestHostileCalls(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	call := func(change func(*peerpb.Call)) func(proto.Message) {
		return func(m proto.Message) {
			switch m := m.(type) {
			case *peerpb.RequestAsk:
				change(m.Call)
			case *peerpb.TransferAsk:
				change(m.Call)
			case *peerpb.EndTransferAsk:
				change(m.Call)
			case *peerpb.EndRequestAsk:
				change(m.Call)
			case *peerpb.StopAsk:
				change(m.Call)
			}
		}
	}
	request := func(change func(*peerpb.RequestAsk)) func(proto.Message) {
		return func(m proto.Message) { change(m.(*peerpb.RequestAsk)) }
	}
	why := func(change func(*peerpb.Failure)) func(proto.Message) {
		return func(m proto.Message) { change(m.(*peerpb.StopAsk).Why) }
	}
	everywhere := []struct {
		what   string
		change func(proto.Message)
		good   bool
	}{
		{"no requester", call(func(c *peerpb.Call) { c.Requester = "" }), false},
		{"longest requester", call(func(c *peerpb.Call) { c.Requester = long(64) }), true},
		{"long requester", call(func(c *peerpb.Call) { c.Requester = long(65) }), false},
		{"requester not UTF-8", call(func(c *peerpb.Call) { c.Requester = "a\xff" }), false},
		{"no id", call(func(c *peerpb.Call) { c.Id = nil }), false},
		{"short id", call(func(c *peerpb.Call) { c.Id = c.Id[:15] }), false},
		{"long id", call(func(c *peerpb.Call) { c.Id = append(c.Id, 0) }), false},
		{"no side", call(func(c *peerpb.Call) { c.Side = 0 }), false},
		{"side 3", call(func(c *peerpb.Call) { c.Side = 3 }), false},
		{"side -1", call(func(c *peerpb.Call) { c.Side = -1 }), false},
		{"side 257", call(func(c *peerpb.Call) { c.Side = 257 }), false},
		{"attempt 0", call(func(c *peerpb.Call) { c.Attempt = 0 }), false},
		{"last attempt", call(func(c *peerpb.Call) { c.Attempt, c.Round = math.MaxUint32, math.MaxUint32 }), true},
		{"phase unknown", call(func(c *peerpb.Call) { c.Phase = 0 }), false},
		{"phase ACCEPTED", call(func(c *peerpb.Call) { c.Phase = 1 }), true},
		{"phase FINISHED", call(func(c *peerpb.Call) { c.Phase = 9 }), true},
		{"phase 10", call(func(c *peerpb.Call) { c.Phase = 10 }), false},
		{"phase -1", call(func(c *peerpb.Call) { c.Phase = -1 }), false},
		{"phase unheard", call(func(c *peerpb.Call) { c.Phase = 255 }), false},
		{"phase 257", call(func(c *peerpb.Call) { c.Phase = 257 }), false},
		{"no call", func(m proto.Message) { m.ProtoReflect().Clear(m.ProtoReflect().Descriptor().Fields().ByName("call")) }, false},
		{"nothing", func(m proto.Message) { proto.Reset(m) }, false},
	}
	for _, move := range moves {
		for _, tc := range everywhere {
			m := written(t, ask(move))
			tc.change(m)
			if _, err := read(m); (err == nil) != tc.good || err != nil && fault.KindOf(err) != fault.Invalid {
				t.Errorf("%v, %s: %v", move, tc.what, err)
			}
		}
	}
	for _, tc := range []struct {
		what   string
		move   lifecycle.Move
		change func(proto.Message)
		good   bool
	}{
		{"no rule", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Rule = "" }), false},
		{"longest rule", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Rule = long(64) }), true},
		{"long rule", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Rule = long(65) }), false},
		{"no source", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Source = "" }), false},
		{"source leads out", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Source = "../x" }), false},
		{"source is absolute", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Source = "/etc/passwd" }), false},
		{"source with NUL", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Source = "a\x00b" }), false},
		{"source with a line", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Source = "a\nb" }), false},
		{"long source", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Source = strings.Repeat("abc/", 257) + "d" }), false},
		{"target leads out", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Target = "a/../../x" }), false},
		{"no target", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Target = "" }), true},
		{"no bandwidth", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Bandwidth = 0 }), true},
		{"least bandwidth", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Bandwidth = 1000 }), true},
		{"largest bandwidth", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Bandwidth = math.MaxInt64 }), true},
		{"small bandwidth", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Bandwidth = 999 }), false},
		{"bandwidth -1", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Bandwidth = -1 }), false},
		{"priority 127", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Priority = 127 }), true},
		{"priority 128", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Priority = 128 }), false},
		{"priority -128", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Priority = -128 }), true},
		{"priority -129", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Priority = -129 }), false},
		{"short follow", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Follow = []byte{1} }), false},
		{"longest information", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Info = long(4096) }), true},
		{"most hops", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Hops = 255 }), true},
		{"more hops", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Hops = 256 }), false},
		{"long information", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Info = long(4097) }), false},
		{"information not UTF-8", lifecycle.Prepare, request(func(r *peerpb.RequestAsk) { r.Info = "\xc3" }), false},
		{"no reason", lifecycle.Mismatch, func(m proto.Message) { m.(*peerpb.StopAsk).Why = nil }, false},
		{"no kind", lifecycle.Mismatch, why(func(f *peerpb.Failure) { f.Kind = 0 }), false},
		{"kind of a later version", lifecycle.Mismatch, why(func(f *peerpb.Failure) { f.Kind = 65535 }), true},
		{"kind 65536", lifecycle.Mismatch, why(func(f *peerpb.Failure) { f.Kind = 65536 }), false},
		{"side of the failure", lifecycle.Mismatch, why(func(f *peerpb.Failure) { f.Side = 3 }), false},
		{"longest cause", lifecycle.Mismatch, why(func(f *peerpb.Failure) { f.Cause = long(1024) }), true},
		{"long cause", lifecycle.Mismatch, why(func(f *peerpb.Failure) { f.Cause = long(1025) }), false},
		{"cause not UTF-8", lifecycle.Mismatch, why(func(f *peerpb.Failure) { f.Cause = "\xff" }), false},
		{"times at the ends", lifecycle.Mismatch, why(func(f *peerpb.Failure) { f.At = math.MinInt64 }), true},
	} {
		m := written(t, ask(tc.move))
		tc.change(m)
		if _, err := read(m); (err == nil) != tc.good || err != nil && fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", tc.what, err)
		}
	}
}

// TestHostileAnswers: likewise for answers, as Protocol.
func TestHostileAnswers(t *testing.T) {
	for _, tc := range []struct {
		what   string
		change func(*peerpb.Answer)
		good   bool
	}{
		{"as it is", func(*peerpb.Answer) {}, true},
		{"no outcome", func(a *peerpb.Answer) { a.Outcome = 0 }, false},
		{"outcome 6", func(a *peerpb.Answer) { a.Outcome = 6 }, false},
		{"outcome 257", func(a *peerpb.Answer) { a.Outcome = 257 }, false},
		{"outcome -1", func(a *peerpb.Answer) { a.Outcome = -1 }, false},
		{"phase unknown", func(a *peerpb.Answer) { a.Phase = 0 }, true},
		{"phase 10", func(a *peerpb.Answer) { a.Phase = 10 }, false},
		{"phase -1", func(a *peerpb.Answer) { a.Phase = -1 }, false},
		{"rank -1", func(a *peerpb.Answer) { a.Rank = -1 }, false},
		{"size -2", func(a *peerpb.Answer) { a.Size = -1 }, false},
		{"largest", func(a *peerpb.Answer) { a.Rank, a.Size = math.MaxInt64, math.MaxInt64 }, true},
		{"bandwidth -1", func(a *peerpb.Answer) { a.Bandwidth = -1 }, false},
		{"bandwidth 1", func(a *peerpb.Answer) { a.Bandwidth = 1 }, true},
		{"wait -1", func(a *peerpb.Answer) { a.Wait = -1 }, false},
		{"wait a day", func(a *peerpb.Answer) { a.Wait = int64(maxWait) }, true},
		{"wait longer", func(a *peerpb.Answer) { a.Wait = int64(maxWait) + 1 }, false},
		{"failed for no reason", func(a *peerpb.Answer) { a.Failure = nil }, false},
		{"kind 65536", func(a *peerpb.Answer) { a.Failure.Kind = 65536 }, false},
		{"long cause", func(a *peerpb.Answer) { a.Failure.Cause = strings.Repeat("x", 1025) }, false},
	} {
		p := must(writeAnswer(&engine.Answer{Outcome: engine.Failed, Phase: lifecycle.Moving, Size: -1, Failure: lifecycle.Failure{Kind: fault.IO, Cause: "x"}}))
		tc.change(p)
		if _, err := readAnswer(p); (err == nil) != tc.good || err != nil && fault.KindOf(err) != fault.Protocol {
			t.Errorf("%s: %v", tc.what, err)
		}
	}
	if _, err := readAnswer(nil); fault.KindOf(err) != fault.Protocol {
		t.Error(err)
	}
	for _, a := range []engine.Answer{{}, {Outcome: 6}, {Outcome: engine.Served, Phase: lifecycle.Unheard}, {Outcome: engine.Served, Rank: -1}, {Outcome: engine.Served, Bandwidth: -1},
		{Outcome: engine.Served, Size: -2}, {Outcome: engine.Served, Size: math.MaxInt64}} {
		if _, err := writeAnswer(&a); fault.KindOf(err) != fault.Internal {
			t.Errorf("%+v travels: %v", a, err)
		}
	}
	if p := must(writeAnswer(&engine.Answer{Outcome: engine.Busy, Wait: 99 * maxWait})); p.Wait != int64(maxWait) {
		t.Errorf("asks to wait %d", p.Wait)
	}
}

// TestClip: what an engine says too long is cut where it is valid.
func TestClip(t *testing.T) {
	for _, cause := range []string{strings.Repeat("é", 1024), "x" + strings.Repeat("é", 1024), strings.Repeat("\xffx", 1024)} {
		p := writeFailure(lifecycle.Failure{Kind: fault.IO, Cause: cause})
		if f, err := readFailure(p); err != nil || len(f.Cause) < 1021 {
			t.Errorf("%d bytes: %v", len(f.Cause), err)
		}
	}
}

// FuzzRead: whatever arrives is refused as Invalid or fits into a record, and
// then travels on unchanged. The first byte says by which method it came.
func FuzzRead(f *testing.F) {
	for i, m := range moves {
		f.Add(append([]byte{byte(i)}, must(proto.Marshal(written(f, ask(m))))...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		m := written(t, ask(moves[int(b[0])%len(moves)]))
		if proto.Unmarshal(b[1:], m) != nil {
			return
		}
		a, err := read(m)
		if err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Fatal(err)
			}
			return
		}
		if a.Move == lifecycle.Prepare {
			spec := lifecycle.Spec{Partner: "x", Rule: a.Rule, Source: a.Source, Target: a.Target, Priority: a.Priority, Follow: a.Follow, Info: a.Info, Hops: a.Hops}
			if err := spec.Check(a.Key); err != nil {
				t.Fatalf("no record holds %+v: %v", a, err)
			}
		}
		again, err := read(written(t, a))
		if err != nil || again != a {
			t.Fatalf("%+v came back as %+v, %v", a, again, err)
		}
	})
}

// FuzzReply: likewise for answers and what Info tells, as Protocol.
func FuzzReply(f *testing.F) {
	f.Add(must(proto.Marshal(must(writeAnswer(&engine.Answer{Outcome: engine.Busy, Rank: 1, Size: 2, Wait: 3})))))
	f.Add(must(proto.Marshal(&peerpb.InfoReply{Node: &peerpb.Node{Name: "x"}, Page: &peerpb.Page{Entries: []*peerpb.Entry{{Name: "a", Kind: 1}}, Next: "a"}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p peerpb.Answer
		if proto.Unmarshal(b, &p) == nil {
			a, err := readAnswer(&p)
			if err != nil && fault.KindOf(err) != fault.Protocol {
				t.Fatal(err)
			}
			if err == nil {
				if again, err := readAnswer(must(writeAnswer(&a))); err != nil || again != a {
					t.Fatalf("%+v came back as %+v, %v", a, again, err)
				}
			}
		}
		var r peerpb.InfoReply
		if proto.Unmarshal(b, &r) != nil {
			return
		}
		if _, err := readNode(r.GetNode()); err != nil && fault.KindOf(err) != fault.Protocol {
			t.Fatal(err)
		}
		if page, err := readPage(r.GetPage(), ""); err != nil && fault.KindOf(err) != fault.Protocol || len(page.Entries) > MaxPage {
			t.Fatal(err)
		}
	})
}

// TestBandwidthOnTheWire: nodes of other versions know a bandwidth by these bytes, and none by there being none.
func TestBandwidthOnTheWire(t *testing.T) {
	for want, m := range map[string]proto.Message{
		"48c096b102":   &peerpb.RequestAsk{Bandwidth: 5e6},
		"40c096b102":   &peerpb.Answer{Bandwidth: 5e6},
		"8001c096b102": &peerpb.CommissionAsk{Bandwidth: 5e6},
		"58c096b102":   &peerpb.CommissionAnswer{Bandwidth: 5e6},
		"":             &peerpb.RequestAsk{Bandwidth: 0},
	} {
		if b, err := proto.Marshal(m); err != nil || hex.EncodeToString(b) != want {
			t.Errorf("%T is %x, want %s: %v", m, b, want, err)
		}
	}
}

// TestStopSaysGone: what a receiver says of the bytes it has given up arrives; a sender has none to give up.
func TestStopSaysGone(t *testing.T) {
	for side, want := range map[lifecycle.Side]bool{lifecycle.Receiver: true, lifecycle.Sender: false} {
		for _, gone := range []bool{true, false} {
			a := ask(lifecycle.Mismatch)
			a.Side, a.Gone = side, gone
			_, m, err := writeAsk(&a)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := read(m); err != nil || got.Gone != (gone && want) {
				t.Errorf("a %v says gone %v, and %v arrives, %v", side, gone, got.Gone, err)
			}
		}
	}
}
