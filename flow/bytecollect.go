package flow

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pannier/pannier/flow/socket"
	"golang.org/x/sys/unix"
)

// quiet is how long a connection has had nothing when Collect takes it for an idle one.
const quiet = time.Second

// A Collection is ReadFrom for a connection that is idle most of the time: one of package
// net that has had nothing for a second costs no goroutine where the system can watch many
// at once. Until it is over, the connection's read deadline is the collection's.
type Collection struct {
	b     *ByteStream
	r     io.Reader
	conn  net.Conn // r, if that can be watched; else nil
	raw   syscall.RawConn
	over  func(error)
	total int64
	idle  atomic.Bool // whoever sets it back carries
	id    int32       // to the watch; 0: it has not been there
}

// Collect makes a collection of what r has, for Begin. It calls over at the end, with the
// error of ReadFrom.
func (b *ByteStream) Collect(r io.Reader, over func(error)) *Collection {
	c := &Collection{b: b, r: r, over: over}
	switch conn := r.(type) { // these and no wider interface, as in reader
	case *net.TCPConn, *net.UnixConn:
		if raw, err := conn.(syscall.Conn).SyscallConn(); err == nil {
			c.conn, c.raw = conn.(net.Conn), raw
		}
	}
	return c
}

// Begin begins to carry.
func (c *Collection) Begin() {
	go func() {
		switch err := c.b.beginWriting(); {
		case err != nil:
			c.over(err)
		case c.conn == nil:
			c.end(c.b.carry(c.b.reader(c.r), &c.total))
		default:
			c.moves()
		}
	}()
}

// Wake is for whoever has closed the connection, which nobody may be waiting for.
func (c *Collection) Wake() {
	if c.idle.CompareAndSwap(true, false) {
		idlers.forget(c)
		go c.moves()
	}
}

// moves carries until the connection is at its end, or has had nothing for a while.
func (c *Collection) moves() {
	silent := false
	read := func(room int) (*buffer, int, error) {
		buf, n, err := c.b.readRaw(c.raw, socket.Read, room)
		silent = errors.Is(err, os.ErrDeadlineExceeded)
		return buf, n, err
	}
	for {
		before := c.total
		silent = false
		err := c.conn.SetReadDeadline(time.Now().Add(quiet))
		if err == nil {
			err = c.b.carry(read, &c.total)
		}
		switch {
		case !silent:
			c.end(err)
			return
		case c.total == before:
			c.rests()
			return
		}
	}
}

// rests has the connection watched.
func (c *Collection) rests() {
	c.idle.Store(true)
	if idlers.watch(c) || !c.idle.CompareAndSwap(true, false) {
		return
	}
	err := c.conn.SetReadDeadline(time.Time{})
	if err == nil {
		err = c.raw.Read(readable)
	}
	if err != nil {
		c.end(err)
		return
	}
	c.moves()
}

// readable reports whether a read would not wait, be it for the connection's end.
func readable(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return n > 0 || err != nil && err != unix.EINTR && err != unix.EAGAIN
}

func (c *Collection) end(err error) {
	c.b.endWriting()
	c.over(err)
}
