package flow

import "github.com/pannier/pannier/flow/wire"

// parcel is a block as it goes out. Usually the goroutine that has filled it
// writes it too, while the cache still holds it. On a long link, or with several
// lanes, a goroutine of the lane does: a write that waits for one connection must not keep the
// others from being filled.
type parcel struct {
	frame   []byte
	buf     *buffer // holds frame; back to the pool when it is written
	content int     // bytes, before compression
	payload int     // bytes of frame behind the header
}

// put sends a parcel. The caller has the turn on l and loses it; if taken is
// true it has lost the buffer as well.
func (b *BlockStream) put(l *lane, p parcel) (taken bool) {
	if l.s.RTT() < longLink && !l.turns.striped() {
		if l.send(p.frame) {
			b.bookSent(p.content, p.payload)
		}
		return false
	}
	b.bookSent(p.content, p.payload) // before the verdict can be here
	l.hand(p)
	return true
}

// hand gives a parcel to the lane's goroutine, which has nothing else to do: the
// caller has the turn and loses it.
func (l *lane) hand(p parcel) {
	select {
	case l.parcels <- p:
	case <-l.gone:
		l.s.cfg.Pool.put(p.buf)
		l.turns.release(l)
	}
}

// deliver writes a parcel.
func (l *lane) deliver(p parcel) {
	l.send(p.frame)
	l.s.cfg.Pool.put(p.buf)
}

// striped reports whether there are several lanes for blocks.
func (t *turns) striped() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	bulk := 0
	for _, l := range t.lanes {
		if l.purpose == wire.Bulk {
			bulk++
		}
	}
	return bulk > 1
}
