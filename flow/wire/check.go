package wire

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/pannier/pannier/spec/fault"
)

// castagnoli is the polynomial of CRC-32C, for which processors have an
// instruction. It finds every error of up to 32 bits in a row and any three
// flipped bits in a frame of this size; it keeps out no attacker, which TLS does.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Seal writes the check of each frame in frames, which begins with a frame that
// is the number-th (from 0, the handshake's) of its connection and direction. It
// returns the number of the next one. It stops before what is not a whole frame.
//
// The number makes a frame that was dropped, doubled or moved show at the next
// one. So frames are sealed in the order in which they are written, and by
// whoever writes them.
func Seal(frames []byte, number uint32) uint32 {
	for len(frames) >= HeaderSize {
		head := HeaderSize + 8*int(frames[3])
		size := head + int(binary.BigEndian.Uint32(frames[8:]))
		if size > len(frames) {
			break
		}
		payload := frames[head:size]
		if Type(frames[0]).digested() {
			payload = nil
		}
		binary.BigEndian.PutUint32(frames[12:], check(number, frames[:head], payload))
		frames = frames[size:]
		number++
	}
	return number
}

// Verify holds the frame of header h against its check: head is the header as it
// came with its extension words, payload what follows, nil for types whose
// payload has a digest among the words. The error is Corrupt: the peer may be
// honest, the connection is not, and nothing behind this frame can be trusted.
func (h Header) Verify(number uint32, head, payload []byte) error {
	if want := check(number, head, payload); want != h.Check {
		return fault.New("frame check", fault.Corrupt, "frame %d, a %v of %d bytes, has check %08x and says %08x", number, h.Type, h.Length, want, h.Check)
	}
	return nil
}

// check is CRC-32C over the header up to its check, the words and the payload,
// continued from the frame's number as if that were the CRC of what precedes.
func check(number uint32, head, payload []byte) uint32 {
	c := crc32.Update(number, castagnoli, head[:HeaderSize-4])
	if len(head) > HeaderSize {
		c = crc32.Update(c, castagnoli, head[HeaderSize:])
	}
	if len(payload) > 0 {
		c = crc32.Update(c, castagnoli, payload)
	}
	return c
}
