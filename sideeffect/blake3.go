package sideeffect

import (
	"encoding/binary"
	"math/bits"

	"lukechampine.com/blake3/guts"

	"github.com/pannier/pannier/spec/fault"
)

// blake3Buffer is what is collected before it is compressed: as many chunks
// as the SIMD code takes at once.
const blake3Buffer = guts.MaxSIMD * guts.ChunkSize

// blake3Levels is enough subtree roots for 2^63 bytes of 1 KiB chunks.
const blake3Levels = 53

// blake3Hash is BLAKE3-256 as an incremental tree: at most one finished
// subtree root per height, and a buffer of what is not a finished group of
// MaxSIMD chunks yet. The library's own hasher cannot be saved.
//
//	bit i of chunks is set <=> roots[i] is the root of a finished subtree of 2^i chunks
//	chunks is a multiple of MaxSIMD; 0 <= buffered <= blake3Buffer
//	buffered = 0 only before the first byte: the last group is kept back, since it may be the root
type blake3Hash struct {
	chunks   uint64
	roots    [blake3Levels][8]uint32
	buffered int
	buf      [blake3Buffer]byte
}

func newBlake3() *blake3Hash { return &blake3Hash{} }

func (h *blake3Hash) Size() int      { return 32 }
func (h *blake3Hash) BlockSize() int { return guts.BlockSize }
func (h *blake3Hash) Reset()         { h.chunks, h.buffered = 0, 0 }

func (h *blake3Hash) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if h.buffered == blake3Buffer {
			h.fold(&h.buf)
			h.buffered = 0
		}
		for h.buffered == 0 && len(p) > blake3Buffer {
			h.fold((*[blake3Buffer]byte)(p))
			p = p[blake3Buffer:]
		}
		c := copy(h.buf[h.buffered:], p)
		h.buffered += c
		p = p[c:]
	}
	return n, nil
}

// fold adds a full group to the tree.
func (h *blake3Hash) fold(group *[blake3Buffer]byte) {
	node := guts.CompressBuffer(group, blake3Buffer, &guts.IV, h.chunks, 0)
	cv := guts.ChainingValue(node)
	i := bits.TrailingZeros(guts.MaxSIMD)
	for ; h.chunks&(1<<i) != 0; i++ {
		cv = guts.ChainingValue(guts.ParentNode(h.roots[i], cv, &guts.IV, 0))
	}
	h.roots[i] = cv
	h.chunks += guts.MaxSIMD
}

func (h *blake3Hash) Sum(b []byte) []byte {
	// CompressBuffer may use the whole array behind buffered as scratch, so it
	// gets a copy: Sum must not disturb the state.
	group := h.buf
	node := guts.CompressBuffer(&group, h.buffered, &guts.IV, h.chunks, 0)
	for i := range blake3Levels {
		if h.chunks&(1<<i) != 0 {
			node = guts.ParentNode(h.roots[i], guts.ChainingValue(node), &guts.IV, 0)
		}
	}
	node.Flags |= guts.FlagRoot
	out := guts.WordsToBytes(guts.CompressNode(node))
	return append(b, out[:32]...)
}

// MarshalBinary saves chunks (8 bytes, little endian like all words of
// BLAKE3), the roots of the heights whose bit is set, lowest first (32 bytes
// each), then the buffered bytes.
func (h *blake3Hash) MarshalBinary() ([]byte, error) {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, 8+32*bits.OnesCount64(h.chunks)+h.buffered), h.chunks)
	for i, root := range h.roots {
		if h.chunks&(1<<i) == 0 {
			continue
		}
		for _, w := range root {
			b = binary.LittleEndian.AppendUint32(b, w)
		}
	}
	return append(b, h.buf[:h.buffered]...), nil
}

// UnmarshalBinary restores what MarshalBinary saved.
func (h *blake3Hash) UnmarshalBinary(b []byte) error {
	if len(b) < 8 {
		return fault.New("restore digest", fault.Corrupt, "%d bytes are not a blake3 state", len(b))
	}
	chunks, b := binary.LittleEndian.Uint64(b), b[8:]
	roots := 32 * bits.OnesCount64(chunks)
	switch {
	case chunks%guts.MaxSIMD != 0 || chunks>>blake3Levels != 0,
		len(b) < roots, len(b)-roots > blake3Buffer,
		chunks > 0 && len(b) == roots: // the last group is always kept back
		return fault.New("restore digest", fault.Corrupt, "%d bytes do not fit %d chunks", len(b), chunks)
	}
	h.chunks = chunks
	for i := range h.roots {
		if chunks&(1<<i) == 0 {
			continue
		}
		for j := range h.roots[i] {
			h.roots[i][j] = binary.LittleEndian.Uint32(b[4*j:])
		}
		b = b[32:]
	}
	h.buffered = copy(h.buf[:], b)
	return nil
}
