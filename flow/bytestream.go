package flow

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// Sizes of byte streams.
const (
	frameInteractive  = 16 * KiB // largest frame, so that nobody waits long behind one
	frameRelay        = 64 * KiB
	frameFast         = 256 * KiB // of relay streams whose windows have grown
	frameLarge        = MiB       // the same where ReadFrom has so much (portion)
	windowInteractive = 256 * KiB // gRPC's HTTP/2 windows are inside of it
	windowLeast       = 16 * KiB  // what a stream gets when the budget is used up
)

// A ByteStream is a net.Conn on a session: ordered bytes both ways, each
// direction closed on its own. It ends with its connections, or with the session
// if it was opened with Resume.
type ByteStream struct {
	s      *Session
	id     uint32
	mine   bool
	rpc    bool // the peer opened it for gRPC, and it takes one of the session's places
	class  wire.Class
	meta   []byte
	done   chan struct{}
	window int64
	fast   int64 // largest frame that the session may have to carry, of class relay
	rd, wr timeLimit
	writes chan struct{} // capacity 1: one writer at a time
	seat   seat

	delivery *delivery // what has come goes to a writer; nil: it waits for readers
	keeper   *keeper   // of a stream that outlives its connections; else nil

	mu       sync.Mutex
	accepted bool
	closed   bool
	err      error
	readable chan struct{} // capacity 1
	writable chan struct{} // capacity 1

	// sent <= granted
	sent, granted int64
	widest        int64 // most that granted was ahead of sent: the peer's window
	finSent       bool

	// booked <= read <= arrived <= limit; the session's budget holds limit - booked. When the peer has ended the
	// stream limit is arrived; when this end has, booked is limit.
	booked, read, arrived, limit int64
	segments                     []segment
	grew                         time.Time // when read was grewAt: where the present window began
	grewAt                       int64
	finCame                      bool
}

// newByteStream makes one with a window that the budgets have room for.
// Session.mu is held.
func newByteStream(s *Session, mine bool, class wire.Class, resume bool) *ByteStream {
	if class != wire.ClassInteractive {
		class = wire.ClassRelay
	}
	b := &ByteStream{
		s: s, mine: mine, class: class, done: make(chan struct{}), window: int64(s.cfg.Window),
		writes: make(chan struct{}, 1), readable: make(chan struct{}, 1), writable: make(chan struct{}, 1),
	}
	if class == wire.ClassInteractive {
		b.window = windowInteractive
	}
	if b.fast = min(frameLarge, int64(s.limits.frame)); s.single {
		b.fast = frameRelay
	}
	for b.window > windowLeast && !s.affords(b.window) {
		b.window /= 2
	}
	b.limit = b.window
	if resume {
		b.keeper = newKeeper(s.epoch)
	}
	return b
}

// OpenBytes opens a byte stream and waits until the peer has accepted it.
func (s *Session) OpenBytes(ctx context.Context, o Open) (*ByteStream, error) {
	if o.Kind == kindRPC {
		o.Class = wire.ClassInteractive
	}
	if err := s.admitOwn(ctx); err != nil {
		return nil, err
	}
	b := newByteStream(s, true, o.Class, o.Resume)
	s.adjust(b.window)
	_, err := s.register(b, &wire.Open{Kind: o.Kind, Class: uint8(b.class), Resume: o.Resume, Window: uint64(b.window), Meta: o.Meta})
	s.mu.Unlock()
	if err != nil {
		s.end1(b, err)
		return nil, err
	}
	s.push()
	if err := b.awaitAccept(ctx); err != nil {
		b.reset(err)
		return nil, err
	}
	return b, nil
}

func (b *ByteStream) awaitAccept(ctx context.Context) error {
	for {
		b.mu.Lock()
		accepted, closed, err := b.accepted, b.closed, b.err
		b.mu.Unlock()
		switch {
		case closed:
			return err
		case accepted:
			return nil
		}
		select {
		case <-b.writable:
		case <-b.done:
		case <-ctx.Done():
			return fault.Wrap("open stream", "", context.Cause(ctx))
		}
	}
}

// Meta is what the peer attached to its OPEN or ACCEPT.
func (b *ByteStream) Meta() []byte { return b.meta }

// SetShare lets what this end sends be part of a share, which other streams may have, too.
// It is for streams of class relay, before their first byte.
func (b *ByteStream) SetShare(s *Share) { b.seat.share = s }

// Resumes reports whether the stream outlives its connections.
func (b *ByteStream) Resumes() bool { return b.keeper != nil }

// Session is the session the stream is on.
func (b *ByteStream) Session() *Session { return b.s }

