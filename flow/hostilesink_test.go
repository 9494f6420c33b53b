package flow

import (
	"time"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// hostileSinks: the raw peer receives a file and breaks the rules.
var hostileSinks = []hostile{
	{name: "BLOCK towards the source", setup: source, session: fault.Protocol, attack: func(d *duel) { d.send(block(d.id, 0, content(10))) }},
	{name: "END towards the source", setup: source, session: fault.Protocol, attack: func(d *duel) { d.send(control(wire.TypeEnd, d.id, &wire.End{})) }},
	{name: "VERDICT before END", setup: source, session: fault.Protocol, attack: func(d *duel) {
		d.send(control(wire.TypeVerdict, d.id, &wire.Verdict{Body: []byte("fine")}))
	}},
	{name: "received more than sent", setup: source, session: fault.Protocol, attack: func(d *duel) {
		d.send(wire.AppendCredit(nil, d.id, MiB, testBlock+1))
	}},
	{name: "durable more than sent", setup: source, session: fault.Protocol, attack: func(d *duel) { d.send(wire.AppendDurable(nil, d.id, testBlock+1)) }},
	{name: "CREDIT beyond all offsets", setup: source, session: fault.Protocol, attack: func(d *duel) { d.send(wire.AppendCredit(nil, d.id, 1<<63, 0)) }},
	{name: "CREDIT that takes back", setup: source, attack: func(d *duel) { d.send(wire.AppendCredit(nil, d.id, 0, 0)) }, check: func(d *duel) {
		d.blocks.mu.Lock()
		defer d.blocks.mu.Unlock()
		if d.blocks.granted != 256*KiB {
			d.t.Errorf("granted is %d now", d.blocks.granted)
		}
	}},
	{name: "CREDIT that raises nothing, 3000 times", setup: source, session: fault.Overloaded, stream: fault.Overloaded, attack: func(d *duel) {
		for range 3000 {
			d.send(wire.AppendCredit(nil, d.id, 0, 0))
		}
	}},
	{name: "RESET of a source", setup: source, stream: fault.NoSpace, attack: func(d *duel) {
		d.send(resetFrame(d.id, fault.New("x", fault.NoSpace, "full")))
	}},
	{name: "friendly RESET before the verdict is no success", setup: source, attack: func(d *duel) { d.send(resetFrame(d.id, nil)) }, check: func(d *duel) {
		if v, err := d.blocks.Verdict(d.t.Context()); err == nil {
			d.t.Errorf("verdict %q", v)
		}
	}},
	{name: "no CREDIT ever", setup: source, attack: func(d *duel) { time.Sleep(time.Minute) }},
}

// hostileBytes: the same on a byte stream.
var hostileBytes = []hostile{
	{name: "DATA beyond the credit", setup: relay, session: fault.Protocol, attack: func(d *duel) {
		d.bytes.mu.Lock()
		limit := d.bytes.limit
		d.bytes.limit = 10 // as if more had been read in and not yet consumed
		d.bytes.mu.Unlock()
		d.send(data(d.id, 0, content(11), 0))
		settle()
		d.bytes.mu.Lock()
		d.bytes.limit = limit
		d.bytes.mu.Unlock()
	}},
	{name: "DATA after FIN", setup: relay, session: fault.Protocol, stream: 0, attack: func(d *duel) {
		d.send(data(d.id, 0, []byte("x"), wire.Fin), data(d.id, 1, []byte("y"), 0))
		settle()
		<-d.ended // nil: FIN is what the reader was told first
		d.ended <- fault.New("x", fault.Protocol, "as the table wants it")
	}},
	{name: "DATA elsewhere", setup: relay, session: fault.Protocol, attack: func(d *duel) { d.send(data(d.id, 1, []byte("x"), 0)) }},
	{name: "BLOCK on a byte stream", setup: relay, session: fault.Protocol, attack: func(d *duel) { d.send(block(d.id, 0, []byte("x"))) }},
	{name: "END on a byte stream", setup: relay, session: fault.Protocol, attack: func(d *duel) { d.send(control(wire.TypeEnd, d.id, &wire.End{})) }},
	{name: "ACCEPT of its own byte stream", setup: relay, session: fault.Protocol, attack: func(d *duel) { d.send(control(wire.TypeAccept, d.id, &wire.Accept{})) }},
	{name: "bytes received that were not sent", setup: relay, session: fault.Protocol, attack: func(d *duel) { d.send(wire.AppendCredit(nil, d.id, MiB, 6)) }},
	{name: "empty DATA, 3000 times", setup: relay, session: fault.Overloaded, stream: fault.Overloaded, attack: func(d *duel) {
		for range 3000 {
			d.send(data(d.id, 0, nil, 0))
		}
	}},
	{name: "friendly RESET before either direction is closed", setup: relay, stream: fault.Lost, attack: func(d *duel) { d.send(resetFrame(d.id, nil)) }},
	{name: "friendly RESET before this end's direction is closed", setup: relay, attack: func(d *duel) {
		d.send(data(d.id, 0, []byte("x"), wire.Fin), resetFrame(d.id, nil))
	}, check: func(d *duel) {
		if whole, err := d.bytes.Over(); !whole || fault.KindOf(err) != fault.Lost {
			d.t.Errorf("it is over, whole %v: %v", whole, err)
		}
	}},
	{name: "RESET of a byte stream", setup: relay, stream: fault.NoSpace, attack: func(d *duel) {
		d.send(resetFrame(d.id, fault.New("x", fault.NoSpace, "full")))
	}},
}

// hostileAnswers: the victim opens, the raw peer answers wrongly.
var hostileAnswers = []hostile{
	{name: "ACCEPT with a larger block", setup: mysink, session: fault.Protocol, attack: func(d *duel) {
		d.send(control(wire.TypeAccept, d.id, &wire.Accept{BlockSize: 2 * testBlock}))
	}},
	{name: "ACCEPT with a tiny block", setup: mysink, session: fault.Protocol, attack: func(d *duel) {
		d.send(control(wire.TypeAccept, d.id, &wire.Accept{BlockSize: 1}))
	}},
	{name: "ACCEPT that grants less than a block", setup: mysource, session: fault.Protocol, attack: func(d *duel) {
		d.send(control(wire.TypeAccept, d.id, &wire.Accept{BlockSize: testBlock, Window: testBlock - 1}))
	}},
	{name: "ACCEPT twice", setup: mysource, session: fault.Protocol, attack: func(d *duel) {
		for range 2 {
			d.send(control(wire.TypeAccept, d.id, &wire.Accept{BlockSize: testBlock, Window: MiB}))
		}
	}},
	{name: "CREDIT before ACCEPT", setup: mysource, session: fault.Protocol, attack: func(d *duel) { d.send(wire.AppendCredit(nil, d.id, MiB, 0)) }},
	{name: "too many BLOCKs before ACCEPT", setup: mysink, session: fault.Protocol, attack: func(d *duel) {
		for k := range int64(100) {
			d.send(block(d.id, k, []byte("x")))
		}
	}},
	{name: "BLOCKs before ACCEPT beyond the credit", setup: mysink, session: fault.Protocol, attack: func(d *duel) {
		for range 5 {
			d.send(block(d.id, 0, content(testBlock)))
		}
	}},
	{name: "BLOCK before ACCEPT larger than agreed later", setup: mysink, session: fault.Protocol, attack: func(d *duel) {
		d.send(block(d.id, 0, content(testBlock)), control(wire.TypeAccept, d.id, &wire.Accept{BlockSize: 4 * KiB}))
	}},
	{name: "BLOCK before ACCEPT behind a short one", setup: mysink, session: fault.Protocol, attack: func(d *duel) {
		d.send(block(d.id, testBlock, content(testBlock)), block(d.id, 0, content(10)), control(wire.TypeAccept, d.id, &wire.Accept{BlockSize: testBlock}))
	}},
	{name: "BLOCK before ACCEPT off its boundary", setup: mysink, session: fault.Protocol, attack: func(d *duel) {
		d.send(block(d.id, 5, content(10)), control(wire.TypeAccept, d.id, &wire.Accept{BlockSize: testBlock}))
	}},
	{name: "refusal", setup: mysink, stream: fault.NoSpace, attack: func(d *duel) {
		d.send(resetFrame(d.id, fault.New("x", fault.NoSpace, "full")))
	}},
}

// hostileFloods: what is allowed, but not all the time.
var hostileFloods = []hostile{
	{name: "PINGs", session: fault.Overloaded, attack: func(d *duel) {
		for n := range uint64(3000) {
			d.send(wire.AppendPing(nil, n))
		}
	}},
	{name: "OPENs that are refused", session: fault.Overloaded, attack: func(d *duel) {
		for n := range uint32(3000) {
			d.send(openFrame(d.own(n+1), wire.Open{}))
		}
	}},
	{name: "OPENs taken back", session: fault.Overloaded, attack: func(d *duel) {
		for n := range uint32(3000) {
			d.send(openFrame(d.own(n+1), wire.Open{}), resetFrame(d.own(n+1), fault.New("x", fault.Canceled, "no")))
		}
	}},
	{name: "OPENs taken back in a friendly way", session: fault.Overloaded, attack: func(d *duel) {
		d.wg.Go(func() { // without this one they would be refused
			for err := error(nil); err == nil; {
				_, err = d.victim.AcceptStream(d.t.Context())
			}
		})
		for n := range uint32(3000) {
			d.send(openFrame(d.own(n+1), wire.Open{}), resetFrame(d.own(n+1), nil))
		}
	}},
}
