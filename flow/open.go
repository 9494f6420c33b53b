package flow

import (
	"context"
	"math"
	"net"
	"sync"
	"time"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// Open says what a stream is for. Kind and Meta belong to the users of flow.
//
// Compression is decided by whoever sends the blocks.
type Open struct {
	Kind string // at most 64 bytes; "grpc" is flow's own
	Meta []byte // at most 32 KiB

	// Block streams only.
	Send      bool        // the opener is the source
	Start     int64       // proposed offset of the first block
	BlockSize int         // proposed; 0 = what fits the node and its load
	MaxBlock  int         // bounds that; 0 = does not
	Window    int64       // most this end has in flight as the sink; 0 = grows to Config.MaxWindow
	Compress  Compression // of the blocks this end sends

	// Byte streams only.
	Class  wire.Class // how urgent; zero = relay
	Resume bool       // the stream outlives its connections and ends with the session: each end keeps what has not arrived
}

// minBlock is the smallest block size ever agreed on.
const minBlock = 4 * KiB

// blockWish is what a stream would have its blocks of.
type blockWish struct {
	size   int   // 0: what suits the connections, and
	most   int   // of that; 0: no bound
	window int64 // of this end as the sink; 0: as configured
	source bool  // this end sends the blocks
}

// chooseBlock proposes a block size: that which suits, halved until four blocks for every stream fit the
// session's budget, but at least 16 KiB. A size that is wished for is halved for one block of every
// stream: the boundaries of a transfer that goes on cannot change.
func (s *Session) chooseBlock(w blockWish) int {
	size, fair := w.size, s.cfg.SessionBudget/(len(s.streams)+1)
	if size == 0 {
		size, fair = min(s.cfg.BlockSize, s.suitedBlock(w.source)), fair/4
		if w.most > 0 {
			size = min(size, w.most)
		}
		if !w.source {
			window := int64(s.cfg.MaxWindow)
			if w.window > 0 {
				window = min(window, w.window)
			}
			size = min(size, max(int(window/4), 16*KiB))
		}
	}
	for size > 16*KiB && size > fair {
		size /= 2
	}
	if s.limits.frame > 0 {
		size = min(size, s.limits.frame)
	}
	return max(size, minBlock)
}

// BlockSize is what the blocks of a stream from here are of where neither end wishes otherwise.
func (s *Session) BlockSize() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chooseBlock(blockWish{source: true})
}

// suitedBlock is how large blocks may well be. What a block costs besides its bytes is waking and being
// woken, at both ends, so large ones are cheap; but what follows on the lane waits for all of it, so one should be sent within
// blockTime. The source knows how fast its lanes were; before they have moved anything they are believed to be so on one host.
// Where all share one connection that nothing passes on, small calls should not wait for a big block.
func (s *Session) suitedBlock(source bool) int {
	switch {
	case s.small:
		return 64 * KiB
	case s.RTT() >= longLink:
		return blockFar
	case !source:
		return MiB
	}
	rate := s.turns.rate()
	if rate == 0 && s.near || rate*blockTime.Seconds() >= MiB {
		return MiB
	}
	return blockFar
}

const (
	blockFar  = 256 * KiB
	blockTime = 4 * time.Millisecond
)

// rate is what the fastest lane for blocks moved in a second when somebody waited for it last, in bytes; 0 is unknown.
func (t *turns) rate() (most float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.lanes {
		if l.purpose == wire.Bulk {
			most = max(most, l.pipe.rate)
		}
	}
	return most
}

// divides reports whether a connection says that it cuts what is written to it,
// and lets others pass between the pieces, as HTTP/2 does with its streams.
func divides(conn net.Conn) bool {
	d, ok := conn.(interface{ Divides() bool })
	return ok && d.Divides()
}

// chooseWindow is what a new sink grants: at least four blocks if the budget
// allows it, at least one in any case. Session.mu is held.
func (s *Session) chooseWindow(block int, most int64) int64 {
	w := max(s.cfg.Window, min(max(4*block, expected(s.RTT())), s.cfg.MaxWindow))
	if most > 0 {
		w = min(w, int(min(most, math.MaxInt)))
	}
	for w > block && !s.affords(int64(w)) {
		w /= 2
	}
	return int64(max(w, block))
}

