package flow

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/s2"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// setup is the stream that a duel begins with.
type setup int

const (
	none     setup = iota
	sink           // the raw peer opened it and sends; the victim receives until it ends
	source         // the raw peer opened it and receives; the victim has sent one block of 64 KiB
	relay          // a byte stream that the raw peer opened; the victim has written 5 bytes and reads
	mysink         // the victim opens a block stream to receive and waits for ACCEPT
	mysource       // the victim opens a block stream to send and waits for ACCEPT
	setupsEnd
)

const testBlock = 64 * KiB

// prepare makes the stream of a setup.
func (d *duel) prepare(s setup) {
	ctx := d.t.Context()
	switch s {
	case sink, source:
		d.id = d.own(1)
		d.send(openFrame(d.id, wire.Open{Blocks: true, Send: s == sink, BlockSize: testBlock, Window: 256 * KiB}))
		in, err := d.victim.AcceptStream(ctx)
		if err == nil {
			d.blocks, err = in.AcceptBlocks(AcceptBlocks{Start: -1})
		}
		if err != nil {
			d.t.Fatal(err)
		}
		d.wg.Go(func() { d.use(ctx, s) })
	case relay:
		d.id = d.own(1)
		d.send(openFrame(d.id, wire.Open{Window: 64 * KiB}))
		in, err := d.victim.AcceptStream(ctx)
		if err == nil {
			d.bytes, err = in.AcceptBytes(nil)
		}
		if err != nil {
			d.t.Fatal(err)
		}
		d.bytes.Write([]byte("hello"))
		d.wg.Go(func() { _, err := io.Copy(io.Discard, d.bytes); d.ended <- err })
	case mysink, mysource:
		d.id = d.foreign(1)
		d.wg.Go(func() {
			b, err := d.victim.OpenBlocks(ctx, Open{Kind: "x", Send: s == mysource, BlockSize: testBlock})
			if err == nil {
				<-b.Done()
				err = b.Err()
			}
			d.ended <- err
		})
	}
	settle()
}

// use drives the victim's end of a block stream.
func (d *duel) use(ctx context.Context, s setup) {
	if s == sink {
		_, err := pull(ctx, d.blocks)
		d.ended <- err
		return
	}
	blk, err := d.blocks.Next(ctx)
	if err == nil {
		err = d.blocks.Send(ctx, blk, copy(blk.Data, content(testBlock)))
	}
	if err == nil {
		select {
		case <-d.blocks.Done():
			err = d.blocks.Err()
		case <-ctx.Done():
		}
	}
	d.ended <- err
}

// streamKind is what the victim's user was told of its stream; 0: nothing yet.
func (d *duel) streamKind() fault.Kind {
	select {
	case err := <-d.ended:
		if err == nil {
			return 0
		}
		return fault.KindOf(err)
	default:
		return 0
	}
}

// hostile is one behaviour of a peer and what has to come of it.
type hostile struct {
	name   string
	setup  setup
	cfg    Config
	attack func(d *duel)

	session fault.Kind // the session ends with this; 0: it goes on
	stream  fault.Kind // the stream's user is told this; 0: not looked at
	check   func(d *duel)
}

func TestHostilePeer(t *testing.T) {
	t.Parallel()
	var all []hostile
	for _, part := range [][]hostile{hostileFrames, hostileOpens, hostileSources, hostileSinks, hostileBytes, hostileAnswers, hostileFloods} {
		all = append(all, part...)
	}
	for _, asConnector := range []bool{true, false} {
		role := map[bool]string{true: "connector", false: "acceptor"}[asConnector]
		for _, h := range all {
			t.Run(role+"/"+h.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { h.run(t, asConnector) })
			})
		}
	}
}

