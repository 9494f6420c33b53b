package flow

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// ErrRewound is Verdict's news that the session was resumed after End: call
// Next, send again from the offset it hands out, and End again.
var ErrRewound = errors.New("flow: the session was resumed; send again from the offset of Next")

// A BlockStream carries the blocks of one file one way. One goroutine at each
// end drives it:
//
//	source: Next, fill, Send ... End, Verdict        sink: Recv, Release ... io.EOF, Finish
//
// Block boundaries are start + k x block size; only the last block is shorter.
// Either end may Reset at any time.
type BlockStream struct {
	s      *Session
	id     uint32
	mine   bool // opened here
	source bool // this end sends the blocks
	meta   []byte
	done   chan struct{}
	wake   chan struct{} // capacity 1; for the goroutine that drives the stream
	squash squasher
	began  time.Time
	seat   seat

	mu       sync.Mutex
	accepted bool
	closed   bool  // end was called
	err      error // why, if it was no success
	block    int   // block size
	start    int64 // offset of the first block
	root     Root  // over everything before folded
	folded   int64
	stats    StreamStats

	sourceHalf
	sinkHalf
}

// StreamStats counts what went over a block stream.
type StreamStats struct {
	Blocks    int64
	Bytes     int64         // content
	WireBytes int64         // the same as it travelled, without headers
	Stalled   time.Duration // source: waiting for credit; sink: waiting for blocks
}

// Block is a piece of a file in memory that belongs to the stream. It is the
// caller's between Next and Send, or between Recv and Release.
type Block struct {
	Offset int64
	Data   []byte // from Next: room; from Recv: content
	More   bool   // of Send: the next block follows as soon as it is read, so this one may wait for it

	b     *BlockStream
	buf   *buffer
	epoch uint32
}

// Meta is what the peer attached to its OPEN or ACCEPT.
func (b *BlockStream) Meta() []byte { return b.meta }

// BlockSize is the agreed size of all blocks but the last.
func (b *BlockStream) BlockSize() int { b.mu.Lock(); defer b.mu.Unlock(); return b.block }

// Start is the agreed offset of the first block.
func (b *BlockStream) Start() int64 { b.mu.Lock(); defer b.mu.Unlock(); return b.start }

// Root is the chain over the blocks sent or received so far.
func (b *BlockStream) Root() Root { b.mu.Lock(); defer b.mu.Unlock(); return b.root }

// Stats returns the stream's counters.
func (b *BlockStream) Stats() StreamStats { b.mu.Lock(); defer b.mu.Unlock(); return b.stats }

// Done is closed when the stream is over.
func (b *BlockStream) Done() <-chan struct{} { return b.done }

// Err says why the stream ended; nil while it goes on and after a verdict.
func (b *BlockStream) Err() error { b.mu.Lock(); defer b.mu.Unlock(); return b.err }

// Session is the session the stream is on.
func (b *BlockStream) Session() *Session { return b.s }

func (b *BlockStream) own() bool { return b.mine }

func (b *BlockStream) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// wait sleeps until something may have changed. mu is held before and after.
func (b *BlockStream) wait(ctx context.Context) error {
	b.mu.Unlock()
	began := time.Now()
	defer func() {
		b.mu.Lock()
		b.stats.Stalled += time.Since(began)
	}()
	select {
	case <-b.wake:
		return nil
	case <-b.done:
		return nil
	case <-ctx.Done():
		return fault.Wrap("transfer", "", context.Cause(ctx))
	}
}

// Reset ends the stream with an error that the peer sees. After the stream is
// over it does nothing. It does not wait for the connection, and so neither for a peer that does not read.
func (b *BlockStream) Reset(err error) {
	b.s.mu.Lock()
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	b.end(err)
	b.s.forget(b.id, b)
	b.s.mu.Unlock()
	if !closed {
		b.s.post(resetFrame(b.id, err), false)
	}
}

func resetFrame(id uint32, err error) []byte {
	r := wire.Reset{}
	if err != nil {
		r.Kind, r.Text = uint16(fault.KindOf(err)), fault.Text(err)
	}
	frame, ferr := wire.AppendControl(nil, wire.TypeReset, id, &r)
	if ferr != nil {
		frame, _ = wire.AppendControl(nil, wire.TypeReset, id, &wire.Reset{Kind: uint16(fault.Internal)})
	}
	return frame
}

// end closes the books. Session.mu is held.
func (b *BlockStream) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.closed = true
	b.dropHeld()
	if !b.finished && !b.judged {
		b.err = err
	}
	if !b.source {
		b.closeSink()
	}
	close(b.done)
}

// lost is told that the connections are gone; streams that both ends know stay.
func (b *BlockStream) lost() bool {
	b.mu.Lock()
	if !b.accepted {
		b.mu.Unlock()
		b.end(fault.Concluded("open stream", fault.Lost, "the connection went away"))
		return false
	}
	defer b.mu.Unlock()
	if b.source {
		b.rewound, b.waiting = true, true
	} else {
		b.dropEarly()
	}
	b.signal()
	return true
}

