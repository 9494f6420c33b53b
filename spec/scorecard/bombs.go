package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"runtime"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/spec/fault"
)

// What hostile input may allocate.
const (
	controlAlloc = 2 * mib  // one control frame
	bombAlloc    = 64 * mib // all bombs and their connections together
	bombTimes    = 8        // how often each is thrown
)

var bombs = check{
	id: 36, title: "length lies, nesting, huge counts in control frames; zstd and s2 bombs up to 9000:1 and those that lie about what they unpack to; protobuf nested without end: refused, a control frame allocates <= 2 MiB, the process lives",
	unit: "MiB for one control frame, most", n: counts{reduced: 300, full: 100000, control: 10},
	mutant: "control frames go to the msgpack decoder unchecked",
	edits: []edit{
		{"flow/wire/precheck.go", "func precheck(body []byte) error {\n", "func precheck(body []byte) error {\n	if mutant(\"36\") {\n		return nil\n	}\n"},
		{"flow/wire/shape.go", "func (c *cursor) fits(v reflect.Value) error {\n", "func (c *cursor) fits(v reflect.Value) error {\n	if mutant(\"36\") {\n		return nil\n	}\n"},
	},
	run: runBombs,
}

func runBombs(ctx context.Context, j *job) (result, error) {
	var w note
	most, perByte, bodies := decodeAll(j, &w)
	blocks, allocated, err := throwBlocks(ctx, &w)
	if err != nil {
		return result{}, err
	}
	deep, deepAllocated, err := throwNested(ctx, &w)
	if err != nil {
		return result{}, err
	}
	return w.result(float64(most)/mib, "%d bodies, at most %.1f bytes allocated for one of a body of 1 KiB or more; %d bombs in blocks, %.1f MiB for all; %d nested messages, %.1f MiB for all",
		bodies, perByte, blocks, float64(allocated)/mib, deep, float64(deepAllocated)/mib), nil
}

// allocated is how many bytes f allocated, everything that runs meanwhile included.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// decodeAll decodes fixed and random bodies as every message.
func decodeAll(j *job, w *note) (most uint64, perByte float64, n int) {
	bodies := append(liars(), largest()...)
	for range j.n {
		bodies = append(bodies, randomBody(j.rnd))
	}
	for _, body := range bodies {
		for _, m := range []wire.Message{&wire.Hello{}, &wire.HelloAck{}, &wire.Open{}, &wire.Accept{}, &wire.End{}, &wire.Verdict{}, &wire.Reset{}, &wire.GoAway{}, &wire.Close{}, &wire.Resume{}} {
			n++
			a := allocated(func() { _ = wire.Decode(body, m) })
			if most = max(most, a); a > controlAlloc {
				w.add("%T: a body of %d bytes (%.8x) allocated %d", m, len(body), body, a)
			}
			if len(body) >= 1<<10 {
				perByte = max(perByte, float64(a)/float64(len(body)))
			}
		}
	}
	return most, perByte, n
}

// liars are bodies that claim more than they have, or have as much as they can.
func liars() (all [][]byte) {
	fill := func(head []byte, b byte, n int) []byte { return append(head, bytes.Repeat([]byte{b}, n)...) }
	for _, head := range [][]byte{
		{0xdd, 0xff, 0xff, 0xff, 0xf0}, {0xc6, 0xff, 0xff, 0xff, 0xff}, {0xdb, 0xff, 0xff, 0xff, 0xff}, {0xdf, 0xff, 0xff, 0xff, 0xff},
		{0xc9, 0xff, 0xff, 0xff, 0xff}, {0xdc, 0xff, 0xff}, {0x92, 0x01, 0xdd, 0xff, 0xff, 0xff, 0xf0}, {0x91, 0xc6, 0xff, 0xff, 0xff, 0xff},
		{0x93, 0x00, 0xc4, 0x10}, {0x98, 0xa1, 0x6b},
	} {
		for _, n := range []int{0, 1, 1 << 10, wire.MaxControl - 16} {
			for _, b := range []byte{0x00, 0x90, 0x91, 0xa0, 0xc4, 0xff} {
				all = append(all, fill(bytes.Clone(head), b, n))
			}
		}
	}
	return append(all, fill(nil, 0x91, 1000), fill(nil, 0x91, wire.MaxControl), fill(nil, 0x81, wire.MaxControl), fill(nil, 0x91, 1_000_000))
}

