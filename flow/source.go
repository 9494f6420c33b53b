package flow

import (
	"context"
	"errors"
	"time"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// sourceHalf is the state of the sending end, guarded by BlockStream.mu.
//
//	durable <= taken <= received <= next <= granted
type sourceHalf struct {
	next     int64 // offset of the next block
	granted  int64
	received int64 // has arrived at the sink's end; where a resumed session goes on at the earliest
	taken    int64 // the sink has released it
	durable  int64
	epoch    uint32 // of the session, when next was last agreed
	waiting  bool   // for the peer's RESUME
	rewound  bool   // next went back, and Next has not said so yet
	short    bool   // the last block has been sent
	judged   bool   // the verdict is here
	verdict  []byte

	held []heldBlock // booked as sent, to go out in a row: see hold

	endFrame []byte // END as it was sent; nil while there is something to send
	endTotal int64  // what it says
}

// Next waits until one more block may be sent and returns it, empty. After a
// resumed session its Offset may be earlier than what was sent before.
func (b *BlockStream) Next(ctx context.Context) (*Block, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.closed:
			return nil, b.overErr()
		case ctx.Err() != nil: // also where a source never has to wait
			return nil, fault.Wrap("transfer", "", context.Cause(ctx))
		case !b.waiting && (b.granted-b.next >= int64(b.block) || b.short): // after a short block there is nothing to send
			b.rewound = false
			buf := b.s.cfg.Pool.get(b.block)
			return &Block{Offset: b.next, Data: buf.payload(b.block), b: b, buf: buf, epoch: b.epoch}, nil
		}
		if len(b.held) > 0 { // or else nobody would give credit for them
			b.mu.Unlock()
			err := b.flush(ctx)
			b.mu.Lock()
			if err != nil {
				return nil, err
			}
			continue
		}
		if err := b.wait(ctx); err != nil {
			return nil, err
		}
	}
}

func (b *BlockStream) overErr() error {
	if b.err != nil {
		return b.err
	}
	return fault.New("transfer", fault.Canceled, "the stream is over")
}

// Drop gives a block of Next back unsent.
func (blk *Block) Drop() {
	blk.b.s.cfg.Pool.put(blk.buf)
	blk.buf, blk.Data = nil, nil
}

// Send sends the first n bytes of a block; n < len(Data) makes it the last
// one, n = 0 sends nothing. The block is the stream's again, whatever happens; with More it may go out
// together with the next one, at the latest when Next has to wait, or at the End.
// A lost connection is no error here: Next knows how it goes on.
func (b *BlockStream) Send(ctx context.Context, blk *Block, n int) error {
	defer blk.Drop()
	if n == 0 {
		return nil
	}
	content := blk.Data[:n]
	head := wire.BlockHead{
		Header: wire.Header{Class: wire.ClassBulk, Stream: b.id, Length: uint32(n)},
		Offset: uint64(blk.Offset), Digest: blockDigest(content, blk.Offset),
	}
	if err := b.bookSend(blk, n, head.Digest); err != nil || blk.epoch == 0 {
		return err
	}
	buf := blk.buf
	packed := b.squash.pack(&b.s.cfg, &head, content)
	if packed != nil {
		buf = packed
	}
	size := head.Size()
	frame := buf.mem[headroom-size : headroom+int(head.Length)]
	head.Put(frame)
	if packed == nil {
		blk.buf, blk.Data = nil, nil
	}
	h := heldBlock{parcel{frame, buf, n, int(head.Length)}, blk.epoch}
	if blk.More && b.hold(h) {
		return nil
	}
	if err := b.flush(ctx); err != nil {
		b.s.cfg.Pool.put(buf)
		return err
	}
	return b.shipOne(ctx, h)
}

// shipOne is ship for a block that nobody else has.
func (b *BlockStream) shipOne(ctx context.Context, h heldBlock) error {
	taken, err := b.ship(ctx, h.epoch, h.parcel)
	if !taken {
		b.s.cfg.Pool.put(h.buf)
	}
	return err
}

// ship waits for a turn and sends a block of n bytes of content. It reports
// whether the buffer is somebody else's now.
func (b *BlockStream) ship(ctx context.Context, epoch uint32, p parcel) (taken bool, err error) {
	t := b.s.turnsOf(epoch)
	if t == nil {
		return false, nil
	}
	l, err := t.acquire(ctx, wire.ClassBulk, &b.seat, len(p.frame))
	if errors.Is(err, errEpochOver) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return b.put(l, p), nil
}

// bookSend moves next. It clears blk.epoch when the block belongs to the past.
func (b *BlockStream) bookSend(blk *Block, n int, digest uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return b.overErr()
	}
	if blk.epoch != b.epoch || b.waiting {
		blk.epoch = 0
		return nil
	}
	if blk.Offset != b.next || b.short && blk.Offset >= b.folded {
		return fault.New("send block", fault.Invalid, "block at %d where %d is next, or after a short one", blk.Offset, b.next)
	}
	if blk.Offset == b.folded {
		b.root = b.root.fold(blk.Offset, n, digest)
		b.folded += int64(n)
	}
	b.short = b.short || n < b.block
	b.next = blk.Offset + int64(n)
	return nil
}

