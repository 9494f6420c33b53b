package carrier

import (
	"crypto/tls"
	"net"

	"github.com/pannier/pannier/flow/socket"
)

// Conn is what every connection of this package is. Connections over tls also
// have ConnectionState() tls.ConnectionState.
type Conn interface {
	net.Conn
	// CloseWrite tells the peer that nothing more will come.
	CloseWrite() error
	// Protocol is ProtocolLane, ProtocolHTTP2, or "" when nothing was negotiated
	// (dialed without tls).
	Protocol() string
	// PeerKey is the key the peer proved, as KeyOf gives it, or "".
	PeerKey() string
	// PeerUID is the user of the peer process, or -1.
	PeerUID() int
}

// HalfCloser is a connection whose directions end one by one, as package net makes them.
type HalfCloser interface {
	net.Conn
	CloseWrite() error
}

// plainConn is a connection without tls.
type plainConn struct {
	HalfCloser
	direct   *socket.Socket // the same; nil: there is none
	peeked   []byte         // read from the connection, not yet by Read
	protocol string
	uid      int
}

// unixBuffer is asked for as the send buffer of unix sockets, which the kernel
// doubles, bounds by wmem_max, and does not grow by itself. What it gives without
// being asked, 208 KiB with all bookkeeping, holds no block of 256 KiB: its writer
// was put to sleep and woken several times within each. This holds a lane's whole
// window (spec/design.md, "Decisions").
const unixBuffer = 1 << 20

// newPlain wraps a connection of package net and sets it up for blocks: tcp
// without delay, and with buffers left to the kernel, which grows them with the round trip.
func newPlain(c HalfCloser) *plainConn {
	switch c := c.(type) {
	case *net.TCPConn:
		_ = c.SetNoDelay(true) // the default of package net; said here because lanes rely on it
	case *net.UnixConn:
		_ = c.SetWriteBuffer(unixBuffer)
	}
	if known, ok := c.(Conn); ok {
		return &plainConn{HalfCloser: c, uid: known.PeerUID()}
	}
	return &plainConn{HalfCloser: c, direct: socket.Of(c), uid: peerUID(c)}
}

func (c *plainConn) Read(p []byte) (int, error) {
	switch {
	case len(c.peeked) > 0:
		n := copy(p, c.peeked)
		c.peeked = c.peeked[n:]
		return n, nil
	case c.direct != nil:
		return c.direct.Read(p)
	}
	return c.HalfCloser.Read(p)
}

func (c *plainConn) Write(p []byte) (int, error) {
	if c.direct != nil {
		return c.direct.Write(p)
	}
	return c.HalfCloser.Write(p)
}

// NetConn is the connection under this one, as crypto/tls calls it.
func (c *plainConn) NetConn() net.Conn { return c.HalfCloser }
func (c *plainConn) Protocol() string  { return c.protocol }
func (c *plainConn) PeerKey() string   { return "" }
func (c *plainConn) PeerUID() int      { return c.uid }

// tlsConn is a connection whose handshake is done.
type tlsConn struct {
	*tls.Conn
	raw      *batcher
	protocol string
	key      string
	began    bool // something has been read; only used by Read
}

// newTLS takes over a connection after its handshake. Lanes batch, because
// they carry blocks; HTTP/2 does not, because gRPC has buffers of its own.
func newTLS(c *tls.Conn, raw *batcher) *tlsConn {
	s := c.ConnectionState()
	t := &tlsConn{Conn: c, raw: raw, protocol: s.NegotiatedProtocol}
	if len(s.PeerCertificates) > 0 {
		t.key = KeyOf(s.PeerCertificates[0])
	}
	if t.protocol == ProtocolLane {
		raw.enable()
	}
	return t
}

// Write writes p as records that leave together. It is on its way when Write returns.
func (c *tlsConn) Write(p []byte) (int, error) {
	c.raw.hold()
	n, err := c.Conn.Write(p)
	if ferr := c.raw.release(); err == nil && ferr != nil {
		return 0, ferr
	}
	return n, err
}

// Read reads. In TLS 1.3 a dialer's handshake ends before the server has looked at
// the dialer's certificate, so that a refusal arrives here: as fault.Refused of the peer.
func (c *tlsConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !c.began && isAlert(err) {
		err = failure("tls handshake", c.RemoteAddr().String(), err)
	}
	c.began = c.began || n > 0
	return n, err
}

func (c *tlsConn) Protocol() string { return c.protocol }
func (c *tlsConn) PeerKey() string  { return c.key }
func (c *tlsConn) PeerUID() int     { return -1 }
