package wire

import "encoding/binary"

// Frames whose body is one or two numbers. All are absolute (totals and
// positions, never differences), so that a lost or repeated one does no harm.
// Whoever writes them seals them.

// AppendCredit appends a CREDIT frame: the stream's sender may send up to offset
// granted, and the receiver has taken everything below received.
func AppendCredit(dst []byte, stream uint32, granted, received uint64) []byte {
	return appendNumbers(dst, TypeCredit, stream, granted, received)
}

// AppendDurable appends a DURABLE frame: everything below the offset survives a
// power cut at the receiver.
func AppendDurable(dst []byte, stream uint32, durable uint64) []byte {
	return appendNumbers(dst, TypeDurable, stream, durable)
}

// AppendPing appends a PING frame. The nonce is the caller's and comes back.
func AppendPing(dst []byte, nonce uint64) []byte { return appendNumbers(dst, TypePing, 0, nonce) }

// AppendPong appends a PONG frame with the nonce of the PING it answers.
func AppendPong(dst []byte, nonce uint64) []byte { return appendNumbers(dst, TypePong, 0, nonce) }

// AppendPipeAck appends a PIPEACK frame: total bytes taken off the lane it
// travels on, since that lane's handshake.
func AppendPipeAck(dst []byte, total uint64) []byte {
	return appendNumbers(dst, TypePipeAck, 0, total)
}

// AppendLanes appends a LANES frame: how many bulk lanes the session should have.
func AppendLanes(dst []byte, n uint64) []byte { return appendNumbers(dst, TypeLanes, 0, n) }

func appendNumbers(dst []byte, t Type, stream uint32, numbers ...uint64) []byte {
	dst = appendHeader(dst, Header{Type: t, Stream: stream, Length: uint32(8 * len(numbers))})
	for _, n := range numbers {
		dst = binary.BigEndian.AppendUint64(dst, n)
	}
	return dst
}

func appendHeader(dst []byte, h Header) []byte {
	var b [HeaderSize]byte
	h.Put(b[:])
	return append(dst, b[:]...)
}

// ParseU64 reads the body of DURABLE, PING, PONG, PIPEACK and LANES: exactly 8
// bytes. What range the number may have is the receiver's to know.
func ParseU64(body []byte) (uint64, error) {
	if len(body) != 8 {
		return 0, broken("frame body", "%d bytes instead of 8", len(body))
	}
	return binary.BigEndian.Uint64(body), nil
}

// ParseCredit reads the body of CREDIT: exactly 16 bytes. The receiver checks
// the numbers against what the stream sent (received <= sent <= granted).
func ParseCredit(body []byte) (granted, received uint64, err error) {
	if len(body) != 16 {
		return 0, 0, broken("frame body", "%d bytes instead of 16", len(body))
	}
	return binary.BigEndian.Uint64(body), binary.BigEndian.Uint64(body[8:]), nil
}
