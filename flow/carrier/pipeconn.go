package carrier

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipeBuffer is how many bytes one direction of a pipe holds.
const pipeBuffer = 256 << 10

// pipeConn is one end of a connection in memory: it reads one half and writes
// the other.
type pipeConn struct {
	in, out  *half
	released func() // called when either end closes, at most once in effect
}

func newPair(released func()) (a, b *pipeConn) {
	ab, ba := newHalf(), newHalf()
	return &pipeConn{in: ba, out: ab, released: released}, &pipeConn{in: ab, out: ba, released: released}
}

func (c *pipeConn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *pipeConn) Write(p []byte) (int, error) { return c.out.write(p) }

// CloseWrite lets the peer read what was written and then io.EOF.
func (c *pipeConn) CloseWrite() error {
	c.out.end(func() { c.out.finished = true })
	return nil
}

// Close also makes the peer's writes fail with EPIPE.
func (c *pipeConn) Close() error {
	c.out.end(func() { c.out.finished, c.out.writerGone = true, true })
	c.in.end(func() { c.in.readerGone = true })
	c.released()
	return nil
}

func (c *pipeConn) LocalAddr() net.Addr  { return pipeAddr{} }
func (c *pipeConn) RemoteAddr() net.Addr { return pipeAddr{} }
func (c *pipeConn) Protocol() string     { return "" }
func (c *pipeConn) PeerKey() string      { return "" }

// PeerUID is this process's own user, which is at both ends.
func (c *pipeConn) PeerUID() int { return os.Getuid() }

func (c *pipeConn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *pipeConn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readBy, t)
	return nil
}

func (c *pipeConn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writeBy, t)
	return nil
}

// half is one direction: a ring of bytes between a writer and a reader. Waiting
// is on cond alone, which testing/synctest understands; mu is never held while waiting.
type half struct {
	mu   sync.Mutex
	cond sync.Cond
	ring []byte // pipeBuffer bytes; nil before the first write
	at   int    // where the oldest byte is
	n    int    // bytes held, 0 <= n <= pipeBuffer

	finished   bool // the writer will write no more
	writerGone bool // the writer's end is closed
	readerGone bool // the reader's end is closed

	readBy, writeBy deadline
}

// deadline is a point in time and the timer that wakes those who wait when it comes.
type deadline struct {
	t     time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.t.IsZero() && !time.Now().Before(d.t) }

func newHalf() *half {
	h := &half{}
	h.cond.L = &h.mu
	return h
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.readerGone:
			return 0, net.ErrClosed
		case h.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case h.n > 0:
			return h.take(p), nil
		case h.finished:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

func (h *half) take(p []byte) int {
	n := 0
	for h.n > 0 && n < len(p) {
		m := copy(p[n:], h.ring[h.at:min(h.at+h.n, len(h.ring))])
		n, h.n, h.at = n+m, h.n-m, (h.at+m)%len(h.ring)
	}
	h.cond.Broadcast()
	return n
}

func (h *half) write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for {
		switch {
		case h.writerGone:
			return n, net.ErrClosed
		case h.finished, h.readerGone:
			return n, syscall.EPIPE
		case h.writeBy.passed():
			return n, os.ErrDeadlineExceeded
		}
		n += h.put(p[n:])
		if n == len(p) {
			return n, nil
		}
		h.cond.Wait()
	}
}

func (h *half) put(p []byte) int {
	if h.ring == nil && len(p) > 0 {
		h.ring = make([]byte, pipeBuffer)
	}
	n := 0
	for h.n < len(h.ring) && n < len(p) {
		tail := (h.at + h.n) % len(h.ring)
		m := copy(h.ring[tail:min(tail+len(h.ring)-h.n, len(h.ring))], p[n:])
		n, h.n = n+m, h.n+m
	}
	if n > 0 {
		h.cond.Broadcast()
	}
	return n
}

// end changes the state at the end of an end's life.
func (h *half) end(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	for _, d := range []*deadline{&h.readBy, &h.writeBy} {
		if d.timer != nil && h.writerGone && h.readerGone {
			d.timer.Stop()
		}
	}
	h.cond.Broadcast()
}

func (h *half) setDeadline(d *deadline, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	*d = deadline{t: t}
	if !t.IsZero() && time.Until(t) > 0 {
		d.timer = time.AfterFunc(time.Until(t), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.cond.Broadcast()
		})
	}
	h.cond.Broadcast()
}
