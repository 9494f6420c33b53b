package wire

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// allocBound is what decoding one control frame may allocate, whatever its bytes.
const allocBound = 2 << 20

// allocated is how many bytes f allocated. Tests of this package do not run in
// parallel, so nobody else does.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// The pre-check alone, without the types that Decode holds the body against.
func TestPrecheck(t *testing.T) {
	for _, c := range []struct {
		name, body string
		ok         bool
	}{
		{"nothing", "", false},
		{"number", "7f", true},
		{"uint64", "cf ff*8", true},
		{"booleans", "92 c2 c3", true},
		{"texts", "94 a0 a1 61 d9 01 61 db 00 00 00 01 61", true},
		{"bytes", "93 c4 00 c5 00 01 00 c6 00 00 00 01 00", true},
		{"arrays", "93 90 dc 00 01 00 dd 00 00 00 01 00", true},
		{"6 deep", "91*5 90", true},
		{"7 deep", "91*6 90", false},
		{"7 deep behind a shallow one", "92 90 91*5 90", false},
		{"scalar in the 6th", "91*6 00", true},
		{"60000 deep", "91*60000 90", false},
		{"4096 elements", "dc 10 00 00*4096", true},
		{"4097 elements", "dc 10 01 00*4097", false},
		{"2^32-16 elements", "dd ff ff ff f0", false},
		{"elements over the bytes left", "93 00 00", false},
		{"bytes over those left", "c4 02 00", false},
		{"2^32-1 bytes", "c6 ff ff ff ff", false},
		{"text over the bytes left", "a2 61", false},
		{"trailing byte", "90 00", false},
		{"nil", "c0", false}, {"unused code", "c1", false},
		{"float32", "ca 00*4", false}, {"float64", "cb 00*8", false},
		{"ext 8", "c7 00 00", false}, {"fixext 1", "d4 00 00", false},
		{"fixmap", "80", false}, {"map 32", "df 00*4", false},
		{"negative fixint", "e0", false}, {"int8", "d0 00", false},
	} {
		if err := precheck(vectorBytes(t, c.body)); (err == nil) != c.ok {
			t.Errorf("%s: %v, want ok %v", c.name, err, c.ok)
		}
	}
}

// A length that lies is refused where it stands, before anything is walked.
func TestLyingLengthIsRefusedAtItsHead(t *testing.T) {
	for _, body := range []string{"93 00 00", "dc 00 03 00 00", "dd 00 00 00 03 00 00", "c4 03 00 00", "a3 61 61"} {
		c := cursor{vectorBytes(t, body)}
		if got, err := c.next(); err == nil {
			t.Errorf("%s: took %v of %d", body, got.sort, got.n)
		}
	}
}

// Every code without anything behind it, and with more than enough.
func TestPrecheckEveryCode(t *testing.T) {
	accepted := 0
	for code := range 256 {
		if precheck([]byte{byte(code)}) == nil {
			accepted++
		}
		_ = precheck(append([]byte{byte(code)}, make([]byte, 300)...)) // must not panic
	}
	// 128 fixints, fixarray and fixstr of length 0, two booleans.
	if accepted != 128+1+1+2 {
		t.Errorf("%d codes are whole values", accepted)
	}
}

func TestWalkDoesNotAllocate(t *testing.T) {
	b, err := AppendControl(nil, TypeResume, 0, Resume{Streams: []ResumeStream{{ID: 1}, {ID: 2}, {ID: 3}}})
	if err != nil {
		t.Fatal(err)
	}
	body, to := b[HeaderSize:], reflect.ValueOf(&Resume{}).Elem()
	n := testing.AllocsPerRun(100, func() {
		c := cursor{body}
		if precheck(body) != nil || c.fits(to) != nil {
			t.Error("refused")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The largest bodies that pass pre-check and types, and those that almost do.
func TestDecodeAllocates(t *testing.T) {
	entry := "94 01 00 00 00 "
	for _, c := range []struct {
		name, body string
		v          Message
	}{
		{"resume, as many entries as fit", "92 01 dc 08 00 " + strings.Repeat(entry, 2048), &Resume{}},
		{"resume, one entry too many", "92 01 dc 08 01 " + strings.Repeat(entry, 2049), &Resume{}},
		{"resume, 4096 entries", "92 01 dc 10 00 " + strings.Repeat(entry, 4096), &Resume{}},
		{"resume, 4096 small entries", "92 01 dc 10 00 90*4096", &Resume{}},
		{"hello, 4096 features", "9d 01 01 01 c4 10 00*16 c4 10 00*16 00 c4 10 00*16 a0 dc 10 00 a0*4096 00 00 00 c2", &Hello{}},
		{"open, all meta", "98 a1 6b c2 c2 00 00 00 00 c5 80 00 00*32768", &Open{}},
		{"open, 64 KiB of meta", "98 a1 6b c2 c2 00 00 00 00 c5 ff f0 00*65520", &Open{}},
		{"close, 60 KiB of text", "92 01 da f0 00 61*61440", &Close{}},
	} {
		body := vectorBytes(t, c.body)
		n := allocated(func() { _ = Decode(body, c.v) })
		t.Logf("%-32s %6d bytes in, %7d allocated, %.1f per byte", c.name, len(body), n, float64(n)/float64(len(body)))
		if n > allocBound {
			t.Errorf("%s: %d bytes allocated", c.name, n)
		}
	}
}

// hostileBody draws bodies that look like msgpack: codes of all sorts with
// lengths that may lie.
func hostileBody(t *rapid.T) []byte {
	var b []byte
	for range rapid.IntRange(1, 40).Draw(t, "values") {
		b = append(b, rapid.Byte().Draw(t, "code"))
		if rapid.Bool().Draw(t, "length") {
			b = binary.BigEndian.AppendUint32(b, rapid.Uint32().Draw(t, "n"))
		}
	}
	fill := rapid.SampledFrom([]byte{0x00, 0x90, 0x91, 0x94, 0xa0, 0xc4, 0xff}).Draw(t, "fill")
	return append(b, bytes.Repeat([]byte{fill}, rapid.IntRange(0, MaxControl-len(b)).Draw(t, "rest"))...)
}

func TestHostileBodiesAllocateLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := hostileBody(t)
		for _, m := range newMessages() {
			if n := allocated(func() { _ = Decode(body, m) }); n > allocBound {
				t.Fatalf("%v: %d bytes allocated", m.frame(), n)
			}
		}
	})
}
