package flow

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

const (
	maxQueued  = MiB                  // control bytes waiting for a peer that does not read, without what is said again
	maxAgain   = 64 * KiB             // of what is said again, at a time
	ackGrain   = 128 * KiB            // bytes taken off a lane between two PIPEACKs, if it is not a bulk lane
	ackMost    = MiB                  // the same of a bulk lane, whose frames ask for them
	ackDelay   = 2 * time.Millisecond // after which a smaller amount is acknowledged too
	readBuffer = 4 * KiB              // of headers; payloads bypass it
)

// lane is one connection of one epoch of a session. Two goroutines belong to
// it: run reads frames and never writes; write sends parcels, and control frames
// when nobody else has the turn. Both end when the connection is closed.
type lane struct {
	s       *Session
	turns   *turns // of its epoch
	conn    net.Conn
	purpose wire.Purpose
	where   string // the peer's address, for errors
	epoch   uint32
	in      *bufio.Reader
	wake    chan struct{} // capacity 1
	parcels chan parcel   // to write, from whoever has the turn
	gone    chan struct{} // closed by close
	shut    chan struct{} // closed when the connection is
	said    chan struct{} // closed when CLOSE is out
	ended   chan struct{} // closed when nothing more is read
	once    sync.Once
	cause   atomic.Pointer[error] // why fail was called
	unsent  atomic.Pointer[error] // why a write failed

	// In ticks of the session.
	heard  atomic.Int64    // when the last byte arrived
	pinged atomic.Int64    // when the open PING was posted; 0: none is open
	asked  atomic.Int64    // when a PING went out last
	asks   atomic.Int64    // pinged of that PING
	stuck  atomic.Int64    // since when neither the Write under way has returned nor the peer shown that it reads; 0: no Write is
	moved  atomic.Int64    // when the last Write returned
	until  atomic.Int64    // when the frame being written has to be out; 0: none is
	wrote  atomic.Int64    // bytes, by Writes that have returned
	raw    syscall.RawConn // of the socket, nil if the connection is none or nobody knows what it has queued

	// Owned by keepalive.
	queued  int   // what queued said last
	through int64 // most that has been written and is not queued any more
	drained int64 // ticks when that grew last

	// Owned by the reader, but for the timer.
	head     [wire.MaxHead]byte // of the frame it is at, and the body of the shortest frames
	came     uint32             // number of that frame on this connection
	agreed   bool               // RESUME has come, or none will
	taken    atomic.Uint64      // payload frames' bytes taken off the connection
	reported atomic.Uint64      // of them, acknowledged; reported <= taken
	ackEvery uint64             // bytes, at most, between two PIPEACKs
	timer    *time.Timer
	armed    atomic.Bool

	sent uint32 // number of the next frame out; its owner has the turn

	// Guarded by turns.mu.
	busy    bool
	dead    bool     // a write has failed
	leaving bool     // CLOSE is queued and said not closed
	asking  int64    // pinged of the PING in ctl; 0: there is none
	ctl     []byte   // whole control frames waiting; len(ctl) <= maxQueued
	again   [][]byte // the same that follow RESUME: what streams have kept, which is bounded by their number
	spare   []byte
	pipe    pipe
	piece   piece
}

func newLane(s *Session, t *turns, conn net.Conn, purpose wire.Purpose, epoch uint32) *lane {
	l := &lane{
		s: s, turns: t, conn: conn, purpose: purpose, epoch: epoch,
		wake: make(chan struct{}, 1), parcels: make(chan parcel), gone: make(chan struct{}), shut: make(chan struct{}), said: make(chan struct{}), ended: make(chan struct{}),
		came: handshakeFrames, sent: handshakeFrames,
		pipe: newPipe(&s.cfg), raw: socketOf(conn), agreed: epoch == 1 || purpose != wire.Control,
	}
	l.ackEvery = ackGrain
	if l.pipe.bulk = purpose == wire.Bulk; l.pipe.bulk {
		l.ackEvery = ackMost
	}
	l.in = bufio.NewReaderSize(ears{l}, readBuffer)
	if a := conn.RemoteAddr(); a != nil {
		l.where = a.String()
	}
	l.piece = piece{size: pieceFirst, most: pieceMost}
	if l.raw != nil {
		l.piece.most = wholeFrames
	}
	l.heard.Store(s.ticks())
	return l
}

// start begins reading and writing; s.wg counts both goroutines.
func (l *lane) start() {
	l.s.wg.Add(2)
	go func() { defer l.s.wg.Done(); l.write() }()
	go func() { defer l.s.wg.Done(); l.run() }()
}

// fail closes the lane with a cause, which lose will report.
func (l *lane) fail(err error) {
	l.cause.CompareAndSwap(nil, &err)
	l.close()
}

// close is final and idempotent. It does not wait for the connection, because it is called
// with Session.mu held: TLS has something to say first, which waits up to 5 s for room, and a command
// is given time to end.
func (l *lane) close() {
	l.once.Do(func() {
		close(l.gone)
		l.s.wg.Go(func() {
			l.conn.Close()
			close(l.shut)
		})
	})
}