// largest are bodies that have as much as the limits permit, and more.
func largest() [][]byte {
	resume := func(n int) []byte {
		head := binary.BigEndian.AppendUint16([]byte{0x92, 0x01, 0xdc}, uint16(n))
		return append(head, bytes.Repeat([]byte{0x94, 0x01, 0x00, 0x00, 0x00}, n)...)
	}
	id := append([]byte{0xc4, 0x10}, make([]byte, 16)...)
	features := bytes.Join([][]byte{{0x9d, 0x01, 0x01, 0x01}, id, id, {0x01}, id, {0xa0, 0xdc, 0x10, 0x00}, bytes.Repeat([]byte{0xa0}, 4096), {0x01, 0x01, 0x01, 0xc2}}, nil)
	meta := controlFrame(wire.TypeOpen, 1, wire.Open{Kind: "x", Meta: make([]byte, 32<<10)})[wire.HeaderSize:]
	return [][]byte{resume(1985), resume(wire.MaxResume), resume(wire.MaxResume + 1), resume(4096), features, meta}
}

// randomBody looks like msgpack: codes of all sorts, lengths that may lie.
func randomBody(r *rand.Rand) []byte {
	var b []byte
	for range 1 + r.IntN(40) {
		b = append(b, byte(r.Uint32()))
		if r.IntN(2) == 0 {
			b = binary.BigEndian.AppendUint32(b, r.Uint32())
		}
	}
	return append(b, bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN(wire.MaxControl-len(b)))...)
}

// bomb is the payload of a block and what its head says of it.
type bomb struct {
	name     string
	flags    wire.Flags
	packed   []byte
	original uint32
}

// blockBombs unpack to more than they say, or to far more than they are.
func blockBombs() []bomb {
	e, _ := zstd.NewWriter(nil)
	zip := func(n int) []byte { return e.EncodeAll(make([]byte, n), nil) }
	const z = wire.Zstd
	liar := s2.Encode(nil, make([]byte, 4<<10))
	liar = append(binary.AppendUvarint(nil, 1<<32-1), liar[2:]...)
	return []bomb{
		{"zstd 9000:1", z, zip(64 * mib), 4 << 10}, {"zstd 1000:1", z, zip(4 * mib), 64 << 10}, {"zstd, as long as it says, 30000:1", z, zip(mib), mib},
		{"zstd of 1 GiB", z, zip(1 << 30), 64 << 10}, {"s2 that unpacks to 4 MiB", wire.S2, s2.Encode(nil, make([]byte, 4*mib)), 256 << 10},
		{"s2 that says 4 GiB", wire.S2, liar, 4 << 10}, {"s2 of noise", wire.S2, bytes.Repeat([]byte{0xfe}, 1<<10), 64 << 10}, {"zstd of noise", z, bytes.Repeat([]byte{0x28}, 1<<10), 64 << 10},
	}
}

// throwBlocks lets a hostile source send each bomb to a sink that takes all; a
// good transfer follows.
func throwBlocks(ctx context.Context, w *note) (n int, bytes uint64, err error) {
	a, err := flow.NewAcceptor(flow.Config{})
	if err != nil {
		return 0, 0, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, fault.Wrap("listen", "", err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go a.Handle(c)
		}
	}()
	defer func() { l.Close(); a.Close(); <-served }()
	all := blockBombs()
	bytes = allocated(func() {
		for range bombTimes {
			for _, b := range all {
				n++
				if err = throwBlock(ctx, a, l.Addr().String(), b, w); err != nil {
					return
				}
			}
		}
	})
	if bytes > bombAlloc {
		w.add("%d bombs allocated %d bytes", n, bytes)
	}
	return n, bytes, err
}

