package wire

import "encoding/binary"

// DataHead is a DATA frame without its payload: the header and, as 8-byte
// big-endian words behind it,
//
//	16..23  offset    u64  where the bytes lie in the stream, <= MaxOffset
//	24..31  digest    u64  XXH3-64 of the payload, seeded with offset; not checked here
type DataHead struct {
	Header
	Offset uint64
	Digest uint64
}

// DataHeadSize is how many bytes Put writes.
const DataHeadSize = HeaderSize + 16

// Put writes header and extension words to the first DataHeadSize bytes of b. It
// sets Type and Ext itself; the rest is the caller's.
func (h DataHead) Put(b []byte) {
	_ = b[DataHeadSize-1]
	h.Type, h.Ext = TypeData, rules[TypeData].words
	h.Header.Put(b)
	binary.BigEndian.PutUint64(b[16:], h.Offset)
	binary.BigEndian.PutUint64(b[24:], h.Digest)
}

// ParseDataExt is ParseBlockExt for DATA.
func ParseDataExt(h Header, ext []byte) (DataHead, error) {
	offset, digest, err := parsePlace(h, TypeData, ext)
	return DataHead{Header: h, Offset: offset, Digest: digest}, err
}
