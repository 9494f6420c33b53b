package flow

import (
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/pannier/pannier/flow/socket"
)

// ReadFrom sends what r has until io.EOF, and does not close this direction. It
// waits for credit before it reads, so that a peer that does not read stops r,
// and reads straight into the frame that is sent. While a connection of package
// net or a file has nothing to read, no buffer is held. Write and CloseWrite
// wait until it returns. Who wants it to end sooner ends r or the stream.
func (b *ByteStream) ReadFrom(r io.Reader) (total int64, err error) {
	if err := b.beginWriting(); err != nil {
		return 0, err
	}
	defer b.endWriting()
	err = b.carry(b.reader(r), &total)
	return total, err
}

// beginWriting waits until nobody else writes, or the stream is over.
func (b *ByteStream) beginWriting() error {
	select {
	case b.writes <- struct{}{}:
		return nil
	case <-b.done:
		return b.failure()
	}
}

func (b *ByteStream) endWriting() { <-b.writes }

// carry sends what read gets until io.EOF, and counts it.
func (b *ByteStream) carry(read func(room int) (*buffer, int, error), total *int64) error {
	p := portion(frameFast)
	for {
		room, err := b.reserve(int(p))
		if err != nil {
			return err
		}
		buf, n, err := read(room)
		if n > 0 {
			began := time.Now()
			if err := b.sendData(buf, n, 0); err != nil {
				return err
			}
			*total += int64(n)
			p = p.next(n, room, time.Since(began), b.s.RTT())
		} else {
			b.s.cfg.Pool.put(buf)
		}
		switch err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}

// portion is how much ReadFrom reads at once, for one frame. Large ones save what each costs: both ends of both
// connections being woken. So it doubles as long as a connection of the system fills it and it
// is gone soon, and halves where there is less to read, or where a large one takes long and others wait behind it.
type portion int

// portionTime is what a frame of more than frameFast may take.
const portionTime = growTime

// next is the portion after n bytes of room for so many, which took so long to be sent.
func (p portion) next(n, room int, took, rtt time.Duration) portion {
	most := portion(frameLarge)
	if rtt >= longLink { // it is not the frames that keep its rate down
		most = frameFast
	}
	switch {
	case n < room/2:
		p = min(p, portion(room)) / 2
	case took > portionTime && p > frameFast:
		p /= 2
	case n == int(p):
		p *= 2
	}
	return max(frameRelay, min(p, most))
}

// reader is how ReadFrom gets up to room bytes in a pooled buffer, which may be
// nil when there are none.
func (b *ByteStream) reader(r io.Reader) func(room int) (*buffer, int, error) {
	// These types and no wider interface: what embeds one of them may have a Read
	// of its own.
	switch c := r.(type) {
	case *net.TCPConn, *net.UnixConn, *os.File:
		read := socket.Read
		if _, file := c.(*os.File); file { // which may wait, and a silent disk is not to hold up the scheduler
			read = readFile
		}
		if raw, err := c.(syscall.Conn).SyscallConn(); err == nil {
			return func(room int) (*buffer, int, error) { return b.readRaw(raw, read, room) }
		}
	}
	return func(room int) (*buffer, int, error) {
		room = min(room, frameFast) // it holds the buffer while it waits
		buf := b.s.cfg.Pool.get(room)
		n, err := r.Read(buf.payload(room))
		return buf, n, err
	}
}

// readFile is socket.Read for a descriptor that may wait.
func readFile(fd uintptr, p []byte) (int, error) {
	for {
		if n, err := syscall.Read(int(fd), p); err != syscall.EINTR {
			return n, err
		}
	}
}

// readRaw waits until there is something to read and takes a buffer only then.
func (b *ByteStream) readRaw(raw syscall.RawConn, read func(fd uintptr, p []byte) (int, error), room int) (buf *buffer, n int, err error) {
	waited := raw.Read(func(fd uintptr) bool {
		buf = b.s.cfg.Pool.get(room)
		n, err = read(fd, buf.payload(room))
		if err != syscall.EAGAIN {
			return true
		}
		b.s.cfg.Pool.put(buf)
		buf = nil
		return false
	})
	switch {
	case waited != nil:
		return buf, 0, waited
	case err != nil:
		return buf, 0, os.NewSyscallError("read", err)
	case n == 0:
		return buf, 0, io.EOF
	}
	return buf, n, nil
}

// WriteTo hands what arrives to w, without copying it, until the peer's
// CloseWrite. The peer gets its credit back when w has taken the bytes, so that a
// slow w holds up this stream's sender and nobody else. One reader at a time.
func (b *ByteStream) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if b.rd.passed() {
			return total, os.ErrDeadlineExceeded
		}
		n, now, err := b.pass(w)
		total += int64(n)
		switch now {
		case went:
			continue
		case finished:
			return total, err
		}
		select {
		case <-b.readable:
		case <-b.done:
		case <-b.rd.expired():
			return total, os.ErrDeadlineExceeded
		}
	}
}

