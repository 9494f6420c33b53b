package flow

import (
	"os"
	"sort"
	"time"

	"github.com/pannier/pannier/flow/wire"
)

// A keeper is what a byte stream has that outlives its connections: the bytes
// that the peer may ask for again. Everything but flight is ByteStream.mu's.
//
//	acked <= wired <= ByteStream.sent
type keeper struct {
	flight chan struct{} // capacity 1: who writes frames of this stream
	epoch  uint32        // whose connections carry the stream; 0: none until RESUME says where to go on
	lives  uint32        // whose connections may deliver
	kept   []segment     // the bytes from acked to sent, and maybe some before
	acked  int64         // has arrived at the peer
	wired  int64         // has gone out in this epoch, or arrived in an earlier one
	end    bool          // so has FIN
	flying *buffer       // is being written, and therefore not given back; nil: nothing is
	// parting: both directions were closed in order and the stream here is over,
	// but the peer has not confirmed it. parted: it was told so in this epoch.
	parting, parted bool
	patience        *time.Timer // until the end is taken for confirmed; nil: parted was never
}

// keptAnyway is how much a stream may have that has not arrived, whatever the
// budgets say. A peer acknowledges at least as often, so nobody waits for ever.
const keptAnyway = frameRelay

func newKeeper(epoch uint32) *keeper {
	return &keeper{flight: make(chan struct{}, 1), epoch: epoch, lives: epoch}
}

// keepRoom is how many of n bytes may be sent before more has arrived.
func (b *ByteStream) keepRoom(n int) int {
	n = min(n, frameFast)
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	held := b.sent - b.keeper.acked
	if held+int64(n) <= keptAnyway || b.s.affords(int64(n)) {
		return n
	}
	return int(max(0, keptAnyway-held))
}

// sendKept sends the first n bytes of buf's payload, or FIN, at once or when there
// are connections again. It keeps buf. The caller holds the place in writes.
func (b *ByteStream) sendKept(buf *buffer, n int) error {
	k := b.keeper
	if err := b.fly(); err != nil {
		b.s.cfg.Pool.put(buf)
		return err
	}
	b.s.mu.Lock()
	b.mu.Lock()
	closed := b.closed
	b.finSent = b.finSent || !closed && n == 0
	if !closed && n > 0 {
		b.s.adjust(int64(n))
		b.keepSent(segment{buf: buf, data: buf.payload(n), off: b.sent, right: true})
		b.sent += int64(n)
	} else {
		b.s.cfg.Pool.put(buf)
	}
	b.mu.Unlock()
	b.s.mu.Unlock()
	if closed {
		<-k.flight
		return b.failure()
	}
	if b.catchUp(&b.wr) {
		<-k.flight
	} else {
		b.leaveIt()
	}
	return nil
}

// leaveIt has another goroutine send what a writer whose deadline has passed does not wait
// for. The caller holds flight.
func (b *ByteStream) leaveIt() {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	if b.s.state == over {
		<-b.keeper.flight
		return
	}
	b.s.wg.Add(1)
	go func() {
		defer b.s.wg.Done()
		b.catchUp(nil)
		<-b.keeper.flight
	}()
}

// fly takes flight, for which only another end's slowness makes it wait.
func (b *ByteStream) fly() error {
	k := b.keeper
	select {
	case k.flight <- struct{}{}:
		return nil
	default:
	}
	select {
	case k.flight <- struct{}{}:
		return nil
	case <-b.done:
		return b.failure()
	case <-b.wr.expired():
		return os.ErrDeadlineExceeded
	}
}

// keepSent keeps a segment: behind the last one if it is small, in a buffer of
// its size if it is much smaller than the one it came in. mu is held.
func (b *ByteStream) keepSent(seg segment) {
	k, pool := b.keeper, b.s.cfg.Pool
	n := len(seg.data)
	if last := len(k.kept) - 1; last >= 0 && n <= smallData {
		if l := &k.kept[last]; cap(l.data)-len(l.data) >= n+slack {
			l.data = append(l.data, seg.data...)
			pool.put(seg.buf)
			return
		}
	}
	if 4*n <= classes[seg.buf.class] {
		if small := pool.get(n); small.class < seg.buf.class {
			copy(small.payload(n), seg.data)
			pool.put(seg.buf)
			seg.buf, seg.data = small, small.payload(n)
		} else {
			pool.put(small)
		}
	}
	k.kept = append(k.kept, seg)
}

