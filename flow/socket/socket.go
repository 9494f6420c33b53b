// Package socket reads and writes sockets of package net with system calls that Go's scheduler
// is not told of. They do not wait, so there is nothing to tell: what takes time is the kernel's copying,
// which needs the processor as other computing does. Told of it, the scheduler takes a
// long call for one that waits, has another thread go on in its place, and lets the caller queue for a processor when it returns.
package socket

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// A Socket is a connection of package net to read and write that way. It is the same connection:
// deadlines, Close and what is done to the net.Conn itself count for both.
type Socket struct {
	conn     net.Conn
	raw      syscall.RawConn
	in, out  side
	takeOnce func(fd uintptr) bool // out.step, without waiting
}

// side is one direction. mu is held for as long as somebody reads or writes.
type side struct {
	mu   sync.Mutex
	p    []byte
	n    int // bytes done
	err  error
	step func(fd uintptr) bool // false: it has to wait
}

// Of is the socket of a connection; nil: it is not one of package net's over TCP or unix sockets, as what embeds
// one may have a Read and Write of its own.
func Of(c any) *Socket {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	s := &Socket{conn: c.(net.Conn), raw: raw}
	s.in.step = func(fd uintptr) bool {
		s.in.n, s.in.err = Read(fd, s.in.p)
		return s.in.err != syscall.EAGAIN
	}
	s.out.step = func(fd uintptr) bool { return s.out.writes(fd) != syscall.EAGAIN }
	s.takeOnce = func(fd uintptr) bool { _ = s.out.writes(fd); return true }
	return s
}

// writes writes until all is out or the socket takes no more.
func (d *side) writes(fd uintptr) error {
	for d.n < len(d.p) {
		n, err := write(fd, d.p[d.n:])
		if err != nil {
			if err != syscall.EAGAIN {
				d.err = err
			}
			return err
		}
		d.n += n
	}
	return nil
}

// Read is the connection's.
func (s *Socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, sys, err := s.in.do(s.raw.Read, s.in.step, p)
	switch {
	case err != nil:
		return 0, s.failed("read", err)
	case sys != nil:
		return 0, s.failed("read", os.NewSyscallError("read", sys))
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write is the connection's.
func (s *Socket) Write(p []byte) (int, error) {
	n, sys, err := s.out.do(s.raw.Write, s.out.step, p)
	if err == nil && sys != nil {
		err = os.NewSyscallError("write", sys)
	}
	if err != nil {
		err = s.failed("write", err)
	}
	return n, err
}

// Try writes as much of p as the socket takes at once, and returns how much that was. What is wrong
// with the connection is for Write to find.
func (s *Socket) Try(p []byte) int {
	n, _, _ := s.out.do(s.raw.Write, s.takeOnce, p)
	return n
}

// do has a step done with p, again whenever the socket is ready for it.
func (d *side) do(wait func(func(uintptr) bool) error, step func(uintptr) bool, p []byte) (n int, sys, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.p, d.n, d.err = p, 0, nil
	err = wait(step)
	d.p = nil
	return max(d.n, 0), d.err, err
}

// failed is an error as package net's connections have it.
func (s *Socket) failed(op string, err error) error {
	if e, ok := err.(*net.OpError); ok { // it names another operation
		err = e.Err
	}
	from := s.conn.LocalAddr()
	return &net.OpError{Op: op, Net: from.Network(), Source: from, Addr: s.conn.RemoteAddr(), Err: err}
}
