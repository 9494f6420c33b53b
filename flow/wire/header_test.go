package wire

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pannier/pannier/spec/fault"
)

func TestPreface(t *testing.T) {
	if string(Preface[:]) != "\xf1PAN\r\n\x00\x1a" {
		t.Errorf("%x", Preface)
	}
	if _, err := ParseHeader(append(Preface[:], make([]byte, 8)...)); err == nil {
		t.Error("a preface is taken for a header")
	}
}

func TestHeaderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		typ := Type(rapid.IntRange(1, len(rules)-1).Draw(t, "type"))
		r := typ.rule()
		h := Header{
			Type:   typ,
			Flags:  rapid.SampledFrom([]Flags{0, Fin, Zstd, S2, Ask, Zstd | Ask}).Draw(t, "flags") & r.flags,
			Class:  Class(rapid.IntRange(0, int(ClassBulk)).Draw(t, "class")),
			Length: rapid.Uint32Range(r.min, r.max).Draw(t, "length"),
			Check:  rapid.Uint32().Draw(t, "check"),
		}
		h.Ext = r.ext(h.Flags)
		if r.stream {
			h.Stream = rapid.Uint32Min(1).Draw(t, "stream")
		}
		var b [HeaderSize]byte
		h.Put(b[:])
		if got, err := ParseHeader(b[:]); err != nil || got != h {
			t.Fatalf("%+v became %+v, %v", h, got, err)
		}
	})
}

// Whatever ParseHeader lets through is bounded: a receiver may allocate Length
// and read Ext words without asking again.
func TestHeaderPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), HeaderSize, HeaderSize).Draw(t, "bytes")
		b[0] = rapid.ByteMax(20).Draw(t, "type")
		for i := range 12 { // most random headers are refused at the first byte; make more reach the last check
			if rapid.Bool().Draw(t, "zero") {
				b[1+i] = 0
			}
		}
		h, err := ParseHeader(b)
		if err != nil {
			mustEndSession(t, err)
			return
		}
		promises(t, h)
	})
}

func promises(t interface{ Fatalf(string, ...any) }, h Header) {
	ok := h.Length <= MaxFrame && (h.Type == TypeBlock || h.Type == TypeData && h.Length <= MaxData || h.Length <= MaxControl) &&
		h.Ext <= MaxExt && (h.Ext == 0 || h.Type == TypeBlock || h.Type == TypeData) && h.Class <= ClassBulk &&
		h.Type >= TypeHello && h.Type <= TypeLanes && h.Flags&compressed != compressed
	if !ok {
		t.Fatalf("accepted %+v", h)
	}
}

func mustEndSession(t interface{ Fatalf(string, ...any) }, err error) {
	var e *fault.Error
	if !errors.As(err, &e) || e.Kind != fault.Protocol || !e.Session {
		t.Fatalf("got %v; want a protocol violation that ends the session", err)
	}
}

func TestTypeString(t *testing.T) {
	for typ, want := range map[Type]string{0: "TYPE 0", TypeHello: "HELLO", TypeLanes: "LANES", 19: "TYPE 19", 255: "TYPE 255"} {
		if typ.String() != want {
			t.Errorf("%d is %q, want %q", uint8(typ), typ, want)
		}
	}
	for p, want := range map[Purpose]string{0: "unknown", Control: "control", Bulk: "bulk", RPC: "rpc", 200: "unknown"} {
		if p.String() != want {
			t.Errorf("%d is %q, want %q", uint8(p), p, want)
		}
	}
}

// The table in spec/flow.md is the table in the code.
func TestTableInSpec(t *testing.T) {
	doc, err := os.ReadFile("../../spec/flow.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i, r := range rules {
		if r.name != "" {
			want.WriteString(specRow(Type(i), r))
		}
	}
	if !strings.Contains(string(doc), want.String()) {
		t.Errorf("spec/flow.md does not have this table:\n%s", want.String())
	}
}

func specRow(t Type, r rule) string {
	of, words, flags, length := "session", "0", "", fmt.Sprintf("%d..%d", r.min, r.max)
	if r.stream {
		of = "stream"
	}
	switch {
	case r.flags&compressed != 0:
		words = fmt.Sprintf("%d, %d compressed", r.words, r.words+1)
	case r.words > 0:
		words = fmt.Sprint(r.words)
	}
	for _, f := range []struct {
		bit  Flags
		name string
	}{{Fin, "FIN"}, {Zstd, "ZSTD"}, {S2, "S2"}, {Ask, "ASK"}} {
		if r.flags&f.bit != 0 {
			flags += " " + f.name
		}
	}
	if r.min == r.max {
		length = fmt.Sprint(r.min)
	}
	return fmt.Sprintf("| %d | %s | %s | %s | %s | %s |\n", uint8(t), r.name, of, strings.TrimSpace(flags), words, length)
}
