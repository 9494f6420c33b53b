package channel

import (
	"io"
	"net"
)

// A Receiver takes bytes out of a channel, until io.EOF, which does not say that these were all.
// One goroutine uses it; any may close the connection, which ends its waiting, and any may call
// Release.
type Receiver struct {
	conn  net.Conn
	mode  Mode
	buf   []byte // for Peek, of what comes over the socket
	head  []byte // of that, what was not skipped
	plain int    // bytes that came over the socket, as long as memory may come
	m     memory
	ring  bool // there is memory
	at    int  // where the ring is to be read next
	have  int  // bytes from there, around the end, that have come
	owed  int  // bytes before, which the Sender has not been told may be used again
	come  counts
}

// NewReceiver makes one. buf has room for what comes over the socket; Read needs none.
func NewReceiver(conn net.Conn, mode Mode, buf []byte) *Receiver {
	return &Receiver{conn: conn, mode: mode, buf: buf}
}

// turn is what follows the first Plain bytes.
func (r *Receiver) turn() (err error) {
	if r.mode == Socket || r.ring || r.plain < Plain {
		return nil
	}
	if r.ring, err = r.m.share(r.conn, r.mode); !r.ring && err == nil {
		r.mode = Socket
	}
	return err
}

// plainly reads what comes over the socket.
func (r *Receiver) plainly(b []byte) (int, error) {
	if r.mode == Socket {
		return r.conn.Read(b)
	}
	n, err := r.conn.Read(b[:min(len(b), Plain-r.plain)])
	r.plain += n
	return n, err
}

// Peek is the next bytes, at least one, until Skip is called. They may be the other end's to
// change: only who trusts that uses Peek.
func (r *Receiver) Peek() ([]byte, error) {
	if len(r.head) > 0 {
		return r.head, nil
	}
	if err := r.turn(); err != nil {
		return nil, err
	}
	if !r.ring {
		n, err := r.plainly(r.buf)
		r.head = r.buf[:n]
		if n > 0 {
			err = nil
		}
		return r.head, err
	}
	n, err := r.wait()
	if err != nil {
		return nil, err
	}
	return r.m.part(r.at, n)
}

// wait waits for bytes, and returns how many there are before the ring's end.
func (r *Receiver) wait() (int, error) {
	if r.have == 0 {
		r.tell()
		n, err := r.come.read(r.conn, Size)
		if err != nil {
			return 0, err
		}
		r.have = n
	}
	return min(r.have, Block, Size-r.at), nil
}

// tell says which bytes of the ring may be used again. Who has gone does not hear it.
func (r *Receiver) tell() {
	if r.owed > 0 {
		_ = write(r.conn, r.owed)
		r.owed = 0
	}
}

// Skip goes beyond the first n of the bytes that Peek has returned.
func (r *Receiver) Skip(n int) {
	if !r.ring {
		r.head = r.head[n:]
		return
	}
	r.skip(n)
}

func (r *Receiver) skip(n int) {
	r.at, r.have, r.owed = (r.at+n)%Size, r.have-n, r.owed+n
	if r.owed >= Block {
		r.tell()
	}
}

// Read implements io.Reader. What it returns is a copy, which nobody else changes.
func (r *Receiver) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.turn(); err != nil {
		return 0, err
	}
	if !r.ring {
		return r.plainly(p)
	}
	n, err := r.wait()
	if err == nil {
		n, err = r.m.get(p[:min(len(p), n)], r.at)
	}
	if err != nil {
		return 0, err
	}
	r.skip(n)
	return n, nil
}

// Release gives back the memory; Peek's must not be used any more.
func (r *Receiver) Release() { r.m.release() }

var (
	_ io.Writer = (*Sender)(nil)
	_ io.Reader = (*Receiver)(nil)
)
