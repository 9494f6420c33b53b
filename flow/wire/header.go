package wire

import (
	"encoding/binary"

	"github.com/pannier/pannier/spec/fault"
)

// Version is the protocol version this package speaks.
const Version = 1

// Limits of a frame, in bytes unless said otherwise.
const (
	HeaderSize = 16                    // every frame starts with that much
	MaxExt     = 3                     // 8-byte extension words behind a header
	MaxHead    = HeaderSize + 8*MaxExt // header and extension words: what headroom must hold
	MaxFrame   = 1 << 20               // payload of a BLOCK, and its length when decompressed
	MaxData    = 1 << 20               // payload of a DATA
	MaxControl = 64 << 10              // msgpack body of a control frame
	MaxHello   = 16 << 10              // the same while the peer is not known: HELLO, HELLO_ACK
	MaxOffset  = uint64(1) << 62       // any position in a stream: the sum of two never overflows
)

// Preface is what the connecting side sends before its HELLO. It detects
// transports that strip the eighth bit, translate line ends, drop NUL or stop
// at ^Z, and differs from HTTP/2 ("PRI * HT") and TLS (16 03) in its first byte.
var Preface = [8]byte{0xF1, 'P', 'A', 'N', 0x0D, 0x0A, 0x00, 0x1A}

// Flags are bits whose meaning depends on the type; a bit the type does not
// list is an error.
type Flags uint8

const (
	Fin  Flags = 0x01 // DATA: the last of this direction
	Zstd Flags = 0x08 // BLOCK: payload is one zstd frame
	S2   Flags = 0x10 // BLOCK: payload is one S2 block; never with Zstd
	Ask  Flags = 0x20 // BLOCK, DATA: a PIPEACK is wanted as soon as this frame is taken off the lane

	compressed = Zstd | S2
)

// Class is how urgent a frame is. It orders the sender's queues and nothing
// else.
type Class uint8

const (
	ClassControl     Class = 0
	ClassInteractive Class = 1
	ClassRelay       Class = 2
	ClassBulk        Class = 3
)

// Header is the first 16 bytes of a frame, big-endian:
//
//	 0      type    u8
//	 1      flags   u8
//	 2      class   u8
//	 3      ext     u8   8-byte words between header and payload
//	 4..7   stream  u32  0: the session
//	 8..11  length  u32  payload bytes, extension words not counted
//	12..15  check   u32  CRC-32C over the frame's number on its connection,
//	                     bytes 0..11, the words and, unless there is a digest
//	                     among those (BLOCK, DATA), the payload: Seal, Verify
type Header struct {
	Type   Type
	Flags  Flags
	Class  Class
	Ext    uint8
	Stream uint32
	Length uint32
	Check  uint32
}

// Put writes h to the first HeaderSize bytes of b, which must be there. It
// checks nothing: ParseHeader at the other end does. Check is Seal's to write.
func (h Header) Put(b []byte) {
	_ = b[HeaderSize-1]
	b[0], b[1], b[2], b[3] = byte(h.Type), byte(h.Flags), byte(h.Class), h.Ext
	binary.BigEndian.PutUint32(b[4:], h.Stream)
	binary.BigEndian.PutUint32(b[8:], h.Length)
	binary.BigEndian.PutUint32(b[12:], h.Check)
}

// SetAsk gives the header at the start of b the flag Ask. It comes before Seal.
func SetAsk(b []byte) { b[1] |= byte(Ask) }

// ParseHeader reads the header at the start of b and holds it against the
// table of types. What it returns without an error is safe to go on reading by:
// Length and Ext are within what its type allows. Before anything is done about
// the frame, Verify. Errors are Protocol, and nothing after a bad header can be
// trusted; whether the peer or the connection is at fault, nobody can know.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, broken("frame header", "%d bytes instead of %d", len(b), HeaderSize)
	}
	h := Header{
		Type: Type(b[0]), Flags: Flags(b[1]), Class: Class(b[2]), Ext: b[3],
		Stream: binary.BigEndian.Uint32(b[4:]),
		Length: binary.BigEndian.Uint32(b[8:]),
		Check:  binary.BigEndian.Uint32(b[12:]),
	}
	if err := h.check(); err != nil {
		return Header{}, err
	}
	return h, nil
}

func (h Header) check() error {
	r := h.Type.rule()
	switch {
	case r == nil:
		return broken("frame header", "unknown type %d", h.Type)
	case h.Flags&^r.flags != 0 || h.Flags&compressed == compressed:
		return broken("frame header", "%v with flags %#02x", h.Type, uint8(h.Flags))
	case h.Class > ClassBulk:
		return broken("frame header", "%v with class %d", h.Type, h.Class)
	case h.Ext != r.ext(h.Flags):
		return broken("frame header", "%v with %d extension words instead of %d", h.Type, h.Ext, r.ext(h.Flags))
	case h.Length < r.min || h.Length > r.max:
		return broken("frame header", "%v of %d bytes; it has %d to %d", h.Type, h.Length, r.min, r.max)
	case (h.Stream != 0) != r.stream:
		return broken("frame header", "%v on stream %d", h.Type, h.Stream)
	}
	return nil
}

// broken is the one error of this package for what a peer sent.
func broken(op, format string, args ...any) *fault.Error {
	e := fault.New(op, fault.Protocol, format, args...)
	e.Session = true
	return e
}
