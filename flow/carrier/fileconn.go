package carrier

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

// fileConn is a connection over files that the runtime can wait for: two
// FIFOs or pipes, or one device for both directions. Nothing but this package reads or
// writes them.
type fileConn struct {
	in, out *os.File // the same one for a device
	raw     syscall.RawConn
	addr    onePipeAddr

	// peeked has been read from in and not yet by Read. Like the other fields up
	// to here it is set before the connection is shared.
	peeked []byte
	// met: somebody has had in open for writing. Until then its end of file
	// means that nobody has come, and not that the peer has gone. Guarded by the lock of in's reads.
	met bool
	// All three may be nil. explain says why the connection ended; restore is called by
	// Close before the files are closed, finish after that.
	explain func(error) error
	restore func() error
	finish  func() error

	closed atomic.Bool
	once   sync.Once
	err    error // of Close
}

// newFileConn takes both files over; they are closed if it fails.
func newFileConn(in, out *os.File, a Address) (*fileConn, error) {
	c := &fileConn{in: in, out: out, addr: onePipeAddr(a), met: true}
	var err error
	if c.raw, err = in.SyscallConn(); err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = c.Close()
		return nil, fault.New("open pipe", fault.Unsupported, "the system cannot wait for this kind of file: %w", err)
	}
	return c, nil
}

// Read reads what has come, waits otherwise.
func (c *fileConn) Read(p []byte) (n int, err error) {
	if len(c.peeked) > 0 {
		n = copy(p, c.peeked)
		c.peeked = c.peeked[n:]
		return n, nil
	}
	if len(p) == 0 {
		return 0, nil
	}
	var rerr error
	err = c.raw.Read(func(fd uintptr) bool {
		for n, rerr = unix.Read(int(fd), p); rerr == unix.EINTR; n, rerr = unix.Read(int(fd), p) {
		}
		switch {
		case rerr == unix.EAGAIN:
			c.met = true // an empty pipe without writers is at its end
			return false
		case n == 0 && rerr == nil && !c.met && !hungUp(fd):
			return false
		}
		return true
	})
	switch {
	case err != nil:
		return 0, c.failure(err)
	case rerr != nil:
		return 0, c.failure(&os.PathError{Op: "read", Path: c.in.Name(), Err: rerr})
	case n <= 0:
		return 0, c.failure(io.EOF)
	}
	c.met = true
	return n, nil
}

// hungUp reports whether a writer has come and gone since the file was opened.
func hungUp(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1 && p[0].Revents&unix.POLLHUP != 0
}

// Write writes all of p.
func (c *fileConn) Write(p []byte) (int, error) {
	n, err := c.out.Write(p)
	if err != nil {
		err = c.failure(err)
	}
	return n, err
}

// failure is err in the words of package net, and why the connection ended where that is known.
func (c *fileConn) failure(err error) error {
	switch {
	case c.closed.Load():
		return net.ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded) || c.explain == nil:
		return err
	}
	return c.explain(err)
}

// await reads the first bytes, to be read again.
func (c *fileConn) await() error {
	buf := make([]byte, usualHello)
	n, err := c.Read(buf)
	c.peeked = buf[:max(n, 0)]
	return err
}

// CloseWrite is the end of file for the peer. A device has none.
func (c *fileConn) CloseWrite() error {
	if c.in == c.out {
		return fault.New("close for writing", fault.Unsupported, "a device has no end of file")
	}
	return c.out.Close()
}

// Close makes reads and writes fail, and ends what belongs to the connection.
func (c *fileConn) Close() error {
	c.once.Do(func() {
		c.closed.Store(true)
		for _, f := range []func() error{c.restore, c.in.Close, c.closeOut, c.finish} {
			if f != nil {
				c.err = errors.Join(c.err, f())
			}
		}
	})
	return c.err
}

func (c *fileConn) closeOut() error {
	if c.out != c.in {
		_ = c.out.Close() // or CloseWrite did
	}
	return nil
}

func (c *fileConn) LocalAddr() net.Addr  { return c.addr }
func (c *fileConn) RemoteAddr() net.Addr { return c.addr }

func (c *fileConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
func (c *fileConn) SetReadDeadline(t time.Time) error  { return c.in.SetReadDeadline(t) }
func (c *fileConn) SetWriteDeadline(t time.Time) error { return c.out.SetWriteDeadline(t) }

// onePipeAddr is the address of both ends.
type onePipeAddr Address

func (a onePipeAddr) Network() string { return a.Scheme }
func (a onePipeAddr) String() string  { return Address(a).String() }

// openFile opens a file that the runtime can wait for, of the type want (S_IFIFO,
// S_IFCHR), and locks it if others that do the same shall be kept away.
func openFile(path string, flag int, want uint32, lock bool) (*os.File, error) {
	fd, err := unix.Open(path, flag|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err = checkFile(fd, path, want); err == nil && lock {
		if err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err == unix.EWOULDBLOCK {
			err = fault.New("open pipe", fault.Overloaded, "another connection has %s; a pipe has one at a time", path)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

func checkFile(fd int, path string, want uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch is := uint32(st.Mode) & unix.S_IFMT; {
	case is == want:
		return nil
	case is == unix.S_IFIFO:
		return fault.New("open pipe", fault.Invalid, "%s is a FIFO, which carries one direction: name two, as fifo:///in,/out", path)
	case want == unix.S_IFIFO:
		return fault.New("open pipe", fault.Invalid, "%s is not a FIFO; mkfifo -m 600 makes one", path)
	}
	return fault.New("open pipe", fault.Invalid, "%s is not a device", path)
}
