// Package channel is how a file's bytes go between host and plugin: over a socket, and what is
// beyond their first MiB through memory that both have mapped.
//
// The memory is a ring of Size bytes, which the host makes, seals and hands over on the socket.
// From then on the socket has counts of 4 bytes, big-endian, none of them 0: from the Sender how
// many bytes of the ring it has filled, from the Receiver how many it needs no more. What is in
// the ring may change at any time as long as the other end lives: a host copies it, once, and
// looks at the copy.
package channel

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/pannier/pannier/spec/fault"
)

const (
	// Plain is how many bytes of a file go over the socket before there is memory: making that
	// costs a small file more than it saves.
	Plain = 1 << 20
	// Size is how many bytes the memory has.
	Size = 1 << 20
	// Block is the most bytes that are handed over at once: a part of the ring, so that both
	// ends work at the same time.
	Block = Size / 4
)

// Mode is how the bytes beyond the first Plain ones go.
type Mode int

const (
	Socket Mode = iota // as those before
	Offer              // through memory that this end makes
	Accept             // through memory that comes from the other end
)

// counts are read from a socket, which may end in the middle of one.
type counts struct {
	buf  [64]byte
	have int // bytes of one that has not come whole
}

// read waits for counts, and returns their sum. More than most is a lie.
func (c *counts) read(from net.Conn, most int) (sum int, err error) {
	for sum == 0 {
		n, err := from.Read(c.buf[c.have:])
		if err != nil {
			return 0, ended(err)
		}
		b := c.buf[:c.have+n]
		for ; len(b) >= 4; b = b[4:] {
			one := binary.BigEndian.Uint32(b)
			if one == 0 || int64(one) > int64(most-sum) {
				return 0, fault.New("channel", fault.Protocol, "the other end says %d bytes more, where 1 to %d can be", one, most-sum)
			}
			sum += int(one)
		}
		c.have = copy(c.buf[:], b)
	}
	return sum, nil
}

func write(to net.Conn, count int) error {
	_, err := to.Write(binary.BigEndian.AppendUint32(nil, uint32(count)))
	return err
}

// ended is io.EOF also of a socket whose other end was closed before it had read all counts
// that it was sent. How many bytes there are, the calls say.
func ended(err error) error {
	if errors.Is(err, syscall.ECONNRESET) {
		return io.EOF
	}
	return err
}
