package flow

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// sinkHalf is the state of the receiving end, guarded by BlockStream.mu.
//
//	synced <= consumed <= handed <= arrived <= limit
type sinkHalf struct {
	most     int64  // bound of window; 0 = Config.MaxWindow
	window   int64  // what limit - consumed grows back to
	limit    int64  // granted to the source
	arrived  int64  // everything before is here
	handed   int64  // Recv has returned it
	consumed int64  // Release has given it back
	synced   int64  // SetDurable
	lives    uint32 // the epoch whose lanes may deliver; 0 between epochs
	bytesIn  int64  // content that came since start, early blocks too
	ready    []arrival
	early    map[int64]arrival // blocks that overtook others
	starved  bool              // over a quarter of the window waited for a block on a slower lane
	last     int64             // end of a short block, after which nothing may come; 0 = none seen
	furthest int64             // highest end of a block of this epoch; furthest >= arrived

	ended     bool // END is here
	total     int64
	endRoot   Root
	trailer   []byte
	verified  bool // Recv has returned io.EOF
	finished  bool // Finish was called
	bookedOut bool // closeSink was called

	verdictFrame []byte // kept until the source has it
	tune         tuner
}

// arrival is a block as it came.
type arrival struct {
	head wire.BlockHead
	buf  *buffer
}

func (a arrival) end() int64 { return int64(a.head.Offset) + int64(a.head.Span()) }

// expect checks a block before its payload is read: inside the credit, at a
// boundary, not twice. It runs in a reader.
func (b *BlockStream) expect(h wire.BlockHead, epoch uint32) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	span, off := int64(h.Span()), int64(h.Offset)
	switch {
	case b.source:
		return broken("read", "BLOCK towards the source of stream %d", b.id)
	case b.closed || b.finished:
		return b.s.late.take(span)
	case int64(h.Length) > span+slack:
		return broken("read", "BLOCK of %d bytes that unpacks to %d on stream %d", h.Length, span, b.id)
	case b.lives != epoch:
		return nil
	case span > int64(b.block) || b.bytesIn+span > b.limit-b.start:
		return broken("read", "BLOCK of %d bytes beyond the credit of stream %d", span, b.id)
	case !b.accepted:
		if len(b.early) >= int(b.window)/(4*KiB) {
			return broken("read", "too many blocks before ACCEPT on stream %d", b.id)
		}
		return nil
	}
	return b.place(off, span)
}

// place checks where a block lies. mu is held, the stream is accepted.
func (b *BlockStream) place(off, span int64) error {
	_, twice := b.early[off]
	switch {
	case off < b.arrived || twice:
		return broken("read", "BLOCK at %d of stream %d came before", off, b.id)
	case span > int64(b.block) || (off-b.start)%int64(b.block) != 0 || off+span > b.limit:
		return broken("read", "BLOCK at %d of stream %d is off its boundary or credit", off, b.id)
	case b.last != 0 && off >= b.last || b.ended && off+span > b.total || span < int64(b.block) && off+span < b.furthest:
		return broken("read", "BLOCK at %d of stream %d after its end", off, b.id)
	}
	return nil
}

// arrive takes a block over; false if the stream does not want it any more.
func (b *BlockStream) arrive(h wire.BlockHead, buf *buffer, epoch uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.finished || b.lives != epoch {
		return false
	}
	a := arrival{h, buf}
	b.bytesIn += int64(h.Span())
	if !b.accepted {
		b.early[int64(h.Offset)] = a
		return true
	}
	b.file(a)
	if int64(len(b.early))*int64(b.block) > b.window/4 {
		b.starved = true
	}
	return true
}

// file puts an arrival where it belongs. mu is held.
func (b *BlockStream) file(a arrival) {
	if int(a.head.Span()) < b.block {
		b.last = a.end()
	}
	b.furthest = max(b.furthest, a.end())
	if int64(a.head.Offset) != b.arrived {
		b.early[int64(a.head.Offset)] = a
		return
	}
	for ok := true; ok; a, ok = b.early[b.arrived] {
		delete(b.early, b.arrived)
		b.ready = append(b.ready, a)
		b.arrived = a.end()
	}
	b.signal()
}

// dropEarly forgets what overtook others on connections that are gone; the
// source sends it again. mu is held.
func (b *BlockStream) dropEarly() {
	for off, a := range b.early {
		b.s.cfg.Pool.put(a.buf)
		delete(b.early, off)
	}
	b.bytesIn = b.arrived - b.start
	b.lives = 0
	b.ended, b.last, b.furthest = false, 0, b.arrived
}

