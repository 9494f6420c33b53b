package channel

import "net"

// A Sender puts bytes into a channel. One goroutine uses it; any may close the connection, which
// ends its waiting, and any may call Release.
type Sender struct {
	conn  net.Conn
	mode  Mode
	buf   []byte // Room of what goes over the socket
	plain int    // bytes that went over the socket, as long as memory may come
	m     memory
	ring  bool // there is memory
	at    int  // where the ring is filled next
	free  int  // bytes from there, around the end, that the Receiver does not need
	done  counts
}

// NewSender makes one. buf has room for what goes over the socket; Write needs none.
func NewSender(conn net.Conn, mode Mode, buf []byte) *Sender {
	return &Sender{conn: conn, mode: mode, buf: buf, free: Size}
}

// turn is what follows the first Plain bytes.
func (s *Sender) turn() (err error) {
	if s.mode == Socket || s.ring || s.plain < Plain {
		return nil
	}
	if s.ring, err = s.m.share(s.conn, s.mode); !s.ring && err == nil {
		s.mode = Socket
	}
	return err
}

// part is as much of b as may go over the socket now.
func (s *Sender) part(b []byte) []byte {
	if s.mode == Socket {
		return b
	}
	return b[:min(len(b), Plain-s.plain)]
}

// Room is memory for the next bytes, at least one and at most Block or the buffer's size, until
// Put is called. It may be the other end's to read and to change: only who trusts that uses Room.
func (s *Sender) Room() ([]byte, error) {
	if err := s.turn(); err != nil {
		return nil, err
	}
	if !s.ring {
		return s.part(s.buf), nil
	}
	n, err := s.wait()
	if err != nil {
		return nil, err
	}
	return s.m.part(s.at, n)
}

// wait waits until a block is free, and returns how much of it there is before the ring's end. A
// Receiver that has taken all that it has got says so, and one that has taken a block.
func (s *Sender) wait() (int, error) {
	for s.free < Block {
		n, err := s.done.read(s.conn, Size-s.free)
		if err != nil {
			return 0, err
		}
		s.free += n
	}
	return min(Block, Size-s.at), nil
}

// Put hands over the first n bytes of what Room has returned.
func (s *Sender) Put(n int) error {
	if n == 0 {
		return nil
	}
	if !s.ring {
		n, err := s.conn.Write(s.buf[:n])
		s.plain += n
		return err
	}
	return s.put(n)
}

func (s *Sender) put(n int) error {
	s.at, s.free = (s.at+n)%Size, s.free-n
	return write(s.conn, n)
}

// Write implements io.Writer. What p has is copied once, and is not read again.
func (s *Sender) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if err := s.turn(); err != nil {
			return n, err
		}
		var m int
		if !s.ring {
			m, err = s.conn.Write(s.part(p[n:]))
			s.plain += m
		} else {
			m, err = s.copy(p[n:])
		}
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (s *Sender) copy(p []byte) (int, error) {
	n, err := s.wait()
	if err == nil {
		n, err = s.m.put(s.at, p[:min(len(p), n)])
	}
	if err != nil {
		return 0, err
	}
	return n, s.put(n)
}

// Release gives back the memory; Room's must not be used any more.
func (s *Sender) Release() { s.m.release() }
