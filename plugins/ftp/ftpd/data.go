package ftpd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// data is a data connection.
type data struct {
	raw  net.Conn
	conn net.Conn // raw, or TLS over it
	wait time.Duration
	stop func() bool // of the end of the transfer's context

	under *noted // TLS; nil: in clear
}

// noted is a connection that notes whether it has ended. Package tls takes that for an end
// in order, at the end of a record.
type noted struct {
	net.Conn
	ended bool
}

func (n *noted) Read(p []byte) (int, error) {
	k, err := n.Conn.Read(p)
	n.ended = n.ended || err == io.EOF
	return k, err
}

// open announces the transfer and makes its data connection.
func (t *transfer) open() (*data, *reply) {
	c := t.c
	c.say(say(150, "%s of %s begins.", t.verb, quoted(t.name)))
	raw, err := t.port.connect(t.ctx, c)
	if err != nil {
		if t.ctx.Err() != nil {
			return nil, t.aborted()
		}
		return nil, refuse(425, "There is no data connection: %s.", why(err))
	}
	d := &data{raw: raw, conn: raw, wait: c.s.timeout}
	if c.secure != nil {
		d.under = &noted{Conn: raw}
		s := tls.Server(d.under, c.secure)
		ctx, cancel := context.WithTimeout(t.ctx, c.s.timeout)
		err = s.HandshakeContext(ctx)
		cancel()
		d.conn = s
		switch {
		case err != nil && t.ctx.Err() != nil:
			d.reset()
			return nil, t.aborted()
		case err != nil:
			d.reset()
			return nil, refuse(425, "There is no TLS on the data connection: %s.", why(err))
		case c.s.reuse && !s.ConnectionState().DidResume:
			d.reset()
			c.log.Warn("a client's data connection has a TLS session of its own; if the client cannot do otherwise, set tls-reuse=optional")
			return nil, refuse(522, "The data connection has to continue the TLS session of this one.")
		}
	}
	d.stop = context.AfterFunc(t.ctx, d.reset)
	return d, nil
}

// why is an error of a data connection in words for the client.
func why(err error) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "nothing came for too long"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "it was cut off, TLS has not said that it ends"
	}
	if s := words(err); s != "internal" {
		return s
	}
	return "it is broken"
}

func (d *data) Read(p []byte) (int, error) {
	_ = d.raw.SetReadDeadline(time.Now().Add(d.wait))
	n, err := d.conn.Read(p)
	if err == io.EOF && d.under != nil && d.under.ended {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (d *data) Write(p []byte) (int, error) {
	_ = d.raw.SetWriteDeadline(time.Now().Add(d.wait))
	return d.conn.Write(p)
}

// end says that all was written, in TLS's words and TCP's.
func (d *data) end() error {
	_ = d.raw.SetWriteDeadline(time.Now().Add(d.wait))
	var err error
	if t, ok := d.conn.(*tls.Conn); ok {
		err = t.CloseWrite()
	}
	if h, ok := d.raw.(interface{ CloseWrite() error }); ok {
		err = errors.Join(err, h.CloseWrite())
	}
	return err
}

// close ends the connection of a transfer that has ended well.
func (d *data) close() {
	d.stop()
	_ = d.raw.Close()
}

// reset ends it in such a way that nobody takes what came for the whole.
func (d *data) reset() {
	if l, ok := d.raw.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = d.raw.Close()
}

// What a client may still send of a file that was refused in the middle.
const (
	dropBytes = 16 << 20
	dropTime  = 2 * time.Second
)

// drop reads what is still on its way and throws it away, to the client's end or to the limits
// above. Many clients send all of a file, or fail to, before they read a reply: a reset at once
// would be all that they hear.
func (d *data) drop(ctx context.Context) {
	defer context.AfterFunc(ctx, d.reset)()
	_ = d.raw.SetReadDeadline(time.Now().Add(min(d.wait, dropTime)))
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for left := int64(dropBytes); left > 0; {
		n, err := d.conn.Read(*buf)
		left -= int64(n)
		if err == io.EOF {
			_ = d.end()
			_ = d.raw.Close()
			return
		}
		if err != nil {
			break
		}
	}
	d.reset()
}

// buffers are for the bytes of transfers.
var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}
