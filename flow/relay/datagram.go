package relay

import (
	"bufio"
	"encoding/binary"
	"io"
	"sync"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

// Frames of a stream of KindUDP, numbers big-endian:
//
//	sort   u8   1 source (payload: its address, as text), 2 datagram, 3 gone
//	source u32  chosen by the entry, never used again on the stream
//	length u16  payload bytes
type sort uint8

const (
	newSource sort = 1 // entry to exit, before its first datagram
	datagram  sort = 2
	gone      sort = 3 // nothing more of this source; either way
)

const frameHead = 7

// Bounds of what waits to be sent. What does not fit is dropped, as any network
// would: a datagram that waits long is of no use, and nobody waits for its sender.
const (
	maxQueued       = 4 << 20 // bytes on one stream
	maxQueuedWords  = 1 << 20 // more than that, of what is no datagram and may not be dropped: then the stream ends
	maxQueuedSource = 1 << 20 // of these, of one source: 0.1 s of 50,000 datagrams of 200 bytes a second

	// Of all streams of a relay, or of an entry of the policy: a partner can open thousands of them and take nothing.
	maxQueuedAll      = 64 << 20 // bytes, those that are being written included
	maxQueuedAllWords = 16 << 20 // more than that, of what is no datagram: then streams end that have more than fewQueued
	fewQueued         = 64 << 10
)

// queue gathers frames while a write is under way, and writes them together.
type queue struct {
	use  *usage
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	pending []byte
	of      map[uint32]pile  // pending datagrams by source
	st      *flow.ByteStream // that drain writes to
	over    bool
}

// pile is the datagrams of a source that wait, or are being written.
type pile struct {
	*tally
	n, bytes int
}

// book counts what has waited as sent or, unless it was written, as dropped.
func book(all map[uint32]pile, written bool) {
	for _, p := range all {
		if written {
			p.went(p.n, p.bytes)
		} else {
			p.stayed(p.n, p.bytes)
		}
	}
	clear(all)
}

// bookPart is book after n bytes of out were written: what is whole in them was sent.
func bookPart(all map[uint32]pile, out []byte, n int) {
	for len(out) > 0 {
		source, bytes := binary.BigEndian.Uint32(out[1:]), int(binary.BigEndian.Uint16(out[5:]))
		if n -= frameHead + bytes; n < 0 {
			break
		}
		if p := all[source]; sort(out[0]) == datagram {
			p.went(1, bytes)
			all[source] = pile{p.tally, p.n - 1, p.bytes - bytes}
		}
		out = out[frameHead+bytes:]
	}
	book(all, false)
}

func newQueue(use *usage) *queue {
	return &queue{use: use, wake: make(chan struct{}, 1), of: map[uint32]pile{}}
}

// put queues a frame that is no datagram; false: there was no room, or the queue is over.
func (q *queue) put(s sort, source uint32, payload []byte) bool {
	return q.add(s, source, nil, payload)
}

// send queues a datagram of a source, in whose books it is from then on; false: there was no room, or the queue is over.
func (q *queue) send(source uint32, t *tally, payload []byte) bool {
	return q.add(datagram, source, t, payload)
}

// add is put, and send.
func (q *queue) add(s sort, source uint32, t *tally, payload []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over {
		return false
	}
	n := int64(frameHead + len(payload))
	all := q.use.queued.Add(n)
	switch {
	case s == datagram:
		if len(q.pending)+len(payload) > maxQueued || q.of[source].bytes+len(payload) > maxQueuedSource || all > maxQueuedAll {
			q.use.queued.Add(-n)
			return false
		}
		p := q.of[source]
		q.of[source] = pile{t, p.n + 1, p.bytes + len(payload)}
		t.gave(len(payload))
	case len(q.pending) > maxQueued+maxQueuedWords || all > maxQueuedAll+maxQueuedAllWords && len(q.pending) > fewQueued:
		// the other end takes nothing, and makes more and more to be said
		q.use.queued.Add(-n)
		q.finish()
		if q.st != nil {
			q.st.Reset(errTakesNothing)
		}
		return false
	}
	q.pending = append(q.pending, byte(s))
	q.pending = binary.BigEndian.AppendUint32(q.pending, source)
	q.pending = binary.BigEndian.AppendUint16(q.pending, uint16(len(payload)))
	q.pending = append(q.pending, payload...)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// errTakesNothing ends a stream.
var errTakesNothing = fault.NewLocal("relay", fault.Overloaded, "the partner takes nothing of what there is to say of its sources")

// end makes drain return and put refuse.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.finish()
}

// finish is end. q.mu is held.
func (q *queue) finish() {
	if !q.over {
		q.over = true
		close(q.wake)
	}
	q.use.queued.Add(-int64(len(q.pending)))
	q.pending = nil
	book(q.of, false)
}

// drain writes to st what is queued until the queue or the stream is over.
func (q *queue) drain(st *flow.ByteStream) error {
	q.mu.Lock()
	q.st = st
	q.mu.Unlock()
	var spare []byte
	of := map[uint32]pile{}
	for range q.wake {
		q.mu.Lock()
		out := q.pending
		q.pending = spare[:0]
		of, q.of = q.of, of
		q.mu.Unlock()
		n, err := st.Write(out)
		q.use.queued.Add(-int64(len(out)))
		if err != nil {
			bookPart(of, out, n)
			return err
		}
		book(of, true)
		if spare = out; cap(spare) > fewQueued { // after a burst
			spare = nil
		}
	}
	return nil
}

// tooLarge is a datagram over what this end has announced, which was skipped.
const tooLarge sort = 0

// frame is one that has come; payload is good until the next.
type frame struct {
	sort    sort
	source  uint32
	payload []byte
}

// readAhead is what a stream of datagrams holds in memory, which a partner can open many of.
const readAhead = 16 << 10

// frames reads a stream.
type frames struct {
	in      *bufio.Reader
	largest int
	buf     []byte // grows with what comes
}

func newFrames(st io.Reader, largest int) *frames {
	return &frames{in: bufio.NewReaderSize(st, readAhead), largest: largest}
}

func (f *frames) next() (frame, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(f.in, head[:]); err != nil {
		return frame{}, err
	}
	n := int(binary.BigEndian.Uint16(head[5:]))
	r := frame{sort: sort(head[0]), source: binary.BigEndian.Uint32(head[1:])}
	switch {
	case r.sort < newSource || r.sort > gone || r.sort == newSource && n > maxOrigin:
		return frame{}, fault.New("read datagram", fault.Protocol, "a frame of sort %d with %d bytes", r.sort, n)
	case r.sort == datagram && n > f.largest: // sent before this end's limit was known
		_, err := f.in.Discard(n)
		return frame{sort: tooLarge, source: r.source}, err
	case r.sort == gone && n > 0:
		return frame{}, fault.New("read datagram", fault.Protocol, "%d bytes behind an end", n)
	}
	if n > len(f.buf) {
		f.buf = make([]byte, max(n, min(2*len(f.buf), MaxDatagram)))
	}
	r.payload = f.buf[:n]
	_, err := io.ReadFull(f.in, r.payload)
	return r, err
}