func (h hostile) run(t *testing.T, asConnector bool) {
	cfg := h.cfg
	if cfg.ResumeTimeout == 0 {
		cfg.ResumeTimeout = -1
	}
	d := newDuel(t, asConnector, cfg)
	defer d.end()
	d.prepare(h.setup)
	h.attack(d)
	settle()
	err := d.victim.Err()
	if (err == nil) != (h.session == 0) || err != nil && fault.KindOf(err) != h.session {
		t.Errorf("the session ended with %v; want %v", err, h.session)
	}
	if h.session == fault.Protocol && h.setup != none && h.stream == 0 {
		h.stream = fault.Protocol
	}
	if h.stream != 0 {
		if k := d.streamKind(); k != h.stream {
			t.Errorf("the stream ended with %v; want %v", k, h.stream)
		}
	}
	if h.session == 0 && d.hungUp() {
		t.Errorf("the connection was closed: %v", d.over)
	}
	if h.session != 0 && !d.hungUp() {
		t.Error("the connection is still open")
	}
	if h.check != nil {
		h.check(d)
	}
}

// hostileFrames: frames that are wrong on their own.
var hostileFrames = []hostile{
	{name: "unknown type", session: fault.Protocol, attack: func(d *duel) { d.send(frame(wire.Header{Type: 99, Length: 8}, make([]byte, 8))) }},
	{name: "type zero", session: fault.Protocol, attack: func(d *duel) { d.send(make([]byte, 16)) }},
	{name: "unknown flag", session: fault.Protocol, attack: func(d *duel) {
		d.send(frame(wire.Header{Type: wire.TypePing, Flags: 0x40, Length: 8}, make([]byte, 8)))
	}},
	{name: "oversized control frame", session: fault.Protocol, attack: func(d *duel) {
		d.send(frame(wire.Header{Type: wire.TypeOpen, Stream: d.own(1), Length: wire.MaxControl + 1}, nil))
	}},
	{name: "oversized block", session: fault.Protocol, attack: func(d *duel) {
		d.send(frame(wire.Header{Type: wire.TypeBlock, Ext: 2, Class: 3, Stream: d.own(1), Length: wire.MaxFrame + 1}, nil))
	}},
	{name: "second HELLO", session: fault.Protocol, attack: func(d *duel) { h := rawHello(1); d.send(control(wire.TypeHello, 0, &h)) }},
	{name: "second HELLO_ACK", session: fault.Protocol, attack: func(d *duel) {
		d.send(control(wire.TypeHelloAck, 0, &wire.HelloAck{Version: 1}))
	}},
	{name: "preface again", session: fault.Protocol, attack: func(d *duel) { d.send(wire.Preface[:], make([]byte, 16)) }},
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
	{name: "more gRPC streams than may wait", attack: func(d *duel) {
		for n := range uint32(maxQueuedConns + 50) {
			d.send(openFrame(d.own(n+1), wire.Open{Kind: kindRPC, Window: KiB}))
		}
	}, check: func(d *duel) {
		want := 50
		if !d.dialer {
			want = maxQueuedConns + 50 // a connector serves no gRPC
		}
		if n := len(d.got(wire.TypeReset)); n != want {
			d.t.Errorf("%d streams were refused, want %d", n, want)
		}
	}},
}...)

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
	{name: "BLOCK whose aux differs", setup: sink, session: fault.Protocol, attack: func(d *duel) {
		f := block(d.id, 0, content(10))
		f[15] ^= 1
		d.send(f)
	}},
	{name: "both compressions", setup: sink, session: fault.Protocol, attack: func(d *duel) {
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
	{name: "VERDICT at the sink", setup: sink, session: fault.Protocol, attack: func(d *duel) { d.send(control(wire.TypeVerdict, d.id, &wire.Verdict{})) }},
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
	{name: "CREDIT that raises nothing, 10000 times", setup: source, session: fault.Overloaded, stream: fault.Overloaded, attack: func(d *duel) {
		for range 10000 {
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
	{name: "empty DATA, 10000 times", setup: relay, session: fault.Overloaded, stream: fault.Overloaded, attack: func(d *duel) {
		for range 10000 {
			d.send(data(d.id, 0, nil, 0))
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
		for n := range uint64(10000) {
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
		for n := range uint32(3000) {
			d.send(openFrame(d.own(n+1), wire.Open{}), resetFrame(d.own(n+1), nil))
		}
	}},
}