// catchUp writes everything that was sent and has not gone out on the connections
// that there are. The caller holds flight. false: limit, which may be nil, has passed before.
func (b *ByteStream) catchUp(limit *timeLimit) bool {
	for {
		b.s.mu.Lock()
		t, epoch := b.s.turns, b.s.epoch
		b.s.mu.Unlock()
		n, ok := b.behind(epoch)
		if !ok {
			return true
		}
		l, err := b.keptTurn(t, n, limit)
		if err != nil { // the epoch is over, and the next begins with RESUME; or the stream is
			return err != os.ErrDeadlineExceeded
		}
		frame, own := b.nextKept(epoch)
		if frame == nil {
			t.release(l)
			return true
		}
		l.send(frame)
		b.flown(own)
	}
}

// behind reports whether the stream has something for the wire of this epoch, and
// about how much is next. At the end of a stream that is parting it says so to the
// peer.
func (b *ByteStream) behind(epoch uint32) (next int, ok bool) {
	k := b.keeper
	b.mu.Lock()
	switch {
	case k.epoch != epoch || b.closed && !k.parting:
		b.mu.Unlock()
		return 0, false
	case k.wired < b.sent || b.finSent && !k.end:
		next = int(min(b.sent-k.wired, int64(b.mostOfFrame())))
		b.mu.Unlock()
		return next, true
	}
	tell := k.parting && !k.parted
	k.parted = k.parted || tell
	b.mu.Unlock()
	if tell {
		b.farewell(epoch)
	}
	return 0, false
}

// farewell tells the peer that the stream is over here and that everything has
// gone out in this epoch. In another one that may not be so.
func (b *ByteStream) farewell(epoch uint32) {
	b.s.mu.Lock()
	l := b.s.control
	if b.s.epoch != epoch {
		l = nil
	}
	if l != nil {
		b.told()
	}
	b.s.mu.Unlock()
	if l != nil {
		l.post(resetFrame(b.id, nil), true)
	}
}

// told bounds what a peer that does not confirm the end can have kept here. It is about
// to be told of it, behind everything else of the stream; so all that is lost by forgetting
// too soon is that the end survives the connections. Session.mu is held.
func (b *ByteStream) told() {
	s, k := b.s, b.keeper
	if s.parting > s.cfg.SessionBudget || !s.cfg.Pool.reserve(0, false) {
		b.end(nil)
		s.forget(b.id, b)
		return
	}
	if k.patience == nil {
		k.patience = time.AfterFunc(s.cfg.ResumeTimeout, b.confirmed)
	} else {
		k.patience.Reset(s.cfg.ResumeTimeout)
	}
}

// confirmed is called when the peer has had the time to confirm the end, unless that was
// in an epoch that is over.
func (b *ByteStream) confirmed() {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.mu.Lock()
	over := b.keeper.parted && b.keeper.epoch == b.s.epoch
	b.mu.Unlock()
	if over {
		b.end(nil)
		b.s.forget(b.id, b)
	}
}

// keptTurn waits for a lane for n bytes, while the stream has something to say, and
// no longer than limit.
func (b *ByteStream) keptTurn(t *turns, n int, limit *timeLimit) (*lane, error) {
	l, w, err := t.enter(b.class, &b.seat, wire.DataHeadSize+n)
	if w == nil {
		return l, err
	}
	var late <-chan struct{}
	if limit != nil {
		late = limit.expired()
	}
	for done := b.done; ; done = nil {
		select {
		case l := <-w.ready:
			if l == nil {
				return nil, errEpochOver
			}
			return l, nil
		case <-done:
			if !b.parts() {
				t.abandon(w)
				return nil, b.failure()
			}
		case <-late:
			t.abandon(w)
			return nil, os.ErrDeadlineExceeded
		}
	}
}

func (b *ByteStream) parts() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.keeper.parting }

// nextKept is the next frame, or nil if this is not the stream's epoch any more.
// Where a segment is to be sent from its beginning and fits into a frame, that is
// in its own buffer.
func (b *ByteStream) nextKept(epoch uint32) (frame []byte, own bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.keeper
	if k.epoch != epoch || b.closed && !k.parting {
		return nil, false
	}
	off, most := k.wired, b.mostOfFrame()
	var buf *buffer
	var n int
	flags := wire.Flags(0)
	if off < b.sent {
		seg := b.keptAt(off)
		rest := seg.data[off-seg.off:]
		n = min(len(rest), most)
		buf, own = seg.buf, off == seg.off && n == len(rest)
		if !own {
			buf = b.s.cfg.Pool.get(n)
			copy(buf.payload(n), rest)
		}
		k.wired += int64(n)
	} else {
		buf, flags, k.end = b.s.cfg.Pool.get(0), wire.Fin, true
	}
	h := wire.DataHead{
		Header: wire.Header{Flags: flags, Class: b.class, Stream: b.id, Length: uint32(n)},
		Offset: uint64(off), Digest: blockDigest(buf.payload(n), off),
	}
	k.flying = buf
	frame = buf.mem[headroom-wire.DataHeadSize : headroom+n]
	h.Put(frame)
	return frame, own
}

