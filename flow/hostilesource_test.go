package flow

import (
	"io"

	"github.com/klauspost/compress/s2"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// hostileSources: the raw peer sends a file and breaks the rules.
var hostileSources = []hostile{
	{name: "BLOCK beyond the credit", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		d.send(block(d.id, 1000*testBlock, content(testBlock)))
	}},
	{name: "BLOCK at the end of offsets", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		d.send(block(d.id, 1<<62, content(testBlock)))
	}},
	{name: "BLOCK off its boundary", setup: sink, session: fault.Protocol, attack: func(d *duel) { d.send(block(d.id, 1, content(100))) }},
	{name: "BLOCK twice", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		d.send(block(d.id, testBlock, content(testBlock)), block(d.id, testBlock, content(testBlock)))
	}},
	{name: "BLOCK that was consumed before", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		d.send(block(d.id, 0, content(testBlock)))
		settle()
		d.send(block(d.id, 0, content(testBlock)))
	}},
	{name: "BLOCK larger than agreed", setup: sink, session: fault.Protocol, attack: func(d *duel) { d.send(block(d.id, 0, content(testBlock+1))) }},
	{name: "BLOCK after END", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		d.send(control(wire.TypeEnd, d.id, &wire.End{Total: testBlock}), block(d.id, testBlock, content(10)))
	}},
	{name: "BLOCK after a short one", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		d.send(block(d.id, testBlock, content(10)), block(d.id, 2*testBlock, content(10)))
	}},
	{name: "short BLOCK before one that came", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		d.send(block(d.id, 2*testBlock, content(testBlock)), block(d.id, testBlock, content(10)))
	}},
	{name: "both compressions", setup: sink, session: fault.Corrupt, attack: func(d *duel) {
		d.send(block(d.id, 0, content(10), func(h *wire.BlockHead) { h.Flags, h.Original = wire.S2|wire.Zstd, 10 }))
	}},
	{name: "original length 0", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		d.send(block(d.id, 0, content(10), func(h *wire.BlockHead) { h.Flags, h.Original = wire.S2, 0 }))
	}},
	{name: "original length over a frame", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		d.send(block(d.id, 0, content(10), func(h *wire.BlockHead) { h.Flags, h.Original = wire.S2, wire.MaxFrame+1 }))
	}},
	{name: "original length over a block", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		d.send(block(d.id, 0, content(1000), func(h *wire.BlockHead) { h.Flags, h.Original = wire.S2, testBlock+1 }))
	}},
	{name: "S2 that is none", setup: sink, stream: fault.Corrupt, attack: func(d *duel) {
		d.send(block(d.id, 0, content(1000), func(h *wire.BlockHead) { h.Flags, h.Original = wire.S2, testBlock }))
	}},
	{name: "zstd that is none", setup: sink, stream: fault.Corrupt, attack: func(d *duel) {
		d.send(block(d.id, 0, content(1000), func(h *wire.BlockHead) { h.Flags, h.Original = wire.Zstd, testBlock }))
	}},
	{name: "S2 of another length", setup: sink, stream: fault.Corrupt, attack: func(d *duel) { d.send(packedBlock(d.id, wire.S2, 5000, 5001)) }},
	{name: "zstd of another length", setup: sink, stream: fault.Corrupt, attack: func(d *duel) { d.send(packedBlock(d.id, wire.Zstd, 5000, 4999)) }},
	{name: "zstd bomb", setup: sink, stream: fault.Corrupt, attack: func(d *duel) { d.send(packedBlock(d.id, wire.Zstd, MiB, testBlock)) }},
	{name: "zstd over the ratio", setup: sink, stream: fault.Corrupt, attack: func(d *duel) { d.send(packedBlock(d.id, wire.Zstd, testBlock, testBlock)) }},
	{name: "wrong digest", setup: sink, stream: fault.Corrupt, attack: func(d *duel) {
		d.send(block(d.id, 0, content(testBlock), func(h *wire.BlockHead) { h.Digest++ }))
	}, check: func(d *duel) {
		if n := len(d.got(wire.TypeReset)); n != 1 {
			d.t.Errorf("%d RESETs", n)
		}
	}},
	{name: "digest of another offset", setup: sink, stream: fault.Corrupt, attack: func(d *duel) {
		d.send(block(d.id, 0, content(testBlock), func(h *wire.BlockHead) { h.Digest = blockDigest(content(testBlock), testBlock) }))
	}},
	{name: "wrong root", setup: sink, stream: fault.Corrupt, attack: func(d *duel) {
		d.send(block(d.id, 0, content(100)), control(wire.TypeEnd, d.id, &wire.End{Total: 100, Root: [16]byte{1}}))
	}},
	{name: "END before what came", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		d.send(block(d.id, 0, content(testBlock)), control(wire.TypeEnd, d.id, &wire.End{Total: 10}))
	}},
	{name: "END before what overtook others", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		d.send(block(d.id, 2*testBlock, content(testBlock)), control(wire.TypeEnd, d.id, &wire.End{Total: testBlock}))
	}},
	{name: "END behind a short block", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		d.send(block(d.id, 0, content(10)), control(wire.TypeEnd, d.id, &wire.End{Total: 20}))
	}},
	{name: "END beyond the credit", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		d.send(control(wire.TypeEnd, d.id, &wire.End{Total: 1 << 40}))
	}},
	{name: "VERDICT at the sink", setup: sink, session: fault.Protocol, attack: func(d *duel) { d.send(control(wire.TypeVerdict, d.id, &wire.Verdict{})) }, check: (*duel).toldWhy},
	{name: "DURABLE at the sink", setup: sink, session: fault.Protocol, attack: func(d *duel) { d.send(wire.AppendDurable(nil, d.id, 0)) }},
	{name: "CREDIT at the sink", setup: sink, session: fault.Protocol, attack: func(d *duel) { d.send(wire.AppendCredit(nil, d.id, 1, 0)) }},
	{name: "ACCEPT of what it opened itself", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		d.send(control(wire.TypeAccept, d.id, &wire.Accept{BlockSize: testBlock, Window: MiB}))
	}},
	{name: "DATA on a block stream", setup: sink, session: fault.Protocol, attack: func(d *duel) { d.send(data(d.id, 0, []byte("x"), 0)) }},
	{name: "RESET of a sink", setup: sink, stream: fault.NoSpace, attack: func(d *duel) {
		d.send(resetFrame(d.id, fault.New("x", fault.NoSpace, "full")), resetFrame(d.id, nil))
	}},
	{name: "friendly RESET before END is no success", setup: sink, attack: func(d *duel) { d.send(resetFrame(d.id, nil)) }, check: func(d *duel) {
		select {
		case err := <-d.ended:
			if err == nil || err == io.EOF {
				d.t.Errorf("the sink was told %v", err)
			}
		default:
			d.t.Error("the sink still waits")
		}
	}},
	{name: "late BLOCKs inside what was granted", setup: sink, stream: fault.Canceled, attack: func(d *duel) {
		d.blocks.Reset(fault.New("x", fault.Canceled, "enough"))
		for k := range int64(4) {
			d.send(block(d.id, k*testBlock, content(testBlock)))
		}
	}},
	{name: "late BLOCKs beyond what was granted", setup: sink, stream: fault.Canceled, session: fault.Protocol, attack: func(d *duel) {
		d.blocks.Reset(fault.New("x", fault.Canceled, "enough"))
		for k := range int64(5) {
			d.send(block(d.id, k*testBlock, content(testBlock)))
		}
	}},
	{name: "BLOCKs after the verdict", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		d.send(block(d.id, 0, content(100)), control(wire.TypeEnd, d.id, &wire.End{Total: 100, Root: Root{}.Fold(0, content(100))}))
		settle()
		if err := <-d.ended; err != nil || len(d.got(wire.TypeVerdict)) != 1 {
			d.t.Errorf("%v, %d verdicts", err, len(d.got(wire.TypeVerdict)))
		}
		for range 10 {
			d.send(block(d.id, 0, content(testBlock)))
		}
		settle()
		d.ended <- fault.New("x", fault.Protocol, "as the table wants it")
	}},
}

// toldWhy checks that the peer was told before its connection was closed.
func (d *duel) toldWhy() {
	d.t.Helper()
	c := d.got(wire.TypeClose)
	var m wire.Close
	if len(c) != 1 || wire.Decode(c[0].body, &m) != nil || fault.Kind(m.Kind) != fault.Protocol {
		d.t.Errorf("the peer was not told why: %v", c)
	}
}

// packedBlock is a compressed block of size zeros whose head says claimed.
func packedBlock(id uint32, flag wire.Flags, size, claimed int) []byte {
	content := make([]byte, size)
	packed := newZip().EncodeAll(content, nil)
	if flag == wire.S2 {
		packed = s2.Encode(nil, content)
	}
	return block(id, 0, packed, func(h *wire.BlockHead) {
		h.Flags, h.Original = flag, uint32(claimed)
		h.Digest = blockDigest(make([]byte, claimed), 0)
	})
}
