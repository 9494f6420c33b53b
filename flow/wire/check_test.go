package wire

import (
	"encoding/binary"
	"hash/crc32"
	"reflect"
	"testing"

	"github.com/zeebo/xxh3"

	"github.com/pannier/pannier/spec/fault"
)

// wholeFrame is what a valid vector of "frame" says.
type wholeFrame struct {
	Type    Type
	Flags   Flags
	Class   Class
	Stream  uint32
	Words   []byte
	Payload []byte
}

func (f wholeFrame) seal(number uint32) []byte {
	b := make([]byte, HeaderSize)
	Header{Type: f.Type, Flags: f.Flags, Class: f.Class, Ext: uint8(len(f.Words) / 8), Stream: f.Stream, Length: uint32(len(f.Payload))}.Put(b)
	b = append(append(b, f.Words...), f.Payload...)
	Seal(b, number)
	return b
}

// receive takes a frame in the order of spec/flow.md.
func receive(b []byte, number uint32) error {
	h, err := ParseHeader(b)
	if err != nil {
		return err
	}
	head, payload := b[:HeaderSize+8*int(h.Ext)], b[HeaderSize+8*int(h.Ext):]
	if h.Ext == 0 {
		return h.Verify(number, head, payload)
	}
	if err := h.Verify(number, head, nil); err != nil {
		return err
	}
	words := head[HeaderSize:]
	if got, want := xxh3.HashSeed(payload, binary.BigEndian.Uint64(words)), binary.BigEndian.Uint64(words[8:]); got != want {
		return fault.New("digest", fault.Corrupt, "%016x, not %016x", got, want)
	}
	return nil
}

func TestFrameVectors(t *testing.T) {
	forVectors(t, "frame", func(t *testing.T, v vector) []byte {
		if v.Kind != "" {
			v.refused(t, receive(vectorBytes(t, *v.Hex), *v.Number))
			return nil
		}
		var want wholeFrame
		setFields(t, reflect.ValueOf(&want).Elem(), v.Fields)
		b := want.seal(*v.Number)
		if err := receive(b, *v.Number); err != nil {
			t.Error(err)
		}
		return b
	})
}

// Frame 0 has the CRC that every library computes.
func TestCheckIsCRC32C(t *testing.T) {
	b := AppendPing(nil, 1)
	Seal(b, 0)
	want := crc32.Checksum(append(append([]byte(nil), b[:12]...), b[16:]...), crc32.MakeTable(crc32.Castagnoli))
	if got := binary.BigEndian.Uint32(b[12:]); got != want {
		t.Errorf("%08x, want %08x", got, want)
	}
	if crc32.Checksum([]byte("123456789"), castagnoli) != 0xe3069283 {
		t.Error("that is not CRC-32C")
	}
}

// Several frames in one piece are numbered one after another; what is not whole
// stays as it is.
func TestSealMany(t *testing.T) {
	b := AppendPing(AppendCredit(AppendPing(nil, 1), 5, 2, 1), 3)
	whole := len(b)
	b = append(b, AppendPong(nil, 4)[:20]...)
	if next := Seal(b, 1<<32-1); next != 2 {
		t.Fatalf("the next is number %d", next)
	}
	for number := uint32(1<<32 - 1); len(b) > 20; number++ {
		h, err := ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		size := HeaderSize + int(h.Length)
		if err := h.Verify(number, b[:HeaderSize], b[HeaderSize:size]); err != nil {
			t.Error(err)
		}
		b = b[size:]
	}
	if binary.BigEndian.Uint32(b[12:]) != 0 || whole != 24+32+24 {
		t.Errorf("half a frame was sealed: % x", b)
	}
}

// Every bit of a frame is found by the check, or by the digest among the words.
func TestEveryBit(t *testing.T) {
	for _, v := range loadVectors(t, "frame").Vectors {
		if v.Kind != "" {
			continue
		}
		b := vectorBytes(t, *v.Hex)
		for bit := range 8 * len(b) {
			b[bit/8] ^= 1 << (bit % 8)
			if !caught(b, *v.Number) {
				t.Errorf("%s: bit %d of byte %d does not show", v.Name, bit%8, bit/8)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// caught reports whether a damaged frame is refused.
func caught(b []byte, number uint32) bool {
	if head := HeaderSize + 8*int(b[3]); head > len(b) {
		return true // more words than there are bytes
	}
	return receive(b, number) != nil
}

func TestSealDoesNotAllocate(t *testing.T) {
	b := make([]byte, MaxHead+100)
	BlockHead{Header: Header{Flags: Zstd, Stream: 1, Length: 100}, Original: 1}.Put(b)
	n := testing.AllocsPerRun(100, func() {
		Seal(b, 7)
		h, err := ParseHeader(b)
		if err == nil {
			err = h.Verify(7, b[:MaxHead], nil)
		}
		if err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, size := range []int{0, 256 << 10} {
		frame := make([]byte, MaxHead+size)
		BlockHead{Header: Header{Flags: Zstd, Stream: 1, Length: uint32(size)}, Original: 1}.Put(frame)
		name := "block"
		if size == 0 {
			name = "credit"
			frame = AppendCredit(nil, 5, 1, 1)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				Seal(frame, 7)
			}
		})
	}
}