// OpenBlocks opens a block stream and waits until the peer has accepted it. A
// refusal is a *fault.Error with Side Peer.
func (s *Session) OpenBlocks(ctx context.Context, o Open) (*BlockStream, error) {
	if o.Start < 0 || o.BlockSize < 0 || o.BlockSize > wire.MaxFrame || o.BlockSize != 0 && o.BlockSize < minBlock {
		return nil, fault.New("open stream", fault.Invalid, "Start is %d and BlockSize %d; Start is 0 or more, BlockSize 0 or %d to %d", o.Start, o.BlockSize, minBlock, wire.MaxFrame)
	}
	s.wantLanes(startLanes(&s.cfg, s.RTT()))
	if err := s.admitOwn(ctx); err != nil {
		return nil, err
	}
	b := newBlockStream(s, true, o.Send)
	b.start, b.block = o.Start, s.chooseBlock(blockWish{o.BlockSize, o.MaxBlock, o.Window, o.Send})
	b.squash.mode = o.Compress
	msg := wire.Open{Kind: o.Kind, Blocks: true, Send: o.Send, BlockSize: uint32(b.block), Start: uint64(o.Start), Class: uint8(wire.ClassBulk), Meta: o.Meta}
	if !o.Send {
		b.most, b.window = o.Window, s.chooseWindow(b.block, o.Window)
		b.consumed, b.limit, b.lives = b.start, b.start+b.window, s.epoch
		s.adjust(b.window)
		msg.Window = uint64(b.window)
	}
	id, err := s.register(b, &msg)
	b.id = id
	s.mu.Unlock()
	if err != nil {
		s.end1(b, err)
		return nil, err
	}
	s.push()
	if err := b.awaitAccept(ctx); err != nil {
		b.Reset(err)
		return nil, err
	}
	return b, nil
}

// end1 ends a stream that was never registered.
func (s *Session) end1(st stream, err error) {
	s.mu.Lock()
	st.end(err)
	s.mu.Unlock()
}

func newBlockStream(s *Session, mine, source bool) *BlockStream {
	return &BlockStream{
		s: s, mine: mine, source: source, began: time.Now(),
		done: make(chan struct{}), wake: make(chan struct{}, 1),
		sinkHalf: sinkHalf{early: map[int64]arrival{}},
	}
}

func (b *BlockStream) awaitAccept(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.closed:
			return b.overErr()
		case b.accepted:
			return nil
		}
		if err := b.wait(ctx); err != nil {
			return err
		}
	}
}

// onAccept finishes an opening that this side began.
func (b *BlockStream) onAccept(body []byte) error {
	var a wire.Accept
	if err := wire.Decode(body, &a); err != nil {
		return err
	}
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.mine || b.accepted || int(a.BlockSize) > b.block || a.BlockSize < minBlock || a.Start > wire.MaxOffset || a.Window > wire.MaxOffset {
		return broken("read", "ACCEPT of stream %d with block size %d, window %d", b.id, a.BlockSize, a.Window)
	}
	if b.closed {
		return nil
	}
	b.accepted, b.meta = true, a.Meta
	b.start, b.block = int64(a.Start), int(a.BlockSize)
	b.signal()
	if b.source {
		if int64(a.Window) < int64(b.block) {
			return broken("read", "ACCEPT of stream %d grants less than a block", b.id)
		}
		b.sourceReady(int64(a.Window), a.Root, b.s.epoch)
		return nil
	}
	return b.sinkReady(a.Root)
}

// admitOwn waits until one more stream may be opened. On success Session.mu is
// held.
func (s *Session) admitOwn(ctx context.Context) error {
	s.mu.Lock()
	for {
		switch {
		case s.state == over:
			err := s.err
			s.mu.Unlock()
			return err
		case s.draining || s.peerDrain:
			s.mu.Unlock()
			return fault.New("open stream", fault.Draining, "the session takes no new streams")
		case s.state == up && s.synced && (s.limits.streams == 0 || s.ownOpen < s.limits.streams):
			return nil
		}
		if err := s.wait(ctx); err != nil {
			s.mu.Unlock()
			return err
		}
	}
}

// register gives a stream its id and queues its OPEN, in one step, so that ids
// reach the peer in order. Session.mu is held.
func (s *Session) register(st stream, msg *wire.Open) (uint32, error) {
	id := s.lastOwn + 2
	if s.lastOwn == 0 {
		id = 2
		if s.dialer != nil {
			id = 1
		}
	}
	if id > 1<<31 {
		return 0, fault.New("open stream", fault.Overloaded, "the session has used up its stream ids; make a new one")
	}
	frame, err := wire.AppendControl(nil, wire.TypeOpen, id, msg)
	if err != nil {
		return 0, err
	}
	s.lastOwn = id
	s.streams[id] = st
	s.ownOpen++
	s.stats.opened.Add(1)
	switch t := st.(type) { // the id must be there before the first frame can come back
	case *BlockStream:
		t.id = id
	case *ByteStream:
		t.id = id
	}
	s.control.enqueue(frame)
	return id, nil
}