// frame handles the control frames of a block stream.
func (b *BlockStream) frame(t wire.Type, body []byte) error {
	switch t {
	case wire.TypeAccept:
		return b.onAccept(body)
	case wire.TypeDurable:
		n, err := wire.ParseU64(body)
		if err != nil {
			return err
		}
		return b.onDurable(n)
	case wire.TypeEnd:
		return b.onEnd(body)
	case wire.TypeVerdict:
		return b.onVerdict(body)
	}
	return broken("read", "%v for block stream %d", t, b.id)
}

// resumable is a stream that goes on over the connections of the next epoch. All
// that a session has when it is resumed are.
type resumable interface {
	stream
	// standing fills in what this end has.
	standing(*wire.ResumeStream)
	// revive lets lanes of the epoch deliver, and returns what is to be said once
	// more right after RESUME.
	revive(epoch uint32) []byte
	// resumed goes on where the peer stands, and returns what is to be said once
	// more after that.
	resumed(e wire.ResumeStream, epoch uint32) ([]byte, error)
}

// goesOver is st as a stream that goes on, if it is one: a byte stream without a
// keeper ends with its connections.
func goesOver(st stream) (resumable, bool) {
	if b, ok := st.(*ByteStream); ok && b.keeper == nil {
		return nil, false
	}
	r, ok := st.(resumable)
	return r, ok
}

// postResume says what this side has of every stream that goes on. Session.mu is held
// and the control lane is new: nothing else has been queued on it.
func (s *Session) postResume() {
	frame, err := s.resumeFrame(wire.MaxResume)
	if err != nil { // too long, which only large numbers can make it
		frame, err = s.resumeFrame(maxResumed)
	}
	if err != nil {
		s.control.fail(err)
		return
	}
	s.control.enqueue(frame)
	for _, st := range s.streams {
		if b, ok := goesOver(st); ok {
			if frame := b.revive(s.epoch); frame != nil {
				s.control.repeat(frame)
			}
		}
	}
	s.control.kick()
}

// maxResumed is how many streams fit into a RESUME whatever their numbers are.
const maxResumed = 1985

// resumeFrame lists up to most streams, the oldest ones; what is not listed
// cannot go on and ends. Session.mu is held.
func (s *Session) resumeFrame(most int) ([]byte, error) {
	r := wire.Resume{Epoch: s.epoch}
	for _, id := range slices.Sorted(maps.Keys(s.streams)) {
		b, ok := goesOver(s.streams[id])
		if !ok {
			continue
		}
		if len(r.Streams) == most {
			b.end(fault.New("resume stream", fault.Lost, "more than %d streams cannot be resumed", most))
			s.forget(id, b)
			continue
		}
		e := wire.ResumeStream{ID: id}
		b.standing(&e)
		r.Streams = append(r.Streams, e)
	}
	return wire.AppendControl(nil, wire.TypeResume, 0, &r)
}

func (b *BlockStream) standing(e *wire.ResumeStream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.source {
		e.Received, e.Durable, e.Window = uint64(b.arrived), uint64(b.synced), uint64(b.limit)
	}
}

// revive returns the verdict, if it has been given.
func (b *BlockStream) revive(epoch uint32) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.source {
		return nil
	}
	b.lives = epoch
	return b.verdictFrame
}

// bookResume compares the peer's list with this side's streams.
func (s *Session) bookResume(l *lane, r *wire.Resume) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l != s.control || s.synced || r.Epoch != s.epoch {
		return broken("read", "RESUME of epoch %d in epoch %d", r.Epoch, s.epoch)
	}
	s.synced = true
	listed := map[uint32]bool{}
	var frames [][]byte
	for _, e := range r.Streams {
		if listed[e.ID] { // each would have somebody send
			return broken("read", "RESUME lists stream %d twice", e.ID)
		}
		listed[e.ID] = true
		b, ok := goesOver(s.streams[e.ID])
		if !ok {
			frames = append(frames, resetFrame(e.ID, fault.New("resume stream", fault.Lost, "this end has forgotten it")))
			continue
		}
		again, err := b.resumed(e, s.epoch)
		if err != nil {
			return err
		}
		if again != nil {
			frames = append(frames, again)
		}
	}
	for id, st := range s.streams {
		if _, ok := goesOver(st); ok && !listed[id] {
			st.end(&fault.Error{Op: "resume stream", Kind: fault.Lost, Side: fault.Inferred, Err: errForgotten})
			s.forget(id, st)
		}
	}
	if len(frames) > 0 {
		l.repeat(frames...)
		l.kick()
	}
	s.broadcast()
	return nil
}

var errForgotten = errors.New("the peer has forgotten the stream")