func (l *lane) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// enqueue queues whole control frames; somebody must kick or push afterwards.
// It does no I/O and may be called with Session.mu held.
func (l *lane) enqueue(frames []byte) {
	t := l.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	l.add(frames)
}

// add is enqueue. Callers hold turns.mu.
func (l *lane) add(frames []byte) {
	if len(l.ctl)+len(frames) > maxQueued {
		l.fail(fault.New("queue control frame", fault.Overloaded, "the peer does not read: over %d bytes wait", maxQueued))
		return
	}
	l.ctl = append(l.ctl, frames...)
}

// repeat queues frames that were sent on an earlier connection, behind all others; somebody must kick.
func (l *lane) repeat(frames ...[]byte) {
	t := l.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	l.again = append(l.again, frames...)
}

// owes reports whether control frames wait. Callers hold turns.mu.
func (l *lane) owes() bool { return len(l.ctl) > 0 || len(l.again) > 0 }

// due takes the control frames that go out next. Callers hold turns.mu.
func (l *lane) due() []byte {
	frames := l.ctl
	l.ctl, l.spare = l.spare[:0], nil
	for first := len(frames) == 0; len(l.again) > 0 && (first || len(frames)+len(l.again[0]) <= maxAgain); first = false {
		frames = append(frames, l.again[0]...)
		l.again[0], l.again = nil, l.again[1:]
	}
	return frames
}

// push writes what waits, if nobody is writing; readers must not call it.
func (l *lane) push() {
	t := l.turns
	t.mu.Lock()
	if l.busy || !l.owes() {
		t.mu.Unlock()
		return
	}
	l.busy = true
	t.mu.Unlock()
	l.flush()
	t.release(l)
}

// post is enqueue and push for goroutines that may write, enqueue and kick for
// readers and timers.
func (l *lane) post(frames []byte, direct bool) {
	l.enqueue(frames)
	if direct {
		l.push()
	} else {
		l.kick()
	}
}

func closeFrame(err error) ([]byte, error) {
	return wire.AppendControl(nil, wire.TypeClose, 0, &wire.Close{Kind: uint16(fault.KindOf(err)), Text: fault.Text(err)})
}

// farewellTime bounds how long the end of a session waits for its last words.
const farewellTime = time.Second

// farewell tells the peer on every lane why the session ends: whichever it
// reads first, it must not take the end of the connection for a loss. heard: it waits for the peer to
// end, too, because TCP drops what is on its way to a peer from which something comes to a closed connection.
func farewell(t *turns, lanes []*lane, err error, heard bool) {
	frame, ferr := closeFrame(err)
	if ferr != nil {
		return
	}
	patience, stop := context.WithTimeout(context.Background(), farewellTime)
	defer stop()
	select {
	case <-t.end():
	case <-patience.Done():
	}
	for _, l := range lanes {
		l.leave(frame)
	}
	for _, l := range lanes {
		ended := l.ended
		if !heard {
			ended = l.said
		}
		for _, c := range []chan struct{}{l.said, ended} {
			select {
			case <-c:
			case <-patience.Done():
				return
			}
		}
	}
}

// leave queues the lane's last frame, behind what is still to be said again: a verdict of a transfer
// whose session was resumed just now. said is closed when it is out, or can not go out any more.
func (l *lane) leave(frame []byte) {
	l.conn.SetWriteDeadline(time.Now().Add(farewellTime))
	l.turns.mu.Lock()
	l.again = append(l.again, frame)
	l.leaving = true
	l.turns.mu.Unlock()
	l.push()
	l.turns.mu.Lock()
	l.settle()
	l.turns.mu.Unlock()
}

// settle closes said as soon as it may. Callers hold turns.mu.
func (l *lane) settle() {
	if !l.leaving || !l.dead && (l.busy || l.owes()) {
		return
	}
	l.leaving = false
	close(l.said)
}

// flush writes the waiting control frames; the caller has the turn.
func (l *lane) flush() bool {
	t := l.turns
	t.mu.Lock()
	if !l.owes() {
		t.mu.Unlock()
		return true
	}
	frames := l.due()
	most, asks := l.piece.size, l.asking
	l.asking = 0
	t.mu.Unlock()
	l.sent = wire.Seal(frames, l.sent)
	err := l.out(frames, most)
	if asks != 0 {
		l.asked.Store(l.s.ticks())
		l.asks.Store(asks)
	}
	t.mu.Lock()
	if cap(frames) <= 64*KiB {
		l.spare = frames[:0]
	}
	t.mu.Unlock()
	if err != nil {
		l.bury(err)
	}
	return err == nil
}

// bury is told that a write has failed. The lane sends nothing more, but its
// reader may still find the reason among what came before: it reports.
func (l *lane) bury(err error) {
	err = fault.Wrap("write", l.where, lost(err))
	l.unsent.CompareAndSwap(nil, &err)
	l.turns.bury(l)
	l.conn.SetReadDeadline(time.Now().Add(lastWords))
}

// lastWords is how long a lane that has failed waits for a CLOSE, on itself or
// on another lane, before the session counts it as lost.
const lastWords = 250 * time.Millisecond

