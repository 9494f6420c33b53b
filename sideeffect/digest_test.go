package sideeffect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"testing"

	"lukechampine.com/blake3"
	"pgregory.net/rapid"

	"github.com/pannier/pannier/spec/fault"
)

// lengths around every boundary of the tree.
func lengths() []int {
	ls := []int{0, 1, 63, 64, 65, 127, 128, 1023, 1024, 1025, 2047, 2048, 2049}
	for _, chunks := range []int{3, 4, 5, 8, 15, 16, 17, 24, 31, 32, 33, 47, 48, 49, 64, 80, 96, 112, 128, 129, 1000} {
		ls = append(ls, chunks<<10-1, chunks<<10, chunks<<10+1)
	}
	return ls
}

func want(a Algorithm, b []byte) []byte {
	switch a {
	case SHA256:
		s := sha256.Sum256(b)
		return s[:]
	case SHA512:
		s := sha512.Sum512(b)
		return s[:]
	}
	s := blake3.Sum256(b)
	return s[:]
}

func TestBlake3Lengths(t *testing.T) {
	t.Parallel()
	all := content(1001 << 10)
	for _, n := range lengths() {
		for _, step := range []int{n + 1, 1 << 10, 777, 16 << 10, 16<<10 + 1} {
			h := newBlake3()
			for rest := all[:n]; len(rest) > 0; {
				k := min(step, len(rest))
				h.Write(rest[:k])
				rest = rest[k:]
			}
			if got := h.Sum(nil); !bytes.Equal(got, want(BLAKE3, all[:n])) {
				t.Fatalf("%d bytes by %d: %x", n, step, got)
			}
			if again := h.Sum(nil); !bytes.Equal(again, want(BLAKE3, all[:n])) {
				t.Fatalf("%d bytes: Sum disturbed the state", n)
			}
		}
	}
}

// Saved at any boundary and restored, a digest ends the same.
func TestHasherSavedAtEveryBoundary(t *testing.T) {
	t.Parallel()
	all := content(130<<10 + 5)
	for _, a := range []Algorithm{SHA256, SHA512, BLAKE3} {
		for _, at := range lengths() {
			if at <= len(all) {
				saveAndRestore(t, a, all, at)
			}
		}
	}
}

func saveAndRestore(t testing.TB, a Algorithm, all []byte, at int) {
	t.Helper()
	h, err := NewHasher(a)
	noError(t, err)
	h.Write(all[:at])
	state, err := h.MarshalBinary()
	noError(t, err)
	if len(state) > MaxHashState {
		t.Fatalf("%v state has %d bytes", a, len(state))
	}
	h.Write([]byte("must not matter"))
	r, _ := NewHasher(a)
	noError(t, r.UnmarshalBinary(state))
	if r.Written() != int64(at) {
		t.Fatalf("%v: restored %d of %d bytes", a, r.Written(), at)
	}
	r.Write(all[at:])
	if got := r.Sum(); got.Algorithm != a || !bytes.Equal(got.Bytes, want(a, all)) {
		t.Fatalf("%v saved at %d: %v", a, at, got)
	}
}

func TestHasherProperty(t *testing.T) {
	t.Parallel()
	all := content(200 << 10)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, len(all)).Draw(t, "n")
		at := rapid.IntRange(0, n).Draw(t, "at")
		a := rapid.SampledFrom([]Algorithm{SHA256, SHA512, BLAKE3}).Draw(t, "algorithm")
		h, _ := NewHasher(a)
		h.Write(all[:at])
		state, _ := h.MarshalBinary()
		r, _ := NewHasher(a)
		if err := r.UnmarshalBinary(state); err != nil {
			t.Fatal(err)
		}
		r.Write(all[at:n])
		if !bytes.Equal(r.Sum().Bytes, want(a, all[:n])) {
			t.Fatalf("%v of %d bytes saved at %d differs", a, n, at)
		}
	})
}

func TestHasherRefuses(t *testing.T) {
	t.Parallel()
	if _, err := NewHasher(9); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("unknown algorithm: %v", err)
	}
	h, _ := NewHasher(None)
	h.Write([]byte("x"))
	if !h.Sum().IsZero() || h.Sum().String() != "" {
		t.Error("None has a digest")
	}
	b, _ := NewHasher(BLAKE3)
	for _, state := range [][]byte{nil, {byte(BLAKE3)}, append([]byte{byte(SHA256)}, make([]byte, 20)...), append([]byte{byte(BLAKE3)}, bytes.Repeat([]byte{0xff}, 40)...)} {
		wantKind(t, b.UnmarshalBinary(state), fault.Corrupt)
	}
}

func FuzzHasherState(f *testing.F) {
	for _, a := range []Algorithm{SHA256, SHA512, BLAKE3} {
		for _, n := range []int{0, 100, 20 << 10} {
			h, _ := NewHasher(a)
			h.Write(content(n))
			b, _ := h.MarshalBinary()
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, a := range []Algorithm{None, SHA256, SHA512, BLAKE3} {
			h, _ := NewHasher(a)
			if h.UnmarshalBinary(b) == nil {
				h.Write(content(3000))
				h.Sum()
			}
		}
	})
}

func TestRootOf(t *testing.T) {
	t.Parallel()
	b := content(10000)
	var byHand [RootSize]byte
	for off := 0; off < len(b); off += 4096 {
		byHand = FoldRoot(byHand, int64(off), b[off:min(off+4096, len(b))])
	}
	got, err := RootOf(context.Background(), bytes.NewReader(b), int64(len(b)), 4096, nil)
	if err != nil || got != byHand {
		t.Fatalf("%x, %v, want %x", got, err, byHand)
	}
	if other, _ := RootOf(context.Background(), bytes.NewReader(b), int64(len(b)), 8192, nil); other == got {
		t.Error("the block size does not matter")
	}
	_, err = RootOf(context.Background(), bytes.NewReader(b[:9999]), int64(len(b)), 4096, nil)
	wantKind(t, err, fault.SourceChanged)
	_, err = RootOf(context.Background(), bytes.NewReader(b), 1, 0, nil)
	wantKind(t, err, fault.Invalid)
}
