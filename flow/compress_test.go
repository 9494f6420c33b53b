package flow

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// squash is what happens to content on its way: what travels, and what arrives.
func squash(q *squasher, p *Pool, content []byte) (head wire.BlockHead, got []byte, err error) {
	head = wire.BlockHead{Header: wire.Header{Length: uint32(len(content))}}
	buf := q.pack(&Config{Pool: p}, &head, content)
	if buf == nil {
		return head, content, nil
	}
	out, err := unpack(p, arrival{head, buf})
	if err != nil {
		return head, nil, err
	}
	return head, append([]byte(nil), out.payload(int(head.Span()))...), nil
}

// prose is size bytes of words in random order.
func prose(size int) []byte {
	words := bytes.Fields([]byte("all work and no play makes jack a dull boy whoever he may be"))
	r := rand.New(rand.NewPCG(1, 2))
	var b []byte
	for len(b) < size {
		b = append(append(b, words[r.IntN(len(words))]...), ' ')
	}
	return b[:size]
}

func TestCompressionPays(t *testing.T) {
	random := content(256 * KiB)
	text := prose(256 * KiB)
	for _, tc := range []struct {
		name    string
		mode    Compression
		content []byte
		pays    bool
	}{
		{"off", CompressOff, text, false},
		{"text, auto", CompressAuto, text, true},
		{"text, S2", CompressS2, text, true},
		{"text, zstd", CompressZstd, text, true},
		{"random, auto", CompressAuto, random, false},
		{"random, zstd", CompressZstd, random, false},
		{"too small", CompressZstd, text[:511], false},
		{"over the ratio", CompressZstd, make([]byte, MiB), false},
	} {
		q := squasher{mode: tc.mode}
		head, got, err := squash(&q, NewPool(MiB), tc.content)
		if err != nil || !bytes.Equal(got, tc.content) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if pays := head.Flags != 0; pays != tc.pays {
			t.Errorf("%s: compressed %v, want %v", tc.name, pays, tc.pays)
		}
	}
}

// TestCompressionRests: after a block that did not shrink the next tries wait.
func TestCompressionRests(t *testing.T) {
	q := squasher{mode: CompressS2}
	p := NewPool(MiB)
	squash(&q, p, content(64*KiB))
	for n := range sampleEvery + 1 {
		head, _, _ := squash(&q, p, prose(64*KiB))
		if tried := head.Flags != 0; tried != (n == sampleEvery) {
			t.Errorf("block %d after one that did not shrink: compressed %v", n, tried)
		}
	}
}

// TestAnythingSurvivesCompression: any size, from constant to random.
func TestAnythingSurvivesCompression(t *testing.T) {
	p := NewPool(MiB)
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, MiB).Draw(t, "size")
		spread := rapid.IntRange(1, 256).Draw(t, "spread")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		content := make([]byte, size)
		for i := range content {
			content[i] = byte(r.IntN(spread))
		}
		q := squasher{mode: Compression(rapid.IntRange(0, 3).Draw(t, "mode"))}
		if _, got, err := squash(&q, p, content); err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes of %d values: %v", size, spread, err)
		}
	})
}

// FuzzUnpack: no payload decompresses beyond what its head says, or hurts.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte{0x05, 0x10, 'h', 'e', 'l', 'l', 'o'}, uint32(5), true)
	f.Add(newZip().EncodeAll(make([]byte, 5000), nil), uint32(5000), false)
	f.Add(newZip().EncodeAll(make([]byte, 2*MiB), nil), uint32(4096), false)
	p := NewPool(MiB)
	f.Fuzz(func(t *testing.T, packed []byte, claimed uint32, s2 bool) {
		if len(packed) == 0 || len(packed) > MiB || claimed == 0 || claimed > MiB {
			return
		}
		h := wire.BlockHead{Header: wire.Header{Flags: wire.Zstd, Length: uint32(len(packed))}, Original: claimed}
		if s2 {
			h.Flags = wire.S2
		}
		buf := p.get(len(packed))
		copy(buf.payload(len(packed)), packed)
		if out, err := unpack(p, arrival{h, buf}); err == nil {
			p.put(out)
		}
	})
}

// A compressed block must not be longer than what it unpacks to: credit counts
// content, and the memory a block takes while it waits must not be more.
func TestFatBlockIsRefused(t *testing.T) {
	near, far, _, _ := pair(t, Config{}, true)
	go func() {
		if in, err := far.AcceptStream(t.Context()); err == nil {
			in.AcceptBlocks(AcceptBlocks{Start: -1})
		}
	}()
	b, err := near.OpenBlocks(t.Context(), Open{Kind: "x"})
	if err != nil {
		t.Fatal(err)
	}
	fat := wire.BlockHead{Header: wire.Header{Flags: wire.S2, Stream: b.id, Length: wire.MaxFrame}, Original: 4 * KiB}
	if err := b.expect(fat, b.lives); fault.KindOf(err) != fault.Protocol {
		t.Errorf("a block of %d bytes that unpacks to %d: %v", fat.Length, fat.Original, err)
	}
	fat.Length = fat.Original
	if err := b.expect(fat, b.lives); err != nil {
		t.Error(err)
	}
}
