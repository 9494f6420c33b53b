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
// returns Size. It sets Type and Ext itself; Flags, Class, Stream, Length,
// Offset, Digest and, when compressed, Original are the caller's. For a block
// that was read behind headroom:
//
//	frame := buf[headroom-h.Size():]
//	h.Put(frame)
func (h BlockHead) Put(b []byte) int {
	n := h.Size()
	_ = b[n-1]
	h.Type, h.Ext = TypeBlock, rules[TypeBlock].ext(h.Flags)
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
// out of its range.
func ParseBlockExt(h Header, ext []byte) (BlockHead, error) {
	offset, digest, err := parsePlace(h, TypeBlock, ext)
	if err != nil {
		return BlockHead{}, err
	}
	b := BlockHead{Header: h, Offset: offset, Digest: digest}
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

// parsePlace reads the words that BLOCK and DATA share.
func parsePlace(h Header, want Type, ext []byte) (offset, digest uint64, err error) {
	if h.Type != want || h.Ext != want.rule().ext(h.Flags) || len(ext) != 8*int(h.Ext) {
		return 0, 0, broken("extension words", "%d bytes for a %v with %d words", len(ext), h.Type, h.Ext)
	}
	offset, digest = binary.BigEndian.Uint64(ext), binary.BigEndian.Uint64(ext[8:])
	if offset > MaxOffset {
		return 0, 0, broken("extension words", "offset %d is over %d", offset, MaxOffset)
	}
	return offset, digest, nil
}
