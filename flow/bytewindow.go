package flow

import (
	"net"
	"os"
	"time"

	"github.com/pannier/pannier/flow/wire"
)

func (b *ByteStream) credit(granted, received uint64) (bool, error) {
	if b.keeper != nil {
		b.s.mu.Lock() // for the books of what is kept
		defer b.s.mu.Unlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	sent := b.sent
	if b.keeper != nil {
		sent = b.keeper.wired
	}
	if received > uint64(sent) || granted > wire.MaxOffset {
		return false, broken("read", "CREDIT %d, received %d, where %d were sent", granted, received, sent)
	}
	if b.keeper != nil && !b.closed {
		b.arrivedAt(int64(received))
	}
	raised := int64(granted) > b.granted
	b.granted = max(b.granted, int64(granted))
	b.widest = max(b.widest, b.granted-b.sent)
	signal(b.writable)
	return raised, nil
}

// consumed returns credit when a quarter of the window has been read; direct as in lane.post.
func (b *ByteStream) consumed(n int64, direct bool) {
	b.s.mu.Lock()
	b.mu.Lock()
	var frame []byte
	n = min(n, b.limit-b.booked) // 0: it was given up meanwhile
	b.s.adjust(-n)
	b.booked += n
	if !b.closed {
		b.grow()
		if due := b.read + b.window - b.limit; due >= b.worthCredit() && (b.keeper != nil || !b.finCame) {
			b.s.adjust(due)
			b.limit += due
			frame = wire.AppendCredit(nil, b.id, uint64(b.limit), uint64(b.arrived))
		}
	}
	b.mu.Unlock()
	b.s.mu.Unlock()
	if frame != nil {
		b.s.post(frame, direct)
	}
}

// worthCredit is how much has to be read before the peer hears of it. mu is held.
func (b *ByteStream) worthCredit() int64 {
	if b.keeper != nil { // the peer may be able to keep no more
		return min(b.window/4, keptAnyway)
	}
	return b.window / 4
}

// growTime is how fast a window must have been read for the next to be twice as
// large: in two round trips, because then it was what held the peer up; or in so
// little time that each CREDIT, which wakes both ends, came too soon. The round trip is the one behind
// what waits on the link: where streams wait for one another a window that covers only that of an
// empty link holds up the one that has the largest share.
const growTime = 4 * time.Millisecond

// grow doubles the window of a stream that is read fast, while the budgets have
// room. A stream whose reader has stopped keeps what it had. Both mu are held.
func (b *ByteStream) grow() {
	if b.class == wire.ClassInteractive || b.read-b.grewAt < b.window {
		return
	}
	now := time.Now()
	took := now.Sub(b.grew)
	fast := took < max(2*b.s.RTT(), growTime) || took < 2*b.s.loadedTrip()
	b.grew, b.grewAt = now, b.read
	if next := 2 * b.window; fast && next <= int64(b.s.cfg.MaxWindow) && b.s.affords(b.window) {
		b.window = next
	}
}

// mostOfFrame is how large a frame may be: an eighth of a window that has grown, as that
// was moved in 2 round trips or 4 ms, so nobody waits for longer than a quarter of a round trip or
// 0.5 ms behind it; on a long link, where windows cover what waits, too, a quarter of what moves in a round trip.
// Where all share one pipe it is as a block there. mu is held.
func (b *ByteStream) mostOfFrame() int {
	if b.class == wire.ClassInteractive {
		return frameInteractive
	}
	most := min(b.widest/8, b.fast)
	if carries := b.s.queues.carries.Load(); carries > 0 {
		most = min(most, carries/4)
	}
	return int(max(frameRelay, most))
}

// reserve waits for credit for up to n bytes.
func (b *ByteStream) reserve(n int) (int, error) {
	for {
		want := n
		if b.keeper != nil {
			want = b.keepRoom(n)
		}
		b.mu.Lock()
		room := int(min(b.granted-b.sent, int64(min(want, b.mostOfFrame()))))
		closed, fin, err := b.closed, b.finSent, b.err
		b.mu.Unlock()
		switch {
		case closed:
			return 0, err
		case fin:
			return 0, net.ErrClosed
		case room > 0:
			return room, nil
		}
		select {
		case <-b.writable:
		case <-b.done:
		case <-b.wr.expired():
			return 0, os.ErrDeadlineExceeded
		}
	}
}
