package rpc

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/pannier/pannier/spec/fault"
)

// How gRPC keeps what comes in: each DATA frame in a buffer of its own, of one of
// these sizes if it is large, and until the message is whole or the handler reads
// it. It gives back the connection's window for whatever comes, and the call's for
// what has gone into a message that is not whole yet, so its windows bound nothing.
const (
	frameCost  = 64       // bytes beside the content of a small frame: slice, entry, rounding
	smallFrame = 1 << 10  // up to which a frame's buffer is as large as the frame
	mostOpen   = 64 << 10 // calls of a connection that the server has not ended; gRPC does not bound refused ones whose answer nobody takes
)

// gRPC merges small frames that nobody reads, 29 to 37 KiB at a time. Of its own sizes the next is 1 MiB, of which it
// would waste nearly all; so the server has a pool of these.
var (
	bufferSizes   = []int{4 << 10, 16 << 10, 32 << 10, 40 << 10, 1 << 20, 16 << 20}
	serverBuffers = mem.NewTieredBufferPool(append([]int{256}, bufferSizes...)...)
)

// bufferSize is the memory behind a frame's content.
func bufferSize(n int) int64 {
	if n <= smallFrame {
		return int64(n)
	}
	i, _ := slices.BinarySearch(bufferSizes, n)
	return int64(bufferSizes[min(i, len(bufferSizes)-1)])
}

// pending is how much memory the calls of one connection hold in messages that are
// not whole, or that no handler has read. It learns that from the frames that pass.
type pending struct {
	peer *allowance
	all  *atomic.Int64 // of the server
	most int64         // of the server; a peer may have half
	held atomic.Int64  // of this connection

	mu     sync.Mutex
	closed bool
	calls  map[uint32]*inflow
	spare  *inflow          // a call less to allocate
	broken map[uint32]int64 // calls whose RST_STREAM is on its way, and the memory that gRPC holds for them until then
	mended chan struct{}    // capacity 1: there are none any more

	// Of the present frame that comes in.
	from h2frames
	call *inflow // nil: none that is known
	data int     // bytes of content to come
	pad  bool    // the length of the padding is to come

	// Of the present frame that goes out; used by out only, without mu.
	to     h2frames
	word   [4]byte // its payload, if that is all
	got    int
	breaks bool // it resets a call that is broken
}

// inflow is what a call has sent.
type inflow struct {
	// The message that is not whole: header (1 byte, 4 of length), then body.
	header [5]byte
	have   int
	body   int64 // bytes to come
	ended  bool  // in the present frame
	begun  int64 // memory of the frames that have some of it

	// What flow control says: came less what the server has given back. That is
	// more than what is unread by less than a quarter of the window, and less while a
	// large message is being read.
	window int64
	unread int64 // memory of that
}

func (c *inflow) held() int64 { return c.begun + c.unread }

// take follows the messages through a piece of content.
func (c *inflow) take(p []byte) {
	for len(p) > 0 {
		if c.body > 0 {
			n := min(c.body, int64(len(p)))
			c.body -= n
			c.ended = c.ended || c.body == 0
			p = p[n:]
			continue
		}
		n := copy(c.header[c.have:], p)
		c.have += n
		p = p[n:]
		if c.have == len(c.header) {
			c.have, c.body = 0, int64(binary.BigEndian.Uint32(c.header[1:]))
			c.ended = c.ended || c.body == 0
		}
	}
}

// came accounts for a frame of n bytes whose content take has seen.
func (c *inflow) came(n int) {
	if c.ended {
		c.ended, c.begun = false, 0
	}
	if c.have > 0 || c.body > 0 {
		c.begun += bufferSize(n) + frameCost
	}
	if c.window += int64(n); c.window > 0 {
		c.unread += bufferSize(n) // gRPC merges small frames that nobody reads
	}
}

// granted accounts for what the server gives back.
func (c *inflow) granted(n int64) {
	before := c.window
	if c.window -= n; c.window <= 0 {
		c.unread = 0
	} else {
		c.unread = int64(float64(c.unread) * float64(c.window) / float64(before))
	}
}

// seen is what in has found.
type seen struct {
	bytes  int    // looked at; less than there are: up to the end of a frame after which call is to be broken
	resets int    // calls taken back
	call   uint32 // holds the most, while the peer holds too much; 0: none
	full   bool   // the server holds too much
	err    error
}

// in follows what the client sends.
func (q *pending) in(p []byte) (s seen) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for rest := p; len(rest) > 0; {
		var piece []byte
		var begins, ends bool
		piece, rest, begins, ends = q.from.step(rest)
		s.bytes = len(p) - len(rest)
		if begins {
			switch q.from.kind() {
			case h2Reset:
				s.resets++
				q.end(q.from.stream())
			case h2Headers:
				if s.err = q.begin(q.from.stream()); s.err != nil {
					return s
				}
			case h2Data:
				q.call, q.data, q.pad = q.calls[q.from.stream()], q.from.left, q.from.has(h2Padded)
			}
		}
		if q.from.kind() != h2Data || q.call == nil {
			continue
		}
		q.content(piece)
		if ends && q.frame() {
			s.full = q.all.Load() > q.most
			if s.call = q.worst(); s.call != 0 || s.full {
				return s
			}
		}
	}
	return s
}