// push has the control lane write what waits on it: who opens a stream may give up while the peer does not read.
func (s *Session) push() {
	s.mu.Lock()
	l := s.control
	s.mu.Unlock()
	if l != nil {
		l.kick()
	}
}

// Incoming is a stream that the peer has opened and this side has not yet
// accepted or refused; do one of the two.
type Incoming struct {
	Open
	Blocks bool // a block stream

	s      *Session
	id     uint32
	window int64 // granted to us, if we become the source; to a byte stream's writer

	mu   sync.Mutex
	used bool // accepted or refused
	over error
}

// AcceptStream waits for the next stream that the peer opens.
func (s *Session) AcceptStream(ctx context.Context) (*Incoming, error) {
	for {
		select {
		case in := <-s.incoming:
			if in.usable() {
				return in, nil
			}
		case <-s.ctx.Done():
			return nil, s.Err()
		case <-ctx.Done():
			return nil, fault.Wrap("accept stream", "", context.Cause(ctx))
		}
	}
}

func (i *Incoming) lost() bool {
	i.end(fault.Concluded("accept stream", fault.Lost, "the connection went away"))
	return false
}

func (i *Incoming) end(err error) {
	i.mu.Lock()
	if i.over == nil {
		i.over = err
	}
	i.mu.Unlock()
}

func (i *Incoming) own() bool { return false }

func (i *Incoming) usable() bool { i.mu.Lock(); defer i.mu.Unlock(); return i.over == nil && !i.used }

// take marks the stream as dealt with. Session.mu is held.
func (i *Incoming) take() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over != nil {
		return i.over
	}
	if i.used {
		return fault.New("accept stream", fault.Invalid, "accepted or refused before")
	}
	i.used = true
	return nil
}

// opened handles OPEN in a reader.
func (s *Session) opened(l *lane, id uint32, body []byte) error {
	var o wire.Open
	if err := wire.Decode(body, &o); err != nil {
		return err
	}
	s.mu.Lock()
	if s.state != up || s.epoch != l.epoch {
		s.mu.Unlock()
		return errEpochOver
	}
	if s.isOwn(id) || id <= s.lastPeer {
		s.mu.Unlock()
		return broken("read", "OPEN of stream %d after %d", id, s.lastPeer)
	}
	if o.Blocks && (o.BlockSize < minBlock || o.BlockSize > wire.MaxFrame || !o.Send && o.Window < uint64(o.BlockSize)) {
		s.mu.Unlock()
		return broken("read", "OPEN of stream %d with block size %d, window %d", id, o.BlockSize, o.Window)
	}
	s.lastPeer = id
	in := &Incoming{
		s: s, id: id, Blocks: o.Blocks, window: int64(o.Window),
		Open: Open{Kind: o.Kind, Meta: o.Meta, Send: o.Send, Start: int64(o.Start), BlockSize: int(o.BlockSize), Class: wire.Class(o.Class), Resume: o.Resume},
	}
	err := s.queueIncoming(in)
	s.mu.Unlock()
	if err != nil {
		s.stats.refused.Add(1)
		s.post(resetFrame(id, err), false)
		return s.calm.take(opens, time.Now())
	}
	return nil
}

// queueIncoming puts a new stream where somebody will find it. Session.mu is held.
func (s *Session) queueIncoming(in *Incoming) error {
	switch {
	case s.leaving:
		return fault.New("accept stream", fault.Draining, "the node takes no new streams")
	case s.peerOpen >= s.cfg.MaxStreams:
		return fault.New("accept stream", fault.Overloaded, "%d streams are open", s.peerOpen)
	case in.Kind == kindRPC && !in.Blocks:
		switch {
		case s.home == nil:
			return fault.New("accept stream", fault.Unsupported, "this end serves no gRPC")
		case !s.single:
			return fault.New("accept stream", fault.Unsupported, "gRPC has connections of its own on this session")
		}
		if err := s.admitRPC(); err != nil {
			return err
		}
		s.streams[in.id] = in
		s.peerOpen++
		b, frame, err := in.acceptBytes(nil)
		if err != nil {
			s.rpcs--
			s.forget(in.id, in)
			return err
		}
		b.rpc = true
		if err := s.home.offerRPC(b, s); err != nil {
			b.end(err)
			s.forget(in.id, b)
			return err
		}
		s.control.enqueue(frame)
		s.control.kick()
		return nil
	}
	select {
	case s.incoming <- in:
		s.streams[in.id] = in
		s.peerOpen++
		return nil
	default:
		return fault.New("accept stream", fault.Overloaded, "%d streams wait to be accepted", maxPending)
	}
}

