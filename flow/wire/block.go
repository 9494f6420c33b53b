package wire

import "encoding/binary"

// BlockHead is a BLOCK frame without its payload: the header and, as 8-byte
// big-endian words behind it,
//
//	16..23  offset    u64  where the block starts in the stream, <= MaxOffset
//	24..31  digest    u64  XXH3-64 of the decompressed bytes, seeded with offset; not checked here
//	32..39  original  u64  decompressed length, 1..MaxFrame; only when compressed
type BlockHead struct {
	Header
	Offset   uint64
	Digest   uint64
	Original uint32 // bytes when decompressed; 0 when the block is not compressed
}

// Span is how many bytes of the stream the block covers: those of the payload
// once it is decompressed.
func (h BlockHead) Span() uint32 {
	if h.Flags&compressed != 0 {
		return h.Original
	}
	return h.Length
}

// Size is how many bytes Put writes: 32, or 40 when Flags has Zstd or S2. It is
// at most MaxHead.
func (h BlockHead) Size() int {
	return HeaderSize + 8*int(rules[TypeBlock].ext(h.Flags))
}

// Put writes header and extension words to the first Size bytes of b and
// returns Size. It sets Type, Ext and Aux itself; Flags, Class, Stream, Length,
// Offset, Digest and, when compressed, Original are the caller's. For a block
// that was read behind headroom:
//
//	frame := buf[headroom-h.Size():]
//	h.Put(frame)
func (h BlockHead) Put(b []byte) int {
	n := h.Size()
	_ = b[n-1]
	h.Type, h.Ext, h.Aux = TypeBlock, rules[TypeBlock].ext(h.Flags), uint32(h.Offset)
	h.Header.Put(b)
	binary.BigEndian.PutUint64(b[16:], h.Offset)
	binary.BigEndian.PutUint64(b[24:], h.Digest)
	if h.Flags&compressed != 0 {
		binary.BigEndian.PutUint64(b[32:], uint64(h.Original))
	}
	return n
}

// ParseBlockExt reads the extension words of a BLOCK whose header ParseHeader
// returned. ext has exactly 8*h.Ext bytes. It reports Protocol when a word is
// out of its range or the offset does not end in Aux, which means that sender
// and receiver do not agree on where frames begin.
func ParseBlockExt(h Header, ext []byte) (BlockHead, error) {
	if h.Type != TypeBlock || h.Ext != rules[TypeBlock].ext(h.Flags) || len(ext) != 8*int(h.Ext) {
		return BlockHead{}, broken("block head", "%d extension bytes for a %v with %d words", len(ext), h.Type, h.Ext)
	}
	b := BlockHead{
		Header: h,
		Offset: binary.BigEndian.Uint64(ext),
		Digest: binary.BigEndian.Uint64(ext[8:]),
	}
	if b.Offset > MaxOffset {
		return BlockHead{}, broken("block head", "offset %d is over %d", b.Offset, MaxOffset)
	}
	if uint32(b.Offset) != h.Aux {
		return BlockHead{}, broken("block head", "offset %d does not end in aux %d", b.Offset, h.Aux)
	}
	if h.Flags&compressed == 0 {
		return b, nil
	}
	n := binary.BigEndian.Uint64(ext[16:])
	if n < 1 || n > MaxFrame {
		return BlockHead{}, broken("block head", "original length %d; it is 1 to %d", n, MaxFrame)
	}
	b.Original = uint32(n)
	return b, nil
}
