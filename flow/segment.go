package flow

import "github.com/pannier/pannier/spec/fault"

// segment is a DATA frame as it came.
type segment struct {
	buf    *buffer
	data   []byte // not read yet
	off    int64
	digest uint64 // of data, which is whole until right
	right  bool
}

// smallData is how many bytes of a frame are rather copied than kept in the
// buffer they came in: a peer that sends a window of single bytes would otherwise
// have it kept in 4 KiB each.
const smallData = KiB

// keep queues a segment, behind the last one in its buffer if it is small and that
// has room. mu is held.
func (b *ByteStream) keep(seg segment) {
	if n := len(b.segments); len(seg.data) <= smallData && seg.verify() == nil && n > 0 {
		last := &b.segments[n-1]
		if last.right && cap(last.data)-len(last.data) >= len(seg.data) {
			last.data = append(last.data, seg.data...)
			b.s.cfg.Pool.put(seg.buf)
			return
		}
	}
	b.segments = append(b.segments, seg)
}

// copyOut moves bytes from segments to p, each held against its digest first. mu
// is held.
func (b *ByteStream) copyOut(p []byte) (int, error) {
	total := 0
	for len(b.segments) > 0 && total < len(p) {
		seg := &b.segments[0]
		if err := seg.verify(); err != nil {
			if total > 0 {
				break // what came before it is right; the next Read gets the error
			}
			b.dropSegments()
			b.finCame, b.err = false, err // the peer's polite end may have been here before
			return 0, err
		}
		n := copy(p[total:], seg.data)
		total += n
		if seg.data = seg.data[n:]; len(seg.data) == 0 {
			b.s.cfg.Pool.put(seg.buf)
			b.segments[0] = segment{}
			b.segments = b.segments[1:]
		}
	}
	b.read += int64(total)
	return total, nil
}

// verify is the digest's. It is looked at where the bytes are taken, as a
// block's is, so that the lane's reader waits for no hash.
func (g *segment) verify() error {
	if g.right {
		return nil
	}
	if got := blockDigest(g.data, g.off); got != g.digest {
		return fault.New("verify data", fault.Corrupt, "%d bytes at %d have digest %016x, their head says %016x", len(g.data), g.off, got, g.digest)
	}
	g.right = true
	return nil
}

// dropSegments gives back what will not be read. mu is held.
func (b *ByteStream) dropSegments() {
	for _, seg := range b.segments {
		b.s.cfg.Pool.put(seg.buf)
	}
	b.segments = nil
}