// flushIncoming empties the queue when the connections are gone. Session.mu is held.
func (s *Session) flushIncoming(err error) {
	for {
		select {
		case in := <-s.incoming:
			in.end(err)
		default:
			return
		}
	}
}

// Refuse tells the opener why not. Like Reset it does not wait.
func (i *Incoming) Refuse(err error) {
	i.s.mu.Lock()
	if i.take() != nil {
		i.s.mu.Unlock()
		return
	}
	i.s.forget(i.id, i)
	i.s.mu.Unlock()
	i.s.stats.refused.Add(1)
	i.s.post(resetFrame(i.id, err), false)
}

// AcceptBlocks is how the accepting side answers a block stream. Zero values
// keep what the opener proposed.
type AcceptBlocks struct {
	Meta      []byte
	Start     int64       // -1 = as proposed
	BlockSize int         // smaller than proposed, or 0
	MaxBlock  int         // as in Open
	Window    int64       // as in Open
	Root      Root        // of everything before Start, when Start continues something
	Compress  Compression // of the blocks this end sends
}

// AcceptBlocks accepts a block stream.
func (i *Incoming) AcceptBlocks(a AcceptBlocks) (*BlockStream, error) {
	if !i.Blocks {
		return nil, fault.New("accept stream", fault.Invalid, "it is a byte stream; use AcceptBytes")
	}
	i.s.wantLanes(startLanes(&i.s.cfg, i.s.RTT()))
	s := i.s
	if a.BlockSize != 0 && a.BlockSize < minBlock {
		return nil, fault.New("accept stream", fault.Invalid, "BlockSize is %d; it is 0 or at least %d", a.BlockSize, minBlock)
	}
	b := newBlockStream(s, false, !i.Send)
	b.id, b.meta, b.start, b.accepted = i.id, i.Meta, i.Start, true
	b.squash.mode = a.Compress
	if a.Start >= 0 {
		b.start = a.Start
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := i.take(); err != nil {
		return nil, err
	}
	b.block = a.BlockSize
	if b.start == 0 || b.block == 0 { // or else the boundaries are those of before
		b.block = s.chooseBlock(blockWish{a.BlockSize, a.MaxBlock, a.Window, !i.Send})
	}
	b.block = min(b.block, i.BlockSize)
	msg := wire.Accept{BlockSize: uint32(b.block), Start: uint64(b.start), Root: a.Root, Meta: a.Meta}
	if b.source {
		b.sourceReady(i.window, a.Root, s.epoch)
	} else {
		b.most, b.window = a.Window, s.chooseWindow(b.block, a.Window)
		b.lives = s.epoch
		s.adjust(b.window)
		msg.Window = uint64(b.window)
		if err := b.sinkReady(a.Root); err != nil {
			return nil, err
		}
	}
	frame, err := wire.AppendControl(nil, wire.TypeAccept, i.id, &msg)
	if err != nil {
		b.end(err)
		i.giveUp(err)
		return nil, err
	}
	s.streams[i.id] = b
	s.stats.accepted.Add(1)
	s.control.enqueue(frame)
	s.control.kick()
	return b, nil
}

// AcceptBytes accepts a byte stream.
func (i *Incoming) AcceptBytes(meta []byte) (*ByteStream, error) {
	if i.Blocks {
		return nil, fault.New("accept stream", fault.Invalid, "it is a block stream; use AcceptBlocks")
	}
	i.s.mu.Lock()
	defer i.s.mu.Unlock()
	if err := i.take(); err != nil {
		return nil, err
	}
	b, frame, err := i.acceptBytes(meta)
	if err != nil {
		i.giveUp(err)
		return nil, err
	}
	i.s.control.enqueue(frame)
	i.s.control.kick()
	return b, nil
}

// giveUp refuses a stream whose ACCEPT could not be made: the opener waits for
// an answer. Session.mu is held.
func (i *Incoming) giveUp(err error) {
	i.s.forget(i.id, i)
	i.s.control.enqueue(resetFrame(i.id, err))
	i.s.control.kick()
}

// acceptBytes makes the stream and its ACCEPT. Session.mu is held.
func (i *Incoming) acceptBytes(meta []byte) (*ByteStream, []byte, error) {
	b := newByteStream(i.s, false, i.Class, i.Resume)
	b.id, b.meta, b.accepted, b.granted = i.id, i.Meta, true, i.window
	i.s.adjust(b.window)
	frame, err := wire.AppendControl(nil, wire.TypeAccept, i.id, &wire.Accept{Window: uint64(b.window), Meta: meta})
	if err != nil {
		b.end(err)
		return nil, nil, err
	}
	i.s.streams[i.id] = b
	i.s.stats.accepted.Add(1)
	return b, frame, nil
}