// keptAt is the segment that has the byte at off. mu is held.
func (b *ByteStream) keptAt(off int64) *segment {
	kept := b.keeper.kept
	behind := sort.Search(len(kept), func(i int) bool { return kept[i].off > off })
	return &kept[behind-1]
}

// flown is told that a frame has been written, from a segment's own buffer or
// from a copy.
func (b *ByteStream) flown(own bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.keeper
	buf := k.flying
	k.flying = nil
	if !own || b.closed && !k.parting { // dropKept has left it to this end
		b.s.cfg.Pool.put(buf)
		return
	}
	b.prune()
}

// arrivedAt books what the peer has. Session.mu and mu are held.
func (b *ByteStream) arrivedAt(off int64) {
	k := b.keeper
	if off > k.acked {
		b.s.adjust(k.acked - off)
		if k.parting {
			b.s.parting -= int(off - k.acked)
		}
		k.acked = off
		b.prune()
	}
}

// prune gives back what has arrived. mu is held.
func (b *ByteStream) prune() {
	k := b.keeper
	i := 0
	for i < len(k.kept) && k.kept[i].off+int64(len(k.kept[i].data)) <= k.acked && k.kept[i].buf != k.flying {
		b.s.cfg.Pool.put(k.kept[i].buf)
		k.kept[i] = segment{}
		i++
	}
	if k.kept = k.kept[i:]; len(k.kept) == 0 {
		k.kept = nil
	}
}

// dropKept forgets what was kept: the stream is over. Session.mu and mu are held.
func (b *ByteStream) dropKept() {
	k := b.keeper
	if k == nil {
		return
	}
	if k.parting {
		b.s.parting -= int(b.sent - k.acked)
		k.parting = false
	}
	if k.patience != nil {
		k.patience.Stop()
	}
	b.s.adjust(k.acked - b.sent)
	k.acked = b.sent
	for _, seg := range k.kept {
		if seg.buf != k.flying {
			b.s.cfg.Pool.put(seg.buf)
		}
	}
	k.kept = nil
}

// part ends the stream here, both directions having been closed in order, and
// keeps it in the session's books until the peer has confirmed that: what was
// sent last may still be lost with the connections. Where FIN has not gone out,
// catchUp says farewell. Session.mu is held.
func (b *ByteStream) part(err error) {
	k := b.keeper
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	k.parting = true
	b.s.parting += int(b.sent - k.acked)
	k.parted = k.epoch == b.s.epoch && k.wired == b.sent && k.end && k.flying == nil
	tell := k.parted
	b.mu.Unlock()
	b.end(err)
	if l := b.s.control; tell && l != nil {
		b.told()
		l.enqueue(resetFrame(b.id, nil))
		l.kick()
	}
}

// goesOn is told that the connections are gone, and reports whether the stream
// waits for new ones.
func (b *ByteStream) goesOn() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.keeper
	if k == nil || !b.accepted || b.closed && !k.parting {
		return false
	}
	k.epoch, k.lives = 0, 0
	return true
}

// confirms reports whether a friendly RESET of the peer is to be answered with
// another: it waits for that, unless this end has sent one.
func (b *ByteStream) confirms() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keeper != nil && !b.keeper.parted && (b.keeper.parting || !b.closed)
}

// standing is what this end has of the stream. In a RESUME the end of a direction
// counts as one byte more, as TCP's does.
func (b *ByteStream) standing(e *wire.ResumeStream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.Received, e.Window = uint64(b.arrived), uint64(b.limit)
	if b.finCame {
		e.Received++
	}
}

// revive lets lanes of the epoch deliver.
func (b *ByteStream) revive(epoch uint32) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keeper.lives = epoch
	return nil
}

// resumed goes on where the peer stands. Session.mu is held.
func (b *ByteStream) resumed(e wire.ResumeStream, epoch uint32) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.keeper
	r := int64(e.Received)
	end := b.finSent && r == b.sent+1
	if end {
		r--
	}
	if r < k.acked || r > b.sent {
		return nil, broken("read", "RESUME at %d of stream %d, which has %d acknowledged and %d sent", e.Received, b.id, k.acked, b.sent)
	}
	b.arrivedAt(r)
	b.granted = max(b.granted, int64(e.Window))
	k.wired, k.end, k.epoch, k.parted = r, end, epoch, false
	signal(b.writable)
	b.s.wg.Add(1)
	go b.again()
	return nil, nil
}

// again sends what did not arrive over connections that are gone.
func (b *ByteStream) again() {
	defer b.s.wg.Done()
	b.keeper.flight <- struct{}{}
	b.catchUp(nil)
	<-b.keeper.flight
}
