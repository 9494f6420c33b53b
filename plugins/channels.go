package plugins

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

// channelWait is how long a descriptor waits for its call, and a call for its
// descriptor.
const channelWait = 10 * time.Second

// channels are the descriptors that the host has sent over fd 3 and no call has asked
// for yet, and the calls that came first.
type channels struct {
	mu      sync.Mutex
	last    uint64 // numbers only grow
	waiting map[uint64]net.Conn
	wanted  map[uint64]chan net.Conn // of one place
}

// receive takes descriptors until the host closes its end.
func (c *channels) receive(from *net.UnixConn) {
	for {
		var number [9]byte
		rights := make([]byte, unix.CmsgSpace(4*4)) // room to see that there were too many
		n, oobn, _, _, err := from.ReadMsgUnix(number[:], rights)
		if err != nil || n == 0 {
			return
		}
		conn := only(rights[:oobn])
		if conn == nil {
			continue
		}
		if n != 8 {
			_ = conn.Close()
			continue
		}
		c.arrived(binary.BigEndian.Uint64(number[:8]), conn)
	}
}

// only is the descriptor of a control message; nil, and all closed, if it is not one
// descriptor of a socket.
func only(rights []byte) net.Conn {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil
	}
	var fds []int
	for _, m := range messages {
		more, _ := unix.ParseUnixRights(&m)
		fds = append(fds, more...)
	}
	if len(fds) != 1 {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		return nil
	}
	f := os.NewFile(uintptr(fds[0]), "channel")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil
	}
	return conn
}

func (c *channels) arrived(number uint64, conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if number <= c.last {
		_ = conn.Close()
		return
	}
	c.last = number
	if w := c.wanted[number]; w != nil {
		delete(c.wanted, number)
		w <- conn
		return
	}
	c.waiting[number] = conn
	time.AfterFunc(channelWait, func() {
		if conn := c.forget(number); conn != nil {
			_ = conn.Close()
		}
	})
}

// forget takes a descriptor out of the table; nil if it was called for.
func (c *channels) forget(number uint64) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn := c.waiting[number]
	delete(c.waiting, number)
	return conn
}

// take is the channel of that number. Whoever calls closes it.
func (c *channels) take(ctx context.Context, number uint64) (net.Conn, error) {
	if c == nil || number == 0 {
		return nil, fault.New("take channel", fault.Invalid, "no descriptors come here, or it has number 0").Advise("use ReadStream and WriteStream")
	}
	if conn := c.forget(number); conn != nil {
		return conn, nil
	}
	c.mu.Lock()
	if number <= c.last { // it may have come since
		conn := c.waiting[number]
		delete(c.waiting, number)
		c.mu.Unlock()
		if conn == nil {
			return nil, fault.New("take channel", fault.Stale, "channel %d was called for before, or not in time", number)
		}
		return conn, nil
	}
	w := make(chan net.Conn, 1)
	c.wanted[number] = w
	c.mu.Unlock()
	late := time.NewTimer(channelWait)
	defer late.Stop()
	select {
	case conn := <-w:
		return conn, nil
	case <-ctx.Done():
	case <-late.C:
	}
	c.mu.Lock()
	delete(c.wanted, number)
	c.mu.Unlock()
	select {
	case conn := <-w:
		return conn, nil
	default:
	}
	if err := ctx.Err(); err != nil {
		return nil, fault.Wrap("take channel", "", err)
	}
	return nil, fault.New("take channel", fault.Protocol, "channel %d has not come over descriptor 3 within %v", number, channelWait)
}
