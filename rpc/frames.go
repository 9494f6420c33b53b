package rpc

import "encoding/binary"

// What HTTP/2 says (RFC 9113, 3.4, 4.1 and 6).
const (
	h2Preface     = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	h2FrameHeader = 9

	h2Data         = 0
	h2Headers      = 1
	h2Reset        = 3
	h2WindowUpdate = 8

	h2EndStream = 0x1 // of DATA and HEADERS
	h2Padded    = 0x8 // of DATA

	h2EnhanceYourCalm = 0xb // error code; gRPC's clients make RESOURCE_EXHAUSTED of it
)

// h2frames follows the frames of one direction of a connection, in any pieces.
type h2frames struct {
	skip int                 // bytes before the first frame's header
	head [h2FrameHeader]byte // of the present frame; of which have are there
	have int
	left int // bytes of the present frame's payload that are to come
}

// step takes what it can from p: nothing to tell, or a header's end, or a piece of
// payload. begins: the header is whole. ends: so is the frame.
func (f *h2frames) step(p []byte) (piece, rest []byte, begins, ends bool) {
	switch {
	case f.skip > 0:
		n := min(f.skip, len(p))
		f.skip -= n
		return nil, p[n:], false, false
	case f.left > 0:
		n := min(f.left, len(p))
		f.left -= n
		return p[:n], p[n:], false, f.left == 0
	}
	n := copy(f.head[f.have:], p)
	f.have += n
	if f.have < h2FrameHeader {
		return nil, p[n:], false, false
	}
	f.have, f.left = 0, f.length()
	return nil, p[n:], true, f.left == 0
}

func (f *h2frames) length() int        { return int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2]) }
func (f *h2frames) kind() byte         { return f.head[3] }
func (f *h2frames) has(flag byte) bool { return f.head[4]&flag != 0 }
func (f *h2frames) stream() uint32     { return binary.BigEndian.Uint32(f.head[5:]) &^ (1 << 31) }

// breakStream is a frame that gRPC answers with RST_STREAM, and ends the call: a
// WINDOW_UPDATE of nothing (RFC 9113, 6.9).
func breakStream(id uint32) []byte {
	b := []byte{0, 0, 4, h2WindowUpdate, 0}
	b = binary.BigEndian.AppendUint32(b, id)
	return append(b, 0, 0, 0, 0)
}