// Deliver is WriteTo for streams that are idle most of the time: the goroutine that
// writes is there only while something has come. It calls over at the end, with
// what WriteTo would have returned. Read deadlines mean nothing to it.
func (b *ByteStream) Deliver(w io.Writer, over func(error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delivery = &delivery{w: w, over: over, socket: socket.Of(w)}
	if b.delivery.socket != nil {
		b.delivery.w = b.delivery.socket
	}
	b.deliver()
}

// A delivery is what Deliver was asked for. ByteStream.mu guards runs.
type delivery struct {
	w    io.Writer
	over func(error)
	runs bool // somebody does it, or has done it to the end

	socket *socket.Socket // w, if it is one, which takes a little without anybody having to wait
}

// begins takes it upon the lane's reader to hand on what has come just now: it is little, nothing else
// is on its way, and another goroutine would have to be woken. mu is held.
func (b *ByteStream) begins() bool {
	d := b.delivery
	if d == nil || d.runs || d.socket == nil || len(b.segments) != 1 || len(b.segments[0].data) > smallData || b.segments[0].verify() != nil {
		return false
	}
	d.runs = true
	return true
}

// handOn is the reader's part of a delivery. It waits for nothing: what the socket does not take
// is for a goroutine.
func (b *ByteStream) handOn() {
	d := b.delivery
	seg, _ := b.next()
	n := 0
	if seg.buf != nil {
		n = d.socket.Try(seg.data)
	}
	b.mu.Lock()
	if rest := seg.data[n:]; len(rest) > 0 {
		seg.data = rest
		b.segments = slices.Insert(b.segments, 0, seg)
		b.read -= int64(len(rest))
	} else {
		b.s.cfg.Pool.put(seg.buf)
	}
	d.runs = false
	b.deliver()
	b.mu.Unlock()
	if n > 0 {
		b.consumed(int64(n), false)
	}
}

// deliver begins to hand on what has come. mu is held.
func (b *ByteStream) deliver() {
	if d := b.delivery; d != nil && !d.runs && b.stirs() {
		d.runs = true
		go b.delivers(d)
	}
}

// stirs reports whether there is something for a reader. mu is held.
func (b *ByteStream) stirs() bool { return len(b.segments) > 0 || b.finCame || b.closed }

func (b *ByteStream) delivers(d *delivery) {
	for {
		switch _, now, err := b.pass(d.w); now {
		case finished:
			d.over(err)
			return
		case idle:
			b.mu.Lock()
			d.runs = b.stirs()
			runs := d.runs
			b.mu.Unlock()
			if !runs {
				return
			}
		}
	}
}

// passage is what pass has found.
type passage uint8

const (
	idle     passage = iota // nothing has come
	went                    // something was handed on, or there is more to look at
	finished                // nothing more will come
)

// pass hands the next bytes to w.
func (b *ByteStream) pass(w io.Writer) (int, passage, error) {
	seg, err := b.next()
	if err != nil {
		b.reset(err)
		return 0, finished, err
	}
	if seg.buf != nil {
		n, err := w.Write(seg.data)
		b.s.cfg.Pool.put(seg.buf)
		if err != nil {
			return n, finished, err
		}
		b.consumed(int64(n), true)
		return n, went, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case len(b.segments) > 0:
		return 0, went, nil
	case b.finCame:
		signal(b.readable)
		return 0, finished, nil
	case b.closed:
		return 0, finished, b.err
	}
	return 0, idle, nil
}

// next takes the first segment, checked, out of the stream; without a buffer if
// there is none.
func (b *ByteStream) next() (segment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.segments) == 0 {
		return segment{}, nil
	}
	seg := b.segments[0]
	if err := seg.verify(); err != nil {
		b.dropSegments()
		b.finCame, b.err = false, err
		return segment{}, err
	}
	b.segments[0] = segment{}
	if b.segments = b.segments[1:]; len(b.segments) == 0 {
		b.segments = nil
	}
	b.read += int64(len(seg.data))
	return seg, nil
}
