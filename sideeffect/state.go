package sideeffect

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/pannier/pannier/spec/fault"
)

// The state file beside a partial file, all numbers big endian:
//
//	 0  4  "PNRS"
//	 4  1  format, 1
//	 5  1  hash algorithm
//	 6  2  length of the hash state
//	 8  4  block size
//	12  4  length of the last block before the durable offset
//	16  8  start: position in the file of the transfer's first byte
//	24  8  durable offset
//	32 16  root
//	48  8  XXH3-64 of the last block, seed = its offset
//	56 41  source version
//	97  n  hash state
//	97+n 8 XXH3-64 of everything before
const (
	stateMagic  = "PNRS"
	stateFormat = 1
	stateHead   = 56 + VersionSize
	stateTail   = 8

	// MaxStateSize is the most bytes a state file has.
	MaxStateSize = stateHead + MaxHashState + stateTail
)

// A state is what a state file says.
//
//	0 < lastLen <= BlockSize, lastLen <= Offset
type state struct {
	ResumePoint
	lastLen int64
	lastSum uint64
}

// encode writes s as a state file.
func (s state) encode() []byte {
	b := append(make([]byte, 0, stateHead+len(s.HashState)+stateTail), stateMagic...)
	b = append(b, stateFormat, byte(s.Hash))
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.HashState)))
	b = binary.BigEndian.AppendUint32(b, uint32(s.BlockSize))
	b = binary.BigEndian.AppendUint32(b, uint32(s.lastLen))
	b = appendBE(b, s.Start, s.Offset)
	b = append(b, s.Root[:]...)
	b = appendBE(b, int64(s.lastSum))
	b = append(b, s.Version.Encode()...)
	b = append(b, s.HashState...)
	return binary.BigEndian.AppendUint64(b, xxh3.Hash(b))
}

// parseState reads a state file; anything that is not one, whole and
// undamaged, is fault.Corrupt.
func parseState(b []byte) (state, error) {
	var s state
	if len(b) < stateHead+stateTail || len(b) > MaxStateSize || string(b[:4]) != stateMagic {
		return s, damaged("%d bytes are not a resume state", len(b))
	}
	if b[4] != stateFormat {
		return s, damaged("resume state of format %d, this version knows %d", b[4], stateFormat)
	}
	body, tail := b[:len(b)-stateTail], b[len(b)-stateTail:]
	if binary.BigEndian.Uint64(tail) != xxh3.Hash(body) {
		return s, damaged("checksum of the resume state is wrong")
	}
	s.Hash = Algorithm(b[5])
	s.BlockSize = int(binary.BigEndian.Uint32(b[8:]))
	s.lastLen = int64(binary.BigEndian.Uint32(b[12:]))
	s.Start = int64(binary.BigEndian.Uint64(b[16:]))
	s.Offset = int64(binary.BigEndian.Uint64(b[24:]))
	s.Root = [RootSize]byte(b[32:48])
	s.lastSum = binary.BigEndian.Uint64(b[48:])
	var err error
	if s.Version, err = ParseVersion(b[56:stateHead]); err != nil {
		return s, damaged("version: %w", err)
	}
	s.HashState = append([]byte(nil), body[stateHead:]...)
	if int(binary.BigEndian.Uint16(b[6:])) != len(s.HashState) {
		return s, damaged("hash state has %d bytes", len(s.HashState))
	}
	return s, s.check()
}

// check refuses numbers that contradict each other.
func (s state) check() error {
	switch {
	case s.Offset <= 0 || s.Start < 0 || s.Start+s.Offset < 0:
		return damaged("start %d, offset %d", s.Start, s.Offset)
	case s.BlockSize <= 0 || s.BlockSize > MaxBlockSize:
		return damaged("block size %d", s.BlockSize)
	case s.lastLen <= 0 || s.lastLen > int64(s.BlockSize) || s.lastLen > s.Offset:
		return damaged("last block of %d bytes", s.lastLen)
	case (s.Offset-s.lastLen)%int64(s.BlockSize) != 0:
		return damaged("offset %d is not at the end of a block", s.Offset)
	}
	return s.checkHash()
}

func (s state) checkHash() error {
	h, err := NewHasher(s.Hash)
	if err != nil {
		return damaged("hash: %w", err)
	}
	if err := h.UnmarshalBinary(s.HashState); err != nil {
		return damaged("hash: %w", err)
	}
	if s.Hash != None && h.Written() != s.Offset {
		return damaged("hash state is of %d bytes, offset is %d", h.Written(), s.Offset)
	}
	return nil
}

// same reports whether both name the same durable bytes; the hash state
// follows from them.
func (p ResumePoint) same(q ResumePoint) bool {
	return p.Version == q.Version && p.BlockSize == q.BlockSize && p.Offset == q.Offset && p.Root == q.Root && p.Hash == q.Hash
}

func damaged(format string, args ...any) error {
	return fault.NewLocal("read resume state", fault.Corrupt, format, args...)
}
