package flow

import "context"

// heldBlock is a block that is ready to go out.
type heldBlock struct {
	parcel
	epoch uint32 // of the session, when it was booked
}

const (
	volley  = MiB      // of content that a stream sends in a row
	maxHeld = 16 * MiB // over all streams of a pool
)

// hold keeps a block back until a volley has gathered, if there is memory for it: what is read and
// hashed in one go, and sent in the next, wakes the peer once for all of it. On a long link, whose
// lanes have goroutines of their own, it would only be late.
func (b *BlockStream) hold(h heldBlock) bool {
	if b.s.RTT() >= longLink {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	bytes := h.content
	for _, o := range b.held {
		bytes += o.content
	}
	if b.closed || bytes >= volley || !b.s.cfg.Pool.hold(h.content) {
		return false
	}
	b.held = append(b.held, h)
	return true
}

// flush sends what is held. After an error, and in another epoch, it is dropped.
func (b *BlockStream) flush(ctx context.Context) (err error) {
	b.mu.Lock()
	held := b.held
	b.held = nil
	b.mu.Unlock()
	for _, h := range held {
		b.s.cfg.Pool.hold(-h.content)
		if err != nil {
			b.s.cfg.Pool.put(h.buf)
			continue
		}
		err = b.shipOne(ctx, h)
	}
	return err
}

// dropHeld gives the memory back. mu is held.
func (b *BlockStream) dropHeld() {
	for _, h := range b.held {
		b.s.cfg.Pool.hold(-h.content)
		b.s.cfg.Pool.put(h.buf)
	}
	b.held = nil
}

// hold books n bytes of blocks that are held back, or, below 0, that are not any more.
func (p *Pool) hold(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n > 0 && p.held+n > maxHeld {
		return false
	}
	p.held += n
	return true
}