// Recv returns the next block in order: digest checked, decompressed. io.EOF
// means that END came and length and root matched. Release every block.
func (b *BlockStream) Recv(ctx context.Context) (*Block, error) {
	b.mu.Lock()
	for {
		switch {
		case b.closed:
			err := b.overErr()
			b.mu.Unlock()
			return nil, err
		case len(b.ready) > 0:
			a := b.ready[0]
			b.ready[0] = arrival{}
			if b.ready = b.ready[1:]; len(b.ready) == 0 {
				b.ready = nil
			}
			b.mu.Unlock()
			return b.open(a)
		case b.ended && b.handed >= b.total:
			err := b.checkEnd()
			b.verified = err == io.EOF
			b.mu.Unlock()
			if err != io.EOF {
				b.Reset(err)
			}
			return nil, err
		}
		if err := b.wait(ctx); err != nil {
			b.mu.Unlock()
			return nil, err
		}
	}
}

func (b *BlockStream) checkEnd() error {
	if b.handed != b.total || b.root != b.endRoot {
		return fault.New("verify stream", fault.Corrupt, "%d bytes with root %x, the source sent %d with root %x", b.handed, b.root[:4], b.total, b.endRoot[:4])
	}
	return io.EOF
}

// damagedBlock is an error about one block: all that Recv returned before is what was sent.
type damagedBlock struct{ error }

func (d damagedBlock) Unwrap() error { return d.error }

// OneBlock reports whether err, of Recv, is about the block that was due alone.
func OneBlock(err error) bool { return errors.As(err, new(damagedBlock)) }

// open verifies an arrival and makes it a Block.
func (b *BlockStream) open(a arrival) (*Block, error) {
	buf, err := unpack(b.s.cfg.Pool, a)
	if err != nil {
		err = damagedBlock{err}
		b.Reset(err)
		return nil, err
	}
	n, off := int(a.head.Span()), int64(a.head.Offset)
	content := buf.payload(n)
	if got := blockDigest(content, off); got != a.head.Digest {
		b.s.cfg.Pool.put(buf)
		var err error = damagedBlock{fault.New("verify block", fault.Corrupt, "block at %d has digest %016x, its head says %016x", off, got, a.head.Digest)}
		b.Reset(err)
		return nil, err
	}
	b.mu.Lock()
	b.root = b.root.fold(off, n, a.head.Digest)
	b.handed = off + int64(n)
	b.stats.Blocks++
	b.stats.Bytes += int64(n)
	b.stats.WireBytes += int64(a.head.Length)
	b.mu.Unlock()
	b.s.stats.blocksIn.Add(1)
	b.s.stats.bytesIn.Add(int64(n))
	return &Block{Offset: off, Data: content, b: b, buf: buf}, nil
}

// Release gives a received block back and with it credit to the source.
func (blk *Block) Release() {
	b, n := blk.b, int64(len(blk.Data))
	if blk.buf == nil {
		return
	}
	b.s.cfg.Pool.put(blk.buf)
	blk.buf, blk.Data = nil, nil
	b.s.mu.Lock()
	b.mu.Lock()
	frame := b.consume(n)
	b.mu.Unlock()
	b.s.mu.Unlock()
	if frame != nil {
		b.s.post(frame, true)
	}
}

// consume books n bytes as used and returns a CREDIT if one is due. Session.mu
// and mu are held.
func (b *BlockStream) consume(n int64) []byte {
	b.consumed += n
	if b.bookedOut {
		return nil
	}
	b.s.adjust(-n)
	b.grow()
	due := b.consumed + b.window - b.limit
	if due < b.window/4 || b.ended && b.arrived >= b.total {
		return nil
	}
	b.s.adjust(due)
	b.limit += due
	return wire.AppendCredit(nil, b.id, uint64(b.limit), uint64(b.consumed))
}

// grow widens the window, once in a round trip and as far as the budgets allow,
// when the consumer is faster than a window per round trip, or when striping
// needs more room for blocks that overtake others.
func (b *BlockStream) grow() {
	want, epoch := b.tune.measure(b.consumed, max(b.s.RTT(), restful), time.Now())
	if !epoch {
		return
	}
	if b.starved {
		want, b.starved = 2*b.window, false
	}
	want = min(want, 2*b.window, int64(b.s.cfg.MaxWindow))
	if b.most > 0 {
		want = min(want, b.most)
	}
	if extra := want - b.window; extra > 0 && b.s.affords(extra) {
		b.window = want
	}
}

// tuner measures how much a stream consumes in a round trip.
type tuner struct {
	since time.Time
	base  int64
}

