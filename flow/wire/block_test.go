package wire

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestBlockHeadRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := BlockHead{
			Header: Header{
				Flags:  rapid.SampledFrom([]Flags{0, Zstd, S2}).Draw(t, "flags"),
				Class:  ClassBulk,
				Stream: rapid.Uint32Min(1).Draw(t, "stream"),
				Length: rapid.Uint32Range(1, MaxFrame).Draw(t, "length"),
			},
			Offset: rapid.Uint64Max(MaxOffset).Draw(t, "offset"),
			Digest: rapid.Uint64().Draw(t, "digest"),
		}
		span := h.Length
		if h.Flags != 0 {
			h.Original = rapid.Uint32Range(1, MaxFrame).Draw(t, "original")
			span = h.Original
		}
		b := bytes.Repeat([]byte{0xEE}, MaxHead+1)
		n := h.Put(b)
		if n != h.Size() || n > MaxHead || !bytes.Equal(b[n:], bytes.Repeat([]byte{0xEE}, len(b)-n)) {
			t.Fatalf("Put wrote beyond the %d bytes it reports: % x", n, b)
		}
		head, err := ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseBlockExt(head, b[HeaderSize:n])
		h.Header = head // Put derives Type and Ext
		if err != nil || got != h || got.Span() != span {
			t.Fatalf("%+v became %+v (span %d), %v", h, got, got.Span(), err)
		}
	})
}

// A header that is no BLOCK, or whose Ext was not checked, is refused, not read.
func TestParseBlockExtNeedsABlock(t *testing.T) {
	ext := make([]byte, 8*MaxExt)
	for _, h := range []Header{
		{Type: TypeData, Stream: 1, Length: 1},
		{Type: TypeBlock, Stream: 1, Length: 1, Ext: 3},
		{Type: TypeBlock, Stream: 1, Length: 1, Ext: 2, Flags: Zstd},
		{Type: TypeBlock, Stream: 1, Length: 1},
	} {
		_, err := ParseBlockExt(h, ext[:8*h.Ext])
		mustEndSession(t, err)
	}
}

func TestBlockHeadDoesNotAllocate(t *testing.T) {
	b := make([]byte, MaxHead)
	h := BlockHead{Header: Header{Flags: Zstd, Stream: 1, Length: 1}, Original: 1}
	n := testing.AllocsPerRun(100, func() {
		n := h.Put(b)
		head, err := ParseHeader(b)
		if err != nil {
			t.Error(err)
		}
		if _, err := ParseBlockExt(head, b[HeaderSize:n]); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per block", n)
	}
}
