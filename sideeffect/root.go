package sideeffect

import (
	"context"
	"encoding/binary"
	"io"

	"github.com/zeebo/xxh3"

	"github.com/pannier/pannier/spec/fault"
)

// RootSize is the number of bytes of a root.
const RootSize = 16

// FoldRoot is the root of a chain of blocks after one more block, data at off:
//
//	XXH3-128(root || off u64 BE || length u64 BE || XXH3-64(data, seed = off) BE)
//
// The chain starts with 16 zero bytes; the 128-bit result is big endian. The
// same chain runs in the stream (spec/flow.md).
func FoldRoot(root [RootSize]byte, off int64, data []byte) [RootSize]byte {
	var b [RootSize + 24]byte
	copy(b[:], root[:])
	binary.BigEndian.PutUint64(b[16:], uint64(off))
	binary.BigEndian.PutUint64(b[24:], uint64(len(data)))
	binary.BigEndian.PutUint64(b[32:], xxh3.HashSeed(data, uint64(off)))
	return xxh3.Hash128(b[:]).Bytes()
}

// RootOf is the root of the first length bytes of r, in blocks of blockSize,
// the last one shorter. Each block is also written to also, if it is not nil. A
// reader that ends early is fault.SourceChanged.
func RootOf(ctx context.Context, r io.Reader, length int64, blockSize int, also io.Writer) ([RootSize]byte, error) {
	const op = "compute root"
	var root [RootSize]byte
	if blockSize <= 0 || blockSize > MaxBlockSize {
		return root, fault.New(op, fault.Invalid, "block size is %d bytes, 1..%d are allowed", blockSize, MaxBlockSize)
	}
	buf := make([]byte, min(int64(blockSize), length))
	for off := int64(0); off < length; {
		if err := ctx.Err(); err != nil {
			return root, fault.Wrap(op, "", err)
		}
		b := buf[:min(int64(len(buf)), length-off)]
		if _, err := io.ReadFull(r, b); err == io.EOF || err == io.ErrUnexpectedEOF {
			return root, fault.New(op, fault.SourceChanged, "the content ended before byte %d", length)
		} else if err != nil {
			return root, fault.Wrap(op, "", err)
		}
		root = FoldRoot(root, off, b)
		if also != nil {
			if _, err := also.Write(b); err != nil {
				return root, fault.Wrap(op, "", err)
			}
		}
		off += int64(len(b))
	}
	return root, nil
}
