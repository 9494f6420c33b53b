package sideeffect

import (
	"bytes"
	"encoding/hex"
)

// Algorithm is a digest over the whole content moved.
type Algorithm uint8

const (
	None Algorithm = iota
	SHA256
	SHA512
	BLAKE3 // 256 bits, unkeyed
)

func (a Algorithm) String() string { return name(uint8(a), "none", "sha256", "sha512", "blake3") }

// Size is the number of bytes of a digest; 0 for None and unknown ones.
func (a Algorithm) Size() int {
	switch a {
	case SHA256, BLAKE3:
		return 32
	case SHA512:
		return 64
	}
	return 0
}

// Sum is a digest and how it was made. The zero Sum is no digest.
type Sum struct {
	Algorithm Algorithm
	Bytes     []byte // Algorithm.Size() bytes
}

// IsZero reports whether s is no digest.
func (s Sum) IsZero() bool { return s.Algorithm == None }

// Equal reports whether both are the same digest by the same algorithm.
func (s Sum) Equal(t Sum) bool { return s.Algorithm == t.Algorithm && bytes.Equal(s.Bytes, t.Bytes) }

// String is "sha256:" and the digest in hexadecimal; "" for no digest.
func (s Sum) String() string {
	if s.IsZero() {
		return ""
	}
	return s.Algorithm.String() + ":" + hex.EncodeToString(s.Bytes)
}