// throwBlock sends one bomb on a session of its own.
func throwBlock(ctx context.Context, a *flow.Acceptor, address string, b bomb, w *note) error {
	if len(b.packed) > int(b.original) {
		b.packed = b.packed[:b.original]
	}
	c, err := rawDial(ctx, "tcp://"+address, nil, nil)
	if err != nil {
		return fault.Wrap("dial", "", err)
	}
	defer c.Close()
	r, err := greet(c, helloOf(wire.Control))
	if err != nil {
		return err
	}
	s, err := a.Accept(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	r.send(controlFrame(wire.TypeOpen, 1, wire.Open{Kind: "x", Blocks: true, Send: true, BlockSize: mib}))
	in, err := s.AcceptStream(ctx)
	if err != nil {
		return err
	}
	blocks, err := in.AcceptBlocks(flow.AcceptBlocks{Start: -1})
	if err != nil {
		return err
	}
	h := wire.BlockHead{Header: wire.Header{Flags: b.flags, Class: wire.ClassBulk, Stream: 1, Length: uint32(len(b.packed))}, Original: b.original}
	f := make([]byte, h.Size(), h.Size()+len(b.packed))
	h.Put(f)
	r.send(append(f, b.packed...))
	ctx, cancel := context.WithTimeout(ctx, rawTimeout)
	defer cancel()
	blk, err := blocks.Recv(ctx)
	switch k := fault.KindOf(err); {
	case err == nil:
		w.add("%s: %d bytes were delivered", b.name, len(blk.Data))
		blk.Release()
	case k != fault.Corrupt && k != fault.Protocol:
		w.add("%s: %v", b.name, err)
	}
	return nil
}

// throwNested sends messages nested without end: as a request, as an ask.
func throwNested(ctx context.Context, w *note) (n int, bytes uint64, err error) {
	s, err := serving(rpc.ServerConfig{}, "tcp://127.0.0.1:0", func(context.Context, string) error { return nil })
	if err != nil {
		return 0, 0, err
	}
	defer s.stop()
	cc, err := rpc.Dial(s.address, rpc.ClientConfig{})
	if err != nil {
		return 0, 0, err
	}
	defer cc.Close()
	if err := put(ctx, cc, "first"); err != nil {
		return 0, 0, err
	}
	nested := repeated(0x0b, mib) // groups that begin and never end
	bytes = allocated(func() {
		for range bombTimes {
			n += 2
			ctx, cancel := context.WithTimeout(ctx, rawTimeout)
			if err := cc.Invoke(ctx, putMethod, nested, new(emptypb.Empty), grpc.ForceCodec(bytesCodec{})); err == nil {
				w.add("a request nested %d deep was taken", len(nested))
			}
			asked := metadata.AppendToOutgoingContext(ctx, rpc.MetadataKey, string(nested[:1000]))
			if err := cc.Invoke(asked, putMethod, wrapperspb.String("x"), new(emptypb.Empty)); err == nil {
				w.add("a nested ask was taken")
			}
			cancel()
		}
	})
	if bytes > bombAlloc {
		w.add("%d nested messages allocated %d bytes", n, bytes)
	}
	if err := put(ctx, cc, "last"); err != nil {
		w.add("after them: %v", err)
	}
	return n, bytes, nil
}

func repeated(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

// bytesCodec sends bytes as they are.
type bytesCodec struct{}

// Name implements encoding.Codec; the server takes it for protobuf.
func (bytesCodec) Name() string { return "proto" }

// Marshal implements encoding.Codec.
func (bytesCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }

// Unmarshal implements encoding.Codec.
func (bytesCodec) Unmarshal([]byte, any) error { return nil }
