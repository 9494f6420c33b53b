package carrier

import (
	"bytes"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// maxBanner is how many bytes may come before the peer's handshake: a command that
// logs in somewhere says so first.
const maxBanner = 64 << 10

// prologue is a connection to a command whose first bytes may be a banner. Read
// begins with the peer's handshake; nothing before it reaches anybody.
type prologue struct {
	*fileConn
	begins func(b []byte) (at int) // where the handshake is in b, -1: not yet
	begun  bool                    // only used by Read
}

func (c *prologue) Read(p []byte) (int, error) {
	if !c.begun {
		if err := c.skip(); err != nil {
			return 0, err
		}
		c.begun = true
	}
	return c.fileConn.Read(p)
}

// skip reads up to the handshake.
func (c *prologue) skip() error {
	var come []byte
	chunk := make([]byte, usualHello)
	for {
		n, err := c.fileConn.Read(chunk)
		come = append(come, chunk[:n]...)
		if at := c.begins(come); at >= 0 {
			c.peeked = come[at:]
			return nil
		}
		switch {
		case len(come) > maxBanner:
			return fault.New("begin", fault.Protocol, "%d bytes came and no handshake of Pannier; they begin with %q", len(come), come[:shownWith])
		case err != nil && len(come) > 0:
			return fault.New("begin", fault.KindOf(failure("read", "", err)), "the connection ended before a handshake; what came begins with %q: %w", come[:min(len(come), shownWith)], err)
		case err != nil:
			return err
		}
	}
}

// beginsLane finds wire.Preface.
func beginsLane(b []byte) int { return bytes.Index(b, wire.Preface[:]) }

// beginsTLS finds what a tls server says first: a record with a ServerHello, or
// with an alert. No text has their first byte.
func beginsTLS(b []byte) int {
	const recordAlert, serverHello = 21, 2
	for at := range max(0, len(b)-recordHeader) {
		r := b[at:]
		if r[1] == 3 && (r[0] == recordHandshake && r[5] == serverHello || r[0] == recordAlert && r[3] == 0 && r[4] == 2) {
			return at
		}
	}
	return -1
}
