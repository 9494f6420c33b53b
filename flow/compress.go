package flow

import (
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// Compression says what a source does to its blocks before they travel.
type Compression uint8

const (
	CompressOff  Compression = iota
	CompressAuto             // S2 where a sample shows that it pays
	CompressS2               // S2, sampled too: a block that does not shrink goes as it is
	CompressZstd             // zstd at its fastest level, sampled likewise
)

const (
	maxRatio    = 1024 // a block that grows by more is an attack; 1 MiB of zeros in S2 is under it
	sampleEvery = 16   // after a block that did not shrink, the next try is that many blocks later
	paysBelow   = 0.90 // of the original size
)

// squasher compresses the blocks of one stream. It belongs to the goroutine
// that sends.
type squasher struct {
	mode Compression
	skip int
}

// pack returns a buffer with the compressed content and marks head; nil if the
// content goes as it is.
func (q *squasher) pack(c *Config, head *wire.BlockHead, content []byte) *buffer {
	if q.mode == CompressOff || len(content) < 512 {
		return nil
	}
	if q.skip > 0 {
		q.skip--
		return nil
	}
	most := int(paysBelow * float64(len(content)))
	buf := c.Pool.get(len(content))
	packed, flag := q.encode(c.Pool, buf, content)
	if packed == nil || len(packed) > most || len(packed) == 0 || len(content)/len(packed) > maxRatio {
		c.Pool.put(buf)
		q.skip = sampleEvery
		return nil
	}
	head.Flags |= flag
	head.Original, head.Length = uint32(len(content)), uint32(len(packed))
	return buf
}

func (q *squasher) encode(p *Pool, buf *buffer, content []byte) ([]byte, wire.Flags) {
	room := buf.mem[headroom:]
	if q.mode == CompressZstd {
		packed := p.zip().EncodeAll(content, room[:0])
		if len(packed) > len(room) || &packed[0] != &room[0] {
			return nil, 0
		}
		return packed, wire.Zstd
	}
	if s2.MaxEncodedLen(len(content)) > len(room) {
		return nil, 0
	}
	return s2.Encode(room, content), wire.S2
}

// unpack returns a buffer with the content of an arrival; it consumes a.buf.
func unpack(p *Pool, a arrival) (*buffer, error) {
	flags := a.head.Flags & (wire.Zstd | wire.S2)
	if flags == 0 {
		return a.buf, nil
	}
	defer p.put(a.buf)
	in, want := a.buf.payload(int(a.head.Length)), int(a.head.Original)
	if want/len(in) > maxRatio {
		return nil, fault.New("decompress block", fault.Corrupt, "%d bytes claim to be %d; over %d times as many is refused", len(in), want, maxRatio)
	}
	out := p.get(want)
	n, err := p.inflate(flags, out.payload(want), in)
	if err != nil || n != want {
		p.put(out)
		return nil, fault.New("decompress block", fault.Corrupt, "block at %d: %d of %d bytes: %v", a.head.Offset, n, want, err)
	}
	return out, nil
}

// inflate decompresses into out, never beyond it.
func (p *Pool) inflate(flags wire.Flags, out, in []byte) (int, error) {
	if flags&wire.S2 != 0 {
		n, err := s2.DecodedLen(in)
		if err != nil || n != len(out) {
			return n, err
		}
		_, err = s2.Decode(out, in)
		return n, err
	}
	got, err := p.unzip().DecodeAll(in, out[:0:len(out)])
	if err == nil && len(got) == len(out) && &got[0] != &out[0] {
		copy(out, got)
	}
	return len(got), err
}

// The coders are safe for concurrent use; a Pool makes them on first need. Two
// blocks at a time each; memory bounded by the largest block.

func newZip() *zstd.Encoder {
	e, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2),
		zstd.WithWindowSize(wire.MaxFrame), zstd.WithEncoderCRC(false))
	return e
}

func newUnzip() *zstd.Decoder {
	d, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxWindow(8*MiB),
		zstd.WithDecoderMaxMemory(wire.MaxFrame))
	return d
}
