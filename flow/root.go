package flow

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"
)

// Root is the chain over the blocks of a stream so far, starting at zero:
//
//	root' = XXH3-128(root(16) | offset u64 | length u64 | digest u64)   big-endian
//	digest = XXH3-64(content, seed = offset)
//
// It is savable state: with deterministic block boundaries a prefix of a file
// has one root, which both ends can compute. It finds errors, not attackers;
// those are kept out by TLS and by the whole-file hash.
type Root [16]byte

// blockDigest binds the content of a block to its place.
func blockDigest(content []byte, offset int64) uint64 {
	return xxh3.HashSeed(content, uint64(offset))
}

// fold is the root after one more block.
func (r Root) fold(offset int64, length int, digest uint64) Root {
	var in [40]byte
	copy(in[:16], r[:])
	binary.BigEndian.PutUint64(in[16:], uint64(offset))
	binary.BigEndian.PutUint64(in[24:], uint64(length))
	binary.BigEndian.PutUint64(in[32:], digest)
	return Root(xxh3.Hash128(in[:]).Bytes())
}

// Fold is the root after the block with this content at this offset.
func (r Root) Fold(offset int64, content []byte) Root {
	return r.fold(offset, len(content), blockDigest(content, offset))
}