// content takes a piece of a DATA frame's payload.
func (q *pending) content(p []byte) {
	if q.pad && len(p) > 0 {
		q.data, q.pad = max(0, q.data-1-int(p[0])), false
		p = p[1:]
	}
	p = p[:min(len(p), q.data)]
	q.data -= len(p)
	q.call.take(p)
}

// frame accounts for the present DATA frame; true: somebody may hold too much.
func (q *pending) frame() bool {
	before := q.call.held()
	q.call.came(q.from.length())
	q.add(q.call.held() - before)
	return q.call.held() > before && (q.peerOver() || q.all.Load() > q.most)
}

// peerOver reports whether the peer holds too much, without what it is about to lose.
func (q *pending) peerOver() bool { return q.peer.held.Load()-q.peer.going.Load() > q.most/2 }

// worst is the call that holds the most, if the peer holds too much. It is broken.
func (q *pending) worst() (id uint32) {
	if !q.peerOver() {
		return 0
	}
	most := int64(0)
	for i, c := range q.calls {
		if c.held() > most {
			id, most = i, c.held()
		}
	}
	if id != 0 {
		q.sever(id)
	}
	return id
}

// sever forgets a call that is to be reset. What it holds counts until the reset is out.
func (q *pending) sever(id uint32) {
	held := q.forget(id)
	q.broken[id] += held
	q.peer.going.Add(held)
}

// begin opens a call, unless it is there: then these are trailers. Invalid ones
// are answered by gRPC.
func (q *pending) begin(id uint32) error {
	if id%2 == 0 || q.closed || q.calls[id] != nil {
		return nil
	}
	if len(q.calls) >= mostOpen {
		return fault.New("read calls", fault.Overloaded, "the peer has %d calls open", len(q.calls))
	}
	c := q.spare
	if q.spare = nil; c == nil {
		c = &inflow{}
	}
	q.calls[id] = c
	return nil
}

// end forgets a call, and that it held something.
func (q *pending) end(id uint32) { q.add(-q.forget(id)) }

// forget is end without the books: it returns what the call held.
func (q *pending) forget(id uint32) (held int64) {
	c := q.calls[id]
	if c == nil {
		return 0
	}
	delete(q.calls, id)
	if c == q.call {
		q.call = nil
	}
	held = c.held()
	*c, q.spare = inflow{}, c
	return held
}

// gone: gRPC has reset a call that was broken, or closed the connection. False: there is no such call.
func (q *pending) gone(id uint32) bool {
	held, broken := q.broken[id]
	if broken {
		delete(q.broken, id)
		q.peer.going.Add(-held)
		q.add(-held)
		if len(q.broken) == 0 {
			select {
			case q.mended <- struct{}{}:
			default:
			}
		}
	}
	return broken
}

// await waits until no reset is on its way, but not for long: the peer may not read.
func (q *pending) await(most time.Duration) {
	patience := time.NewTimer(most)
	defer patience.Stop()
	for {
		q.mu.Lock()
		left := len(q.broken)
		q.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-q.mended:
		case <-patience.C:
			return
		}
	}
}

func (q *pending) add(n int64) {
	if n != 0 {
		q.held.Add(n)
		q.peer.held.Add(n)
		q.all.Add(n)
	}
}

// out follows what the server sends. The result is p, unless a call in it is reset
// because it was broken: then a copy that says why.
func (q *pending) out(p []byte) []byte {
	patched := false
	for rest := p; len(rest) > 0; {
		at := len(p) - len(rest)
		var piece []byte
		var begins, ends bool
		piece, rest, begins, ends = q.to.step(rest)
		if begins {
			q.got, q.breaks = 0, false
			switch kind := q.to.kind(); {
			case kind == h2Reset:
				q.breaks = q.over(q.to.stream())
			case (kind == h2Data || kind == h2Headers) && q.to.has(h2EndStream):
				q.over(q.to.stream())
			}
		}
		if k := q.to.kind(); len(piece) == 0 || k != h2Reset && k != h2WindowUpdate {
			continue
		}
		if q.got < len(q.word) {
			q.got += copy(q.word[q.got:], piece)
		}
		switch {
		case !ends:
		case q.breaks:
			if !patched {
				p, patched = slices.Clone(p), true
				rest = p[len(p)-len(rest):]
			}
			p[at+len(piece)-1] = h2EnhanceYourCalm // the last byte of the code
		case q.to.kind() == h2WindowUpdate:
			q.grant(q.to.stream(), int64(binary.BigEndian.Uint32(q.word[:])))
		}
	}
	return p
}

// over: the server has ended a call. True: because it is broken.
func (q *pending) over(id uint32) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.end(id)
	return q.gone(id)
}

// grant: the server has given back n bytes of a call's window.
func (q *pending) grant(id uint32, n int64) {
	if id == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if c := q.calls[id]; c != nil {
		before := c.held()
		c.granted(n)
		q.add(c.held() - before)
	}
}

// close forgets all calls.
func (q *pending) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.call = true, nil
	for id := range q.calls {
		q.end(id)
	}
	for id := range q.broken {
		q.gone(id)
	}
}
