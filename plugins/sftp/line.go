package sftp

import (
	"bufio"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
)

// line is a TCP connection with buffers: package ssh writes each of its packets, of at
// most 32 KiB, in three pieces, and reads as many. What is written goes out beside the
// writer, in one piece with what came meanwhile.
type line struct {
	net.Conn
	in   *bufio.Reader
	got  int64        // bytes read
	most atomic.Int64 // of got; 0: any
	late atomic.Bool  // reading has met the deadline, which package ssh makes an end

	mu      sync.Mutex
	changed sync.Cond
	out     []byte // not taken yet
	err     error  // of the connection
	closed  bool
}

const (
	lineIn  = 128 << 10 // bytes read at once, at most
	lineOut = 128 << 10 // bytes that wait to be written, about

	loginBytes = 256 << 10 // that a server may say until the user is logged in
)

func newLine(c net.Conn) *line {
	l := &line{Conn: c, in: bufio.NewReaderSize(c, lineIn)}
	l.changed.L = &l.mu
	l.most.Store(loginBytes)
	go l.send()
	return l
}

func (l *line) Read(p []byte) (int, error) {
	n, err := l.in.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.late.Store(true)
	}
	l.got += int64(n)
	if most := l.most.Load(); most > 0 && l.got > most {
		return 0, violation("the server has said %d bytes, and nobody is logged in", l.got)
	}
	return n, err
}

func (l *line) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.out) >= lineOut && l.err == nil && !l.closed {
		l.changed.Wait()
	}
	switch {
	case l.err != nil:
		return 0, l.err
	case l.closed:
		return 0, net.ErrClosed
	}
	l.out = append(l.out, p...)
	l.changed.Broadcast()
	return len(p), nil
}

// send writes until the connection is closed.
func (l *line) send() {
	var spare []byte
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for len(l.out) == 0 && !l.closed {
			l.changed.Wait()
		}
		if len(l.out) == 0 || l.err != nil {
			return
		}
		b := l.out
		l.out = spare[:0]
		l.changed.Broadcast()
		l.mu.Unlock()
		_, err := l.Conn.Write(b)
		l.mu.Lock()
		spare = b
		if err != nil {
			l.err = err
			l.changed.Broadcast()
			return
		}
	}
}

// Close closes the connection, also under what is being written.
func (l *line) Close() error {
	l.mu.Lock()
	l.closed = true
	l.changed.Broadcast()
	l.mu.Unlock()
	return l.Conn.Close()
}