func (b *ByteStream) own() bool { return b.mine }
func (b *ByteStream) lost() bool {
	if b.goesOn() {
		return true
	}
	b.end(fault.Concluded("stream", fault.Lost, "the connection went away"))
	return false
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (b *ByteStream) frame(t wire.Type, body []byte) error {
	if t != wire.TypeAccept {
		return broken("read", "%v for byte stream %d", t, b.id)
	}
	var a wire.Accept
	if err := wire.Decode(body, &a); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.mine || b.accepted || a.Window > wire.MaxOffset {
		return broken("read", "ACCEPT of stream %d", b.id)
	}
	b.accepted, b.meta, b.granted = true, a.Meta, int64(a.Window)
	signal(b.writable)
	return nil
}

// expect checks DATA before its payload is read.
func (b *ByteStream) expect(h wire.DataHead) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return b.s.late.take(int64(h.Length))
	}
	if h.Offset != uint64(b.arrived) || b.arrived+int64(h.Length) > b.limit || b.finCame {
		return broken("read", "DATA of %d bytes on stream %d at %d: wrong place, after its end, or beyond its credit", h.Length, b.id, b.arrived)
	}
	if h.Length == 0 && h.Digest != blockDigest(nil, b.arrived) { // no damage, which the check would have found
		return broken("read", "DATA without content on stream %d has digest %016x", b.id, h.Digest)
	}
	return nil
}

// arrive takes a frame; alone: nothing else waits for the lane's reader.
func (b *ByteStream) arrive(h wire.DataHead, buf *buffer, epoch uint32, alone bool) bool {
	b.mu.Lock()
	if b.closed || b.keeper != nil && b.keeper.lives != epoch {
		b.mu.Unlock()
		return false
	}
	b.arrived += int64(h.Length)
	b.finCame = b.finCame || h.Flags&wire.Fin != 0
	if h.Length > 0 {
		b.keep(segment{buf: buf, data: buf.payload(int(h.Length)), off: int64(h.Offset), digest: h.Digest})
	} else {
		b.s.cfg.Pool.put(buf)
	}
	signal(b.readable)
	hands := alone && b.begins()
	if !hands {
		b.deliver()
	}
	b.mu.Unlock()
	if hands {
		b.handOn()
	}
	return true
}

