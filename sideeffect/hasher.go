package sideeffect

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"hash"

	"github.com/pannier/pannier/spec/fault"
)

// MaxHashState is the most bytes a saved Hasher has.
const MaxHashState = 20 << 10

// A Hasher is a digest whose state can be saved and restored between any two
// bytes. One for None takes everything and has the zero Sum.
type Hasher struct {
	algorithm Algorithm
	hash      savableHash // nil with None
	written   int64
}

type savableHash interface {
	hash.Hash
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
}

// NewHasher starts a digest; an unknown algorithm is fault.Unsupported.
func NewHasher(a Algorithm) (*Hasher, error) {
	h := &Hasher{algorithm: a}
	switch a {
	case None:
	case SHA256:
		h.hash = sha256.New().(savableHash)
	case SHA512:
		h.hash = sha512.New().(savableHash)
	case BLAKE3:
		h.hash = newBlake3()
	default:
		return nil, fault.New("start digest", fault.Unsupported, "algorithm %d is not known", a)
	}
	return h, nil
}

// Algorithm is what the Hasher was made for.
func (h *Hasher) Algorithm() Algorithm { return h.algorithm }

// Written is the number of bytes taken so far, restored ones included.
func (h *Hasher) Written() int64 { return h.written }

// Write takes p; it never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	h.written += int64(len(p))
	if h.hash == nil {
		return len(p), nil
	}
	return h.hash.Write(p)
}

// Sum is the digest of the bytes so far; more may follow.
func (h *Hasher) Sum() Sum {
	if h.hash == nil {
		return Sum{}
	}
	return Sum{Algorithm: h.algorithm, Bytes: h.hash.Sum(nil)}
}

// MarshalBinary saves the state: algorithm (1 byte), bytes written (8, big
// endian), then the state of the algorithm (for sha256 and sha512 that of the
// Go standard library, for blake3 see spec/sideeffect.md). At most
// MaxHashState bytes; nothing with None.
func (h *Hasher) MarshalBinary() ([]byte, error) {
	if h.hash == nil {
		return nil, nil
	}
	state, err := h.hash.MarshalBinary()
	if err != nil {
		return nil, fault.Wrap("save digest", h.algorithm.String(), err)
	}
	head := []byte{byte(h.algorithm)}
	for shift := 56; shift >= 0; shift -= 8 {
		head = append(head, byte(h.written>>shift))
	}
	return append(head, state...), nil
}

// UnmarshalBinary restores what MarshalBinary of a Hasher of the same algorithm
// saved. Damaged state is fault.Corrupt; the Hasher is then not to be used.
func (h *Hasher) UnmarshalBinary(b []byte) error {
	if h.hash == nil && len(b) == 0 {
		return nil
	}
	if h.hash == nil || len(b) < 9 || len(b) > MaxHashState || Algorithm(b[0]) != h.algorithm {
		return fault.New("restore digest", fault.Corrupt, "%d bytes are not a state of %v", len(b), h.algorithm)
	}
	var n uint64
	for _, c := range b[1:9] {
		n = n<<8 | uint64(c)
	}
	if int64(n) < 0 {
		return fault.New("restore digest", fault.Corrupt, "negative length")
	}
	if err := h.hash.UnmarshalBinary(b[9:]); err != nil {
		return &fault.Error{Op: "restore digest", Kind: fault.Corrupt, Subject: h.algorithm.String(), Err: err}
	}
	h.written = int64(n)
	return nil
}
