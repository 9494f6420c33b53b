package wire

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"
)

// FuzzFrame: header and extension words of whatever arrives.
func FuzzFrame(f *testing.F) {
	for _, file := range []string{"header", "block", "frame"} {
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
		switch h.Type {
		case TypeBlock:
			fuzzBlock(t, h, b[HeaderSize:])
		case TypeData:
			fuzzData(t, h, b[HeaderSize:])
		}
	})
}

func fuzzData(t *testing.T, h Header, rest []byte) {
	ext := rest[:min(len(rest), 8*int(h.Ext))]
	data, err := ParseDataExt(h, ext)
	if err != nil {
		mustEndSession(t, err)
		return
	}
	if data.Offset > MaxOffset {
		t.Fatalf("accepted %+v", data)
	}
	var again [DataHeadSize]byte
	if data.Put(again[:]); string(again[HeaderSize:]) != string(ext) {
		t.Fatalf("% x became % x", ext, again[HeaderSize:])
	}
}

// FuzzSeal: any bytes, sealed, are whole frames that verify, and a tail that is
// none and was not touched; one flipped bit anywhere that the check covers shows.
func FuzzSeal(f *testing.F) {
	for _, file := range []string{"control", "frame"} {
		for _, v := range loadVectors(f, file).Vectors {
			f.Add(vectorBytes(f, *v.Hex), uint32(1), uint16(100))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, number uint32, flip uint16) {
		was := b
		b = bytes.Clone(b)
		next := Seal(b, number)
		for ; number != next; number++ {
			h, head, payload := cut(b)
			if err := h.Verify(number, head, payload); err != nil {
				t.Fatal(err)
			}
			if err := h.Verify(number+1, head, payload); err == nil {
				t.Fatal("it would be right as the next frame too")
			}
			if i := int(flip) % (8 * (len(head) + len(payload))); !shows(h, head, payload, number, i) {
				t.Fatalf("bit %d of % x does not show", i, head)
			}
			size := len(head) + int(h.Length)
			b, was = b[size:], was[size:]
		}
		if !bytes.Equal(b, was) {
			t.Fatal("what is no frame was changed")
		}
	})
}

// cut takes a whole frame, allowed or not, apart.
func cut(b []byte) (h Header, head, payload []byte) {
	h = Header{
		Type: Type(b[0]), Flags: Flags(b[1]), Class: Class(b[2]), Ext: b[3],
		Stream: binary.BigEndian.Uint32(b[4:]), Length: binary.BigEndian.Uint32(b[8:]), Check: binary.BigEndian.Uint32(b[12:]),
	}
	head = b[:HeaderSize+8*int(h.Ext)]
	if h.Type != TypeBlock && h.Type != TypeData {
		payload = b[len(head):][:h.Length]
	}
	return h, head, payload
}

// shows reports whether a flipped bit is found by Verify.
func shows(h Header, head, payload []byte, number uint32, bit int) bool {
	whole := append(append([]byte(nil), head...), payload...)
	whole[bit/8] ^= 1 << (bit % 8)
	h.Check = binary.BigEndian.Uint32(whole[12:])
	return h.Verify(number, whole[:len(head)], whole[len(head):]) != nil
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