// send writes one payload frame; the caller has the turn and loses it.
func (l *lane) send(frame []byte) bool {
	t := l.turns
	defer t.release(l)
	if !l.flush() {
		return false
	}
	t.mu.Lock()
	l.pipe.written += uint64(len(frame))
	if l.pipe.asks() {
		wire.SetAsk(frame)
	}
	l.piece.sending(l.pipe.written)
	most := l.piece.size
	t.mu.Unlock()
	l.sent = wire.Seal(frame, l.sent)
	if err := l.out(frame, most); err != nil {
		l.bury(err)
		return false
	}
	return true
}

// write sends what nobody else has sent.
func (l *lane) write() {
	for {
		select {
		case <-l.wake:
			l.push()
		case p := <-l.parcels:
			l.deliver(p)
		case <-l.gone:
			return
		}
	}
}

// ears is the connection as the reader has it. Any byte is a sign of life: on a
// slow link one block takes longer than a peer may be silent.
type ears struct{ l *lane }

func (e ears) Read(p []byte) (int, error) {
	n, err := e.l.conn.Read(p)
	if n > 0 {
		e.l.heard.Store(e.l.s.ticks())
	}
	return n, err
}

// run reads frames until the connection ends, then tells the session.
func (l *lane) run() {
	err := l.readFrames()
	if l.timer != nil {
		l.timer.Stop()
	}
	if err == errEpochOver && l.s.telling.Load() {
		_, _ = io.Copy(io.Discard, l.in)
	}
	close(l.ended)
	var e *fault.Error
	switch known := errors.As(err, &e); {
	case !known || !e.Session && e.Kind != fault.Corrupt:
		if w := l.unsent.Load(); w != nil {
			err = *w
		}
		if l.purpose == wire.Bulk {
			l.listen(lastWords)
		}
	case l.purpose == wire.Bulk && l.s.closed.Load() != nil:
		l.listen(2 * farewellTime)
	}
	l.s.lose(l, err)
}

// listen gives the session the time to hear CLOSE on another lane. Behind one on a bulk lane nothing
// comes there, but verdicts may still be on their way on the control lane.
func (l *lane) listen(most time.Duration) {
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-l.s.ctx.Done():
	case <-l.gone:
	case <-t.C:
	}
}

func (l *lane) readFrames() error {
	for ; ; l.came++ {
		if _, err := io.ReadFull(l.in, l.head[:wire.HeaderSize]); err != nil {
			return fault.Wrap("read", l.where, lost(err))
		}
		h, err := wire.ParseHeader(l.head[:])
		if err != nil {
			return damaged(l.where, err)
		}
		if _, err := io.ReadFull(l.in, l.words(h)); err != nil {
			return fault.Wrap("read", l.where, lost(err))
		}
		if err := l.dispatch(h); err != nil {
			return err
		}
	}
}

// words are the extension words of the frame the reader is at.
func (l *lane) words(h wire.Header) []byte {
	return l.head[wire.HeaderSize : wire.HeaderSize+8*int(h.Ext)]
}

// verify holds the frame the reader is at against its check. Nothing may be done
// about a frame before, nor, on a resumed control lane, about any of a stream before RESUME: until
// then the ends do not agree where their streams are.
func (l *lane) verify(h wire.Header, payload []byte) error {
	if err := h.Verify(l.came, l.head[:wire.HeaderSize+8*int(h.Ext)], payload); err != nil {
		return damaged(l.where, err)
	}
	switch h.Type {
	case wire.TypePing, wire.TypePong, wire.TypePipeAck, wire.TypeClose:
	case wire.TypeResume:
		l.agreed = true
	default:
		if !l.agreed {
			return broken("read", "%v before RESUME", h.Type)
		}
	}
	return nil
}

// damaged is a frame that is not what was sent, or a header that nobody can have
// meant. It is the connection's fault as far as this end can know, so it ends
// the epoch and not the session, but see maxSpoiled.
func damaged(where string, err error) error {
	return &fault.Error{Op: "read", Kind: fault.Corrupt, Subject: where, Err: err}
}

// took books n bytes of a payload frame and acknowledges if the sender has asked, or when
// much has gathered, or a moment later.
func (l *lane) took(n int, asked bool) {
	total := l.taken.Add(uint64(n))
	if asked || total-l.reported.Load() >= l.ackEvery {
		l.report()
		return
	}
	if l.armed.CompareAndSwap(false, true) {
		if l.timer == nil {
			l.timer = time.AfterFunc(ackDelay, func() { l.armed.Store(false); l.report() })
		} else {
			l.timer.Reset(ackDelay)
		}
	}
}

func (l *lane) report() {
	total := l.taken.Load()
	if l.reported.Swap(total) == total {
		return
	}
	l.post(wire.AppendPipeAck(nil, total), false)
}

// lost marks an error of a connection as such: whatever the operating system
// calls it, for the session it means that this connection is over. What a
// carrier has found out itself, as a refused key, stays as it is.
func lost(err error) error {
	var e *fault.Error
	if errors.As(err, &e) {
		return err
	}
	return &fault.Error{Op: "connection", Kind: fault.Lost, Side: fault.Inferred, Err: err}
}
