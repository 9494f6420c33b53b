package rpc

import (
	"context"
	"errors"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// outgoing is a block stream as sideeffect's pump sends on it.
type outgoing struct{ bs *flow.BlockStream }

// unsent is a block of Next that may be given back.
type unsent struct{ *flow.Block }

func (u unsent) Release() { u.Drop() }

func (o outgoing) Next(ctx context.Context) (sideeffect.Block, error) {
	b, err := o.bs.Next(ctx)
	if err != nil {
		return sideeffect.Block{}, err
	}
	return sideeffect.Block{Offset: b.Offset, Data: b.Data, Owner: unsent{b}}, nil
}

func (o outgoing) Send(ctx context.Context, b sideeffect.Block, n int) error {
	blk := b.Owner.(unsent).Block
	blk.More = b.More
	return o.bs.Send(ctx, blk, n)
}

func (o outgoing) End(_ context.Context, e sideeffect.End) error {
	b, err := proto.Marshal(endProto(e))
	if err != nil {
		return fault.Wrap("encode end", "", err)
	}
	return o.bs.End(b)
}

func (o outgoing) Verdict(ctx context.Context) (sideeffect.Verdict, error) {
	b, err := o.bs.Verdict(ctx)
	if errors.Is(err, flow.ErrRewound) {
		return sideeffect.Verdict{}, sideeffect.ErrRewound
	}
	if err != nil {
		return sideeffect.Verdict{}, err
	}
	return parseVerdict(b)
}

func (o outgoing) Received() int64 { return o.bs.Received() }
func (o outgoing) Durable() int64  { return o.bs.Durable() }

// incoming is a block stream as sideeffect's pump receives from it.
type incoming struct {
	bs  *flow.BlockStream
	end sideeffect.End
}

func (i *incoming) Recv(ctx context.Context) (sideeffect.Block, error) {
	b, err := i.bs.Recv(ctx)
	if err == io.EOF {
		if i.end, err = parseEnd(i.bs.Trailer()); err != nil {
			return sideeffect.Block{}, err
		}
		return sideeffect.Block{}, io.EOF
	}
	if flow.OneBlock(err) {
		err = sideeffect.OneBlock(err)
	}
	if err != nil {
		return sideeffect.Block{}, err
	}
	return sideeffect.Block{Offset: b.Offset, Data: b.Data, Owner: b}, nil
}

func (i *incoming) End() sideeffect.End             { return i.end }
func (i *incoming) Root() [sideeffect.RootSize]byte { return [sideeffect.RootSize]byte(i.bs.Root()) }
func (i *incoming) SetDurable(offset int64)         { i.bs.SetDurable(offset) }

// packer is a message as the pump sends into it: one block, then the end. The
// verdict comes with the answer to the call, or, at the server, never.
type packer struct {
	memory *carryPool
	room   int
	data   []byte // from memory
	end    sideeffect.End
}

func (p *packer) Next(context.Context) (sideeffect.Block, error) {
	if p.data != nil {
		return sideeffect.Block{}, fault.New("pack message", fault.SourceChanged, "the source has more than the %d bytes it announced", p.room-1)
	}
	return sideeffect.Block{Data: *p.memory.Get(p.room)}, nil
}

func (p *packer) Send(_ context.Context, b sideeffect.Block, n int) error {
	p.data = b.Data[:n]
	return nil
}

func (p *packer) End(_ context.Context, e sideeffect.End) error {
	p.end = e
	return nil
}

func (p *packer) Received() int64 { return 0 }
func (p *packer) Durable() int64  { return 0 }

// unpacker is content out of a message as the pump receives it.
type unpacker struct {
	load cargo
	read bool
}

// newUnpacker checks the content against its root.
func newUnpacker(c cargo) (*unpacker, error) {
	if got := rootOf(c.data); got != c.root {
		return nil, otherRoot(len(c.data), got, c.root)
	}
	return &unpacker{load: c}, nil
}

func otherRoot(n int, got, want [sideeffect.RootSize]byte) error {
	return fault.New("verify inline", fault.Corrupt, "%d bytes have root %x, the message says %x", n, got[:4], want[:4])
}

func (u *unpacker) Recv(context.Context) (sideeffect.Block, error) {
	if u.read || len(u.load.data) == 0 {
		return sideeffect.Block{}, io.EOF
	}
	u.read = true
	return sideeffect.Block{Data: u.load.data}, nil
}

func (u *unpacker) End() sideeffect.End             { return u.load.end }
func (u *unpacker) Root() [sideeffect.RootSize]byte { return u.load.root }
func (u *unpacker) SetDurable(int64)                {}