// Read reads what has arrived; io.EOF after the peer's CloseWrite.
func (b *ByteStream) Read(p []byte) (int, error) {
	for {
		if b.rd.passed() {
			return 0, os.ErrDeadlineExceeded
		}
		b.mu.Lock()
		n, err := b.copyOut(p)
		if err != nil {
			b.mu.Unlock()
			b.reset(err)
			return 0, err
		}
		if n > 0 || len(p) == 0 {
			more := len(b.segments) > 0 || b.finCame
			b.mu.Unlock()
			if more {
				signal(b.readable)
			}
			b.consumed(int64(n), true)
			return n, nil
		}
		fin, closed, err := b.finCame, b.closed, b.err
		b.mu.Unlock()
		switch {
		case fin:
			signal(b.readable)
			return 0, io.EOF
		case closed:
			return 0, err
		}
		select {
		case <-b.readable:
		case <-b.done:
		case <-b.rd.expired():
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// Write sends all of p, waiting for credit as needed.
func (b *ByteStream) Write(p []byte) (int, error) {
	select {
	case b.writes <- struct{}{}:
		defer func() { <-b.writes }()
	case <-b.done:
		return 0, b.failure()
	case <-b.wr.expired():
		return 0, os.ErrDeadlineExceeded
	}
	total := 0
	for total < len(p) {
		if b.wr.passed() {
			return total, os.ErrDeadlineExceeded
		}
		n, err := b.reserve(min(len(p)-total, frameFast))
		if err != nil {
			return total, err
		}
		buf := b.s.cfg.Pool.get(n)
		copy(buf.payload(n), p[total:])
		if err := b.sendData(buf, n, 0); err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}

// sendData writes the first n bytes of buf's payload as one DATA frame and gives
// buf back. The caller holds the place in writes, so nobody else moves sent.
func (b *ByteStream) sendData(buf *buffer, n int, flags wire.Flags) error {
	if b.keeper != nil {
		return b.sendKept(buf, n)
	}
	defer b.s.cfg.Pool.put(buf)
	payload := buf.payload(n)
	b.mu.Lock()
	off := b.sent
	b.mu.Unlock()
	h := wire.DataHead{
		Header: wire.Header{Flags: flags, Class: b.class, Stream: b.id, Length: uint32(n)},
		Offset: uint64(off), Digest: blockDigest(payload, off),
	}
	b.s.mu.Lock()
	t := b.s.turns
	b.s.mu.Unlock()
	l, err := b.turn(t, n)
	if err != nil {
		return err
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		t.release(l)
		return b.failure()
	}
	b.sent += int64(n)
	b.finSent = b.finSent || flags&wire.Fin != 0
	b.mu.Unlock()
	frame := buf.mem[headroom-wire.DataHeadSize : headroom+n]
	h.Put(frame)
	if !l.send(frame) {
		return b.failure()
	}
	return nil
}

// turn waits for a lane for n bytes, for no longer than the stream and its deadline last.
func (b *ByteStream) turn(t *turns, n int) (*lane, error) {
	l, w, err := t.enter(b.class, &b.seat, wire.DataHeadSize+n)
	switch {
	case err != nil:
		return nil, b.failure()
	case w == nil:
		return l, nil
	}
	select {
	case l := <-w.ready:
		if l == nil {
			return nil, b.failure()
		}
		return l, nil
	case <-b.done:
		t.abandon(w)
		return nil, b.failure()
	case <-b.wr.expired():
		t.abandon(w)
		return nil, os.ErrDeadlineExceeded
	}
}

func (b *ByteStream) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	return fault.Concluded("write", fault.Lost, "the connection went away")
}

// CloseWrite sends the end of this direction; the other one goes on. After a write
// deadline that has passed meanwhile it can be called again.
func (b *ByteStream) CloseWrite() error {
	select {
	case b.writes <- struct{}{}:
		defer func() { <-b.writes }()
	case <-b.done:
		return nil
	}
	b.mu.Lock()
	again := b.finSent || b.closed
	b.mu.Unlock()
	if again {
		return nil
	}
	return b.sendData(b.s.cfg.Pool.get(0), 0, wire.Fin)
}

// Close ends both directions. Bytes of the peer that were not read are lost,
// and the peer is told so unless both directions were closed before.
func (b *ByteStream) Close() error {
	b.reset(net.ErrClosed)
	return nil
}

// Reset ends both directions for a reason, which the peer is told as far as
// fault.Text lets it out.
func (b *ByteStream) Reset(err error) { b.reset(err) }

// Counts is how many bytes have been sent and how many read, so far.
func (b *ByteStream) Counts() (sent, read int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sent, b.read
}

// Over is why the stream is over, and nil while it is not. A Read or Write says the same, but
// who waits for neither hears nothing. whole: the peer's direction had come to its end before,
// and all of it can still be read.
func (b *ByteStream) Over() (whole bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		return false, nil
	}
	return b.finCame, b.err
}

func (b *ByteStream) reset(err error) {
	b.s.mu.Lock()
	b.mu.Lock()
	closed, clean := b.closed, b.finSent && b.finCame && len(b.segments) == 0
	b.mu.Unlock()
	parts := b.keeper != nil && (clean || closed)
	if parts {
		b.part(err)
	} else {
		b.end(err)
		b.s.forget(b.id, b)
	}
	b.giveUp(err)
	b.s.mu.Unlock()
	if closed || parts {
		return
	}
	var why error
	if !clean {
		why = fault.New("stream", fault.Canceled, "closed by the peer")
		if !errors.Is(err, net.ErrClosed) {
			why = err
		}
	}
	// Who breaks streams off may do so to many, of many sessions, and must not wait for a peer that does not read.
	b.s.post(resetFrame(b.id, why), clean)
}

// ended reports whether both directions were closed in order: only then may the peer's end be a polite one.
func (b *ByteStream) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.finSent && b.finCame
}

// giveUp takes what has arrived out of the books: who has ended the stream here does not read it any more. Session.mu is held.
func (b *ByteStream) giveUp(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.s.adjust(b.booked - b.limit)
	b.booked = b.limit
	if errors.Is(err, net.ErrClosed) {
		b.dropSegments()
	}
}

// end closes the books, but for what has arrived: that is memory until it is read, or given up. Session.mu is held.
func (b *ByteStream) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		b.dropKept() // the peer has confirmed the end, or there is none to do so
		return
	}
	b.closed = true
	b.err = err
	if e, ok := err.(*fault.Error); ok && e.Side == fault.Peer && e.Kind == 0 {
		if b.err = io.EOF; !b.finSent || !b.finCame {
			b.err = fault.Concluded("stream", fault.Lost, "the peer ended it before both directions were closed")
		}
	}
	if b.keeper != nil && !b.keeper.parting {
		b.dropKept()
	}
	b.s.adjust(b.arrived - b.limit)
	b.s.late.add(b.limit - b.arrived)
	b.limit = b.arrived
	if errors.Is(err, net.ErrClosed) { // here; what came before the peer's end may still be read
		b.dropSegments()
	}
	close(b.done)
	b.deliver()
}

type streamAddr struct{ peer string }

func (streamAddr) Network() string  { return "pannier" }
func (a streamAddr) String() string { return a.peer }

// LocalAddr is this node's name, RemoteAddr the peer's address.
func (b *ByteStream) LocalAddr() net.Addr { return streamAddr{b.s.cfg.Name} }

// RemoteAddr is the peer's address as its carrier reports it.
func (b *ByteStream) RemoteAddr() net.Addr { return streamAddr{b.s.Peer().Address} }

// SetDeadline sets both deadlines, as net.Conn describes.
func (b *ByteStream) SetDeadline(t time.Time) error { b.rd.set(t); b.wr.set(t); return nil }

// SetReadDeadline sets the deadline of Read.
func (b *ByteStream) SetReadDeadline(t time.Time) error { b.rd.set(t); return nil }

// SetWriteDeadline sets the deadline of Write.
func (b *ByteStream) SetWriteDeadline(t time.Time) error { b.wr.set(t); return nil }
