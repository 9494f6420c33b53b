package carrier

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Pipes that outlive a connection (FIFOs, serial lines) may still hold bytes of an
// earlier one, and their ends may not notice that the other has begun anew. So both ends
// agree on the beginning of a connection, before anything else:
//
//	dialer  CALL   from=a                  again with another a when no answer comes
//	listener       ANSWER to=a from=b      for every CALL
//	dialer  GO     to=b from=a             for the ANSWER to its newest CALL
//
// What comes in between is noise and skipped. a and b are random and new, so that
// nothing written earlier, whoever chose it, is taken for an ANSWER or a GO.
// None of this proves who the peer is.
type greeting struct {
	kind     byte // one of those below
	to, from [16]byte
}

const (
	greetCall   = 1
	greetAnswer = 2
	greetGo     = 3
)

// The wire form of a greeting:
//
//	 0  magic  8 bytes, greetMagic
//	 8  kind   u8
//	 9  zero   3 bytes
//	12  to     16 bytes
//	28  from   16 bytes
//	44  check  u32, CRC-32C of what is before, big-endian
const greetingSize = 48

// greetMagic shows pipes that change bytes, as wire.Preface does.
var greetMagic = [8]byte{0xf1, 'P', 'I', 'P', 0x0d, 0x0a, 0x00, 0x1a}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	maxNoise  = 2 << 20 // bytes before a connection begins: more than a FIFO holds
	shownWith = 48      // bytes of it in errors

	leastRing = 250 * time.Millisecond // for the first answer; doubled from call to call
	mostRing  = 4 * time.Second
)

func (g greeting) append(b []byte) []byte {
	at := len(b)
	b = append(append(b, greetMagic[:]...), g.kind, 0, 0, 0)
	b = append(append(b, g.to[:]...), g.from[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
}

// readGreeting reads greetingSize bytes.
func readGreeting(b []byte) (g greeting, ok bool) {
	g.kind = b[8]
	copy(g.to[:], b[12:])
	copy(g.from[:], b[28:])
	return g, bytes.Equal(b, g.append(nil))
}

// greeter finds greetings in what a connection brings.
type greeter struct {
	c     *fileConn
	buf   []byte // come and not looked at
	noise int    // bytes skipped
	shown []byte // the first of them
}

// next waits for the next greeting.
func (g *greeter) next() (greeting, error) {
	chunk := make([]byte, 4<<10)
	for {
		at := bytes.Index(g.buf, greetMagic[:])
		switch {
		case at < 0:
			at = max(0, len(g.buf)-len(greetMagic)+1)
		case len(g.buf) >= at+greetingSize:
			if m, ok := readGreeting(g.buf[at:][:greetingSize]); ok {
				g.skip(at)
				g.buf = g.buf[greetingSize:]
				return m, nil
			}
			g.skip(at + 1)
			continue
		}
		g.skip(at)
		if g.noise > maxNoise {
			return greeting{}, fault.New("greet", fault.Protocol, "%d bytes came and no peer begins a connection; they begin with %q", g.noise, g.shown)
		}
		n, err := g.c.Read(chunk)
		if err != nil {
			return greeting{}, err
		}
		g.buf = append(g.buf, chunk[:n]...)
	}
}

func (g *greeter) skip(n int) {
	g.noise += n
	g.shown = append(g.shown, g.buf[:min(n, shownWith-min(shownWith, len(g.shown)))]...)
	g.buf = g.buf[n:]
}

// over gives what came after the greetings to the connection and lifts deadlines.
func (g *greeter) over() error {
	g.c.peeked = g.buf
	return g.c.SetDeadline(time.Time{})
}

// call is the dialer's half. It goes on until ctx ends, which closes the connection.
func (g *greeter) call(ctx context.Context) error {
	for ring := leastRing; ; ring = min(2*ring, mostRing) {
		var mine [16]byte
		rand.Read(mine[:]) // never fails
		if _, err := g.c.Write(greeting{kind: greetCall, from: mine}.append(nil)); err != nil {
			return err
		}
		if err := g.c.SetReadDeadline(time.Now().Add(ring)); err != nil {
			return err
		}
		m, err := g.until(func(m greeting) bool { return m.kind == greetAnswer && m.to == mine })
		switch {
		case err == nil:
			if _, err = g.c.Write(greeting{kind: greetGo, to: m.from, from: mine}.append(nil)); err != nil {
				return err
			}
			return g.over()
		case !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil:
			return err
		}
	}
}

// answer is the listener's half. It waits without limit for a CALL, and for patience
// each time it has answered one.
func (g *greeter) answer(patience time.Duration) error {
	var mine [16]byte
	answered := false
	_, err := g.until(func(m greeting) bool {
		if m.kind != greetCall {
			return answered && m.kind == greetGo && m.to == mine
		}
		rand.Read(mine[:]) // never fails
		answered = true
		_ = g.c.SetDeadline(time.Now().Add(patience))
		_, _ = g.c.Write(greeting{kind: greetAnswer, to: m.from, from: mine}.append(nil)) // an error shows at the next read, or there is another call
		return false
	})
	if err != nil {
		return err
	}
	return g.over()
}

func (g *greeter) until(good func(greeting) bool) (greeting, error) {
	for {
		m, err := g.next()
		if err != nil || good(m) {
			return m, err
		}
	}
}
