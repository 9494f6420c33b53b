package flow

import (
	"errors"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// hostileFrames: frames that are wrong on their own.
var hostileFrames = []hostile{
	{name: "unknown type", session: fault.Corrupt, attack: func(d *duel) { d.send(frame(wire.Header{Type: 99, Length: 8}, make([]byte, 8))) }},
	{name: "type zero", session: fault.Corrupt, attack: func(d *duel) { d.send(make([]byte, 16)) }},
	{name: "unknown flag", session: fault.Corrupt, attack: func(d *duel) {
		d.send(frame(wire.Header{Type: wire.TypePing, Flags: 0x40, Length: 8}, make([]byte, 8)))
	}},
	{name: "oversized control frame", session: fault.Corrupt, attack: func(d *duel) {
		d.send(frame(wire.Header{Type: wire.TypeOpen, Stream: d.own(1), Length: wire.MaxControl + 1}, nil))
	}},
	{name: "oversized block", session: fault.Corrupt, attack: func(d *duel) {
		d.send(frame(wire.Header{Type: wire.TypeBlock, Ext: 2, Class: 3, Stream: d.own(1), Length: wire.MaxFrame + 1}, nil))
	}},
	{name: "second HELLO", session: fault.Protocol, attack: func(d *duel) { h := rawHello(1); d.send(control(wire.TypeHello, 0, &h)) }},
	{name: "second HELLO_ACK", session: fault.Protocol, attack: func(d *duel) {
		d.send(control(wire.TypeHelloAck, 0, &wire.HelloAck{Version: 1}))
	}},
	{name: "preface again", session: fault.Corrupt, attack: func(d *duel) { d.send(wire.Preface[:], make([]byte, 16)) }},
	{name: "RESUME that nobody expects", session: fault.Protocol, attack: func(d *duel) {
		d.send(control(wire.TypeResume, 0, &wire.Resume{Epoch: 1}))
	}},
	{name: "PIPEACK of more than was written", session: fault.Protocol, attack: func(d *duel) { d.send(wire.AppendPipeAck(nil, 1)) }},
	{name: "PONG that nobody asked for", attack: func(d *duel) { d.send(wire.AppendPong(nil, 7), wire.AppendPong(nil, 1<<63)) }},
	{name: "CLOSE", session: fault.Draining, attack: func(d *duel) {
		d.send(control(wire.TypeClose, 0, &wire.Close{Kind: uint16(fault.Draining), Text: "bye"}))
	}},
	{name: "GOAWAY, then OPEN", attack: func(d *duel) {
		d.send(control(wire.TypeGoAway, 0, &wire.GoAway{Kind: uint16(fault.Draining)}))
		d.send(openFrame(d.own(1), wire.Open{Window: KiB}))
	}, check: func(d *duel) {
		if _, err := d.victim.OpenBytes(d.t.Context(), Open{Kind: "x"}); !errors.Is(err, fault.Draining) {
			d.t.Errorf("a stream towards a peer that goes away: %v", err)
		}
		if in, err := d.victim.AcceptStream(d.t.Context()); err != nil || in.Kind != "x" {
			d.t.Errorf("a stream from a peer that goes away: %v", err)
		}
	}},
	{name: "map of 2^32 elements", session: fault.Protocol, attack: func(d *duel) { d.send(body(wire.TypeOpen, d.own(1), 0xdf, 0xff, 0xff, 0xff, 0xff)) }},
	{name: "array of 2^32 elements", session: fault.Protocol, attack: func(d *duel) { d.send(body(wire.TypeGoAway, 0, 0xdd, 0xff, 0xff, 0xff, 0xf0)) }},
	{name: "4 GiB of bytes", session: fault.Protocol, attack: func(d *duel) { d.send(body(wire.TypeClose, 0, 0x92, 0x01, 0xdb, 0xff, 0xff, 0xff, 0xff)) }},
	{name: "deep nesting", session: fault.Protocol, attack: func(d *duel) {
		nest := make([]byte, wire.MaxControl)
		for i := range nest {
			nest[i] = 0x91
		}
		d.send(body(wire.TypeResume, 0, nest...))
	}},
	{name: "nil for a struct", session: fault.Protocol, attack: func(d *duel) { d.send(body(wire.TypeGoAway, 0, 0xc0)) }},
	{name: "bytes behind the struct", session: fault.Protocol, attack: func(d *duel) {
		d.send(body(wire.TypeGoAway, 0, 0x93, 0x00, 0x00, 0xa0, 0x00))
	}},
	{name: "LANES without end", attack: func(d *duel) {
		for range 1000 {
			d.send(wire.AppendLanes(nil, 1<<63))
		}
	}, check: func(d *duel) {
		if n := d.victim.Stats().Lanes; n > 9 {
			d.t.Errorf("%d lanes", n)
		}
	}},
}

// neverOpened is one case for each stream frame and for either parity of id.
func neverOpened() (list []hostile) {
	for _, mine := range []bool{true, false} {
		id := func(d *duel) uint32 {
			if mine {
				return d.own(3)
			}
			return d.foreign(3)
		}
		whose := map[bool]string{true: ", opener's id", false: ", other's id"}[mine]
		for name, f := range map[string]func(id uint32) []byte{
			"CREDIT":  func(id uint32) []byte { return wire.AppendCredit(nil, id, 1, 0) },
			"DURABLE": func(id uint32) []byte { return wire.AppendDurable(nil, id, 0) },
			"ACCEPT":  func(id uint32) []byte { return control(wire.TypeAccept, id, &wire.Accept{}) },
			"RESET":   func(id uint32) []byte { return resetFrame(id, nil) },
			"END":     func(id uint32) []byte { return control(wire.TypeEnd, id, &wire.End{}) },
			"VERDICT": func(id uint32) []byte { return control(wire.TypeVerdict, id, &wire.Verdict{}) },
			"BLOCK":   func(id uint32) []byte { return block(id, 0, []byte("x")) },
			"DATA":    func(id uint32) []byte { return data(id, 0, []byte("x"), 0) },
		} {
			list = append(list, hostile{name: name + " for a stream never opened" + whose, session: fault.Protocol,
				attack: func(d *duel) { d.send(f(id(d))) }})
		}
	}
	return list
}

// hostileOpens: openings that are not allowed.
var hostileOpens = append(neverOpened(), []hostile{
	{name: "id going backwards", session: fault.Protocol, attack: func(d *duel) {
		d.send(openFrame(d.own(4), wire.Open{}), openFrame(d.own(2), wire.Open{}))
	}},
	{name: "id twice", session: fault.Protocol, attack: func(d *duel) {
		d.send(openFrame(d.own(1), wire.Open{}), openFrame(d.own(1), wire.Open{}))
	}},
	{name: "id of the other's parity", session: fault.Protocol, attack: func(d *duel) { d.send(openFrame(d.foreign(1), wire.Open{})) }},
	{name: "block size 0", session: fault.Protocol, attack: func(d *duel) { d.send(openFrame(d.own(1), wire.Open{Blocks: true, Send: true})) }},
	{name: "block size 1", session: fault.Protocol, attack: func(d *duel) {
		d.send(openFrame(d.own(1), wire.Open{Blocks: true, Send: true, BlockSize: 1}))
	}},
	{name: "less credit than a block", session: fault.Protocol, attack: func(d *duel) {
		d.send(openFrame(d.own(1), wire.Open{Blocks: true, BlockSize: testBlock, Window: testBlock - 1}))
	}},
	{name: "frame for a stream not accepted", session: fault.Protocol, attack: func(d *duel) {
		d.send(openFrame(d.own(1), wire.Open{Window: KiB}), data(d.own(1), 0, []byte("x"), 0))
	}},
	{name: "CREDIT for a stream not accepted", session: fault.Protocol, attack: func(d *duel) {
		d.send(openFrame(d.own(1), wire.Open{Window: KiB}), wire.AppendCredit(nil, d.own(1), 1, 0))
	}},
	{name: "more OPENs than may wait", attack: func(d *duel) {
		for n := range uint32(maxPending + 50) {
			d.send(openFrame(d.own(n+1), wire.Open{}))
		}
	}, check: func(d *duel) {
		if n, want := len(d.got(wire.TypeReset)), 50; n != want {
			d.t.Errorf("%d streams were refused, want %d", n, want)
		}
	}},
	{name: "more streams than allowed", cfg: Config{MaxStreams: 4}, attack: func(d *duel) {
		for n := range uint32(6) {
			d.send(openFrame(d.own(n+1), wire.Open{}))
		}
	}, check: func(d *duel) {
		if n := len(d.got(wire.TypeReset)); n != 2 {
			d.t.Errorf("%d streams were refused, want 2", n)
		}
	}},
	{name: "gRPC streams on a session that has connections for it", attack: func(d *duel) {
		for n := range uint32(maxQueuedConns + 50) {
			d.send(openFrame(d.own(n+1), wire.Open{Kind: kindRPC, Window: KiB}))
		}
	}, check: func(d *duel) {
		if n, want := len(d.got(wire.TypeReset)), maxQueuedConns+50; n != want {
			d.t.Errorf("%d streams were refused, want %d", n, want)
		}
	}},
}...)
