package wire

import (
	"reflect"
	"testing"
)

// FuzzFrame: header and extension words of whatever arrives.
func FuzzFrame(f *testing.F) {
	for _, file := range []string{"header", "block"} {
		for _, v := range loadVectors(f, file).Vectors {
			f.Add(vectorBytes(f, *v.Hex))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			mustEndSession(t, err)
			return
		}
		promises(t, h)
		var again [HeaderSize]byte
		if h.Put(again[:]); string(again[:]) != string(b[:HeaderSize]) {
			t.Fatalf("% x became % x", b[:HeaderSize], again)
		}
		if h.Type == TypeBlock {
			fuzzBlock(t, h, b[HeaderSize:])
		}
	})
}

func fuzzBlock(t *testing.T, h Header, rest []byte) {
	ext := rest[:min(len(rest), 8*int(h.Ext))]
	block, err := ParseBlockExt(h, ext)
	if err != nil {
		mustEndSession(t, err)
		return
	}
	if block.Offset > MaxOffset || block.Span() < 1 || block.Span() > MaxFrame {
		t.Fatalf("accepted %+v", block)
	}
	var again [MaxHead]byte
	if n := block.Put(again[:]); string(again[HeaderSize:n]) != string(ext) {
		t.Fatalf("% x became % x", ext, again[HeaderSize:n])
	}
}

// FuzzDecode: a body as each of the control structs. What decodes is within its
// limits, can be sent again and is the same then; nothing allocates much.
func FuzzDecode(f *testing.F) {
	for _, v := range loadVectors(f, "control").Vectors {
		f.Add(vectorBytes(f, *v.Hex)[HeaderSize:])
	}
	for _, v := range loadVectors(f, "hostile").Vectors {
		f.Add(vectorBytes(f, *v.Body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, v := range newMessages() {
			err := Decode(body, v)
			if err != nil {
				mustEndSession(t, err)
				continue
			}
			if err := v.Check(); err != nil {
				t.Fatalf("decoded %+v: %v", v, err)
			}
			roundTrip(t, v) // the encoder uses the shortest forms, so it always fits
		}
	})
}

// FuzzPrecheck: what passes is whole and within bounds, seen by another walk.
func FuzzPrecheck(f *testing.F) {
	for _, v := range loadVectors(f, "hostile").Vectors {
		f.Add(vectorBytes(f, *v.Body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if precheck(body) != nil {
			return
		}
		for i := range min(len(body), 1<<10) { // no proper prefix of a whole value is whole
			if precheck(body[:i]) == nil {
				t.Fatalf("% x is whole, and so are its first %d bytes", body, i)
			}
		}
		for _, v := range newMessages() { // the walk by types never leaves the body
			c := cursor{body}
			if c.fits(reflect.ValueOf(v).Elem()) == nil && len(c.rest) != 0 {
				t.Fatalf("%v leaves %d bytes", v.frame(), len(c.rest))
			}
		}
	})
}