func (b *BlockStream) bookSent(n, onWire int) {
	b.mu.Lock()
	b.stats.Blocks++
	b.stats.Bytes += int64(n)
	b.stats.WireBytes += int64(onWire)
	b.mu.Unlock()
	b.s.stats.blocksOut.Add(1)
	b.s.stats.bytesOut.Add(int64(n))
	b.s.stats.wireOut.Add(int64(onWire))
}

// turnsOf is where frames of an epoch queue; nil if the epoch is over.
func (s *Session) turnsOf(epoch uint32) *turns {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != up || s.epoch != epoch {
		return nil
	}
	return s.turns
}

// End says that everything has been sent. The trailer, at most 32 KiB, is the
// sink's to read after its io.EOF.
func (b *BlockStream) End(trailer []byte) error {
	if err := b.flush(b.s.ctx); err != nil {
		return err
	}
	b.mu.Lock()
	if b.closed || b.rewound {
		err := b.err
		b.mu.Unlock()
		return err
	}
	end := wire.End{Total: uint64(b.next), Root: b.root, Trailer: trailer}
	frame, err := wire.AppendControl(nil, wire.TypeEnd, b.id, &end)
	if err == nil {
		b.endFrame, b.endTotal = frame, b.next
	}
	b.mu.Unlock()
	if err != nil {
		return err
	}
	b.s.post(frame, true)
	return nil
}

// Verdict waits for the sink's verdict after End. ErrRewound: go back to Next.
// A session that was resumed when the sink had everything repeats END by itself.
func (b *BlockStream) Verdict(ctx context.Context) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.judged:
			return b.verdict, nil
		case b.closed:
			return nil, b.overErr()
		case b.rewound && !b.waiting:
			return nil, ErrRewound
		}
		if err := b.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// Received is the offset up to which the sink has taken and released blocks, as
// last reported: those that only wait in the peer's memory do not count.
func (b *BlockStream) Received() int64 { b.mu.Lock(); defer b.mu.Unlock(); return b.taken }

// Durable is the offset up to which the sink has synced, as last reported.
func (b *BlockStream) Durable() int64 { b.mu.Lock(); defer b.mu.Unlock(); return b.durable }

func (b *BlockStream) credit(granted, received uint64) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.source || !b.accepted || received > uint64(b.next) || granted > wire.MaxOffset {
		return false, broken("read", "CREDIT %d, received %d, where %d were sent", granted, received, b.next)
	}
	raised := int64(granted) > b.granted || int64(received) > b.taken
	b.granted, b.taken = max(b.granted, int64(granted)), max(b.taken, int64(received))
	b.received = max(b.received, b.taken)
	b.signal()
	return raised, nil
}

func (b *BlockStream) onDurable(n uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.source || !b.accepted || n > uint64(b.next) {
		return broken("read", "DURABLE %d where %d were sent", n, b.next)
	}
	b.durable = max(b.durable, int64(n))
	b.taken = max(b.taken, b.durable)
	b.received = max(b.received, b.taken)
	return nil
}

func (b *BlockStream) onVerdict(body []byte) error {
	var v wire.Verdict
	if err := wire.Decode(body, &v); err != nil {
		return err
	}
	b.s.mu.Lock()
	b.mu.Lock()
	if !b.source || b.endFrame == nil {
		b.mu.Unlock()
		b.s.mu.Unlock()
		return broken("read", "VERDICT for stream %d, which has sent no END", b.id)
	}
	b.judged, b.verdict = true, v.Body
	b.received, b.taken = b.next, b.next
	b.mu.Unlock()
	b.end(nil)
	b.s.forget(b.id, b)
	l := b.s.control
	b.s.mu.Unlock()
	if l != nil {
		l.post(resetFrame(b.id, nil), false)
	}
	return nil
}

// resumed puts the stream where the peer stands, and returns what is to be sent
// again of control frames. Session.mu is held.
func (b *BlockStream) resumed(e wire.ResumeStream, epoch uint32) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.signal()
	if !b.source {
		return nil, nil
	}
	r := int64(e.Received)
	if r < b.received || r > b.folded || (r-b.start)%int64(b.block) != 0 && (r != b.folded || !b.short) {
		return nil, broken("read", "RESUME at %d of stream %d, which has %d acknowledged and %d sent", e.Received, b.id, b.received, b.folded)
	}
	b.next, b.received, b.durable = r, r, max(b.durable, int64(min(e.Durable, e.Received)))
	b.granted, b.epoch, b.waiting = int64(e.Window), epoch, false
	b.short = b.short && r >= b.folded
	if b.endFrame != nil && r == b.endTotal {
		b.rewound = false
		return b.endFrame, nil
	}
	b.endFrame = nil
	return nil, nil
}

// sourceReady prepares the sending half once the stream is agreed. mu is held.
func (b *BlockStream) sourceReady(window int64, root Root, epoch uint32) {
	b.next, b.received, b.taken, b.durable = b.start, b.start, b.start, b.start
	b.folded, b.root = b.start, root
	b.granted, b.epoch = b.start+window, epoch
	b.began = time.Now()
}