// measure returns the window that would do for twice the present rate, and
// whether a round trip has passed since it last did.
func (t *tuner) measure(consumed int64, rtt time.Duration, now time.Time) (int64, bool) {
	elapsed := now.Sub(t.since)
	if elapsed < max(rtt, minEpoch) {
		return 0, false
	}
	var want int64
	if !t.since.IsZero() {
		want = int64(2 * float64(consumed-t.base) * float64(rtt) / float64(elapsed))
	}
	t.since, t.base = now, consumed
	return want, true
}

// adjust books a change of granted minus consumed. Session.mu is held.
func (s *Session) adjust(n int64) {
	if s.state == over {
		return
	}
	s.granted += int(n)
	s.cfg.Pool.reserve(int(n), true)
}

// affords asks whether the budgets have room for n more bytes. A quarter of the
// session's is kept for streams to come, whose first block is granted in any
// case. Session.mu is held.
func (s *Session) affords(n int64) bool {
	if s.granted+int(n) > s.cfg.SessionBudget/4*3 || !s.cfg.Pool.reserve(int(n), false) {
		return false
	}
	s.cfg.Pool.release(int(n))
	return true
}

// Trailer is what the source attached to END; valid after io.EOF.
func (b *BlockStream) Trailer() []byte { b.mu.Lock(); defer b.mu.Unlock(); return b.trailer }

// SetDurable tells the source that everything before off is on disk. Call it
// only after the sync that makes it true.
func (b *BlockStream) SetDurable(off int64) {
	b.mu.Lock()
	ok := !b.source && !b.closed && off > b.synced && off <= b.handed
	if ok {
		b.synced = off
	}
	b.mu.Unlock()
	if ok {
		b.s.post(wire.AppendDurable(nil, b.id, uint64(off)), true)
	}
}

// Finish sends the verdict, at most 32 KiB, which the source's Verdict returns.
// There is none before Recv has returned io.EOF: whoever wants no more, Resets.
// The stream takes no more blocks; it is Done when the source has the verdict.
func (b *BlockStream) Finish(verdict []byte) error {
	frame, err := wire.AppendControl(nil, wire.TypeVerdict, b.id, &wire.Verdict{Body: verdict})
	if err != nil {
		return err
	}
	b.s.mu.Lock()
	b.mu.Lock()
	if b.closed || b.source || b.finished || !b.verified {
		var err error = fault.New("finish stream", fault.Invalid, "Recv has not returned io.EOF, or Finish was called before")
		if b.closed && b.err != nil {
			err = fault.Wrap("finish stream", "", b.err)
		}
		b.mu.Unlock()
		b.s.mu.Unlock()
		return err
	}
	b.finished, b.verdictFrame = true, frame
	b.closeSink()
	b.mu.Unlock()
	b.s.mu.Unlock()
	b.s.post(frame, true)
	return nil
}

// closeSink gives buffers and budget back. Session.mu and mu are held.
func (b *BlockStream) closeSink() {
	if b.bookedOut {
		return
	}
	b.bookedOut = true
	for _, a := range b.ready {
		b.s.cfg.Pool.put(a.buf)
	}
	for _, a := range b.early {
		b.s.cfg.Pool.put(a.buf)
	}
	b.ready, b.early = nil, nil
	b.s.adjust(b.consumed - b.limit)
	b.s.late.add(b.limit - b.start - b.bytesIn)
}

func (b *BlockStream) onEnd(body []byte) error {
	var e wire.End
	if err := wire.Decode(body, &e); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.source || !b.accepted {
		return broken("read", "END for stream %d", b.id)
	}
	if e.Total < uint64(b.furthest) || e.Total > uint64(b.limit) || b.last != 0 && e.Total != uint64(b.last) {
		return broken("read", "END at %d of stream %d, which has %d of %d granted", e.Total, b.id, b.furthest, b.limit)
	}
	b.ended, b.total, b.endRoot, b.trailer = true, int64(e.Total), e.Root, e.Trailer
	b.signal()
	return nil
}

// sinkReady prepares the receiving half once the stream is agreed. mu is held.
func (b *BlockStream) sinkReady(root Root) error {
	b.limit = b.start + b.window
	b.arrived, b.handed, b.consumed, b.synced = b.start, b.start, b.start, b.start
	b.folded, b.root = b.start, root
	b.tune = tuner{since: time.Now(), base: b.start}
	b.furthest = b.start
	waiting := b.early
	b.early = map[int64]arrival{}
	for _, off := range slices.Sorted(maps.Keys(waiting)) {
		a := waiting[off]
		if err := b.place(off, int64(a.head.Span())); err != nil {
			return err
		}
		b.file(a)
	}
	return nil
}
