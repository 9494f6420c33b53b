package flow

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/wire"
)

// TestHeldBlocksGoOut: blocks with More wait for one without, for a Next that has to wait, for the End and no longer;
// of a stream that is reset nothing is kept.
func TestHeldBlocksGoOut(t *testing.T) {
	send := func(t *testing.T, b *BlockStream, n int, more bool) {
		t.Helper()
		for range n {
			blk, err := b.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			blk.More = more
			if err := b.Send(t.Context(), blk, copy(blk.Data, content(testBlock))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tc := range []struct {
		name string
		goOn func(*testing.T, *BlockStream)
		more int // blocks
	}{
		{"one without More", func(t *testing.T, b *BlockStream) { send(t, b, 1, false) }, 1},
		{"Next without credit", func(t *testing.T, b *BlockStream) {
			send(t, b, 1, true)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if blk, err := b.Next(ctx); err == nil {
				t.Errorf("there is credit for a block at %d", blk.Offset)
			}
		}, 1},
		{"End", func(t *testing.T, b *BlockStream) {
			if err := b.End(nil); err != nil {
				t.Error(err)
			}
		}, 0},
		{"Reset", func(_ *testing.T, b *BlockStream) { b.Reset(nil) }, -3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDuel(t, true, Config{})
				defer d.end()
				d.send(openFrame(d.own(1), wire.Open{Blocks: true, BlockSize: testBlock, Window: 4 * testBlock}))
				in, err := d.victim.AcceptStream(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				b, err := in.AcceptBlocks(AcceptBlocks{Start: -1})
				if err != nil {
					t.Fatal(err)
				}
				send(t, b, 3, true)
				settle()
				if n := len(d.got(wire.TypeBlock)); n != 0 {
					t.Fatalf("%d blocks went out", n)
				}
				tc.goOn(t, b)
				settle()
				if n := len(d.got(wire.TypeBlock)); n != 3+tc.more {
					t.Errorf("%d blocks went out, want %d", n, 3+tc.more)
				}
				if d.pool.held != 0 {
					t.Errorf("%d bytes are held", d.pool.held)
				}
			})
		})
	}
}

// TestHoldIsBounded: a stream holds less than a volley, all together no more than their pool allows.
func TestHoldIsBounded(t *testing.T) {
	s := &Session{cfg: Config{Pool: NewPool(MiB)}}
	h := heldBlock{parcel: parcel{content: 256 * KiB, buf: s.cfg.Pool.get(256 * KiB)}}
	streams, total := 0, 0
	for full := false; !full && streams < 100; streams++ {
		b, n := &BlockStream{s: s}, 0
		for b.hold(h) {
			n++
		}
		if full = n < 3; n > 3 {
			t.Fatalf("a stream holds %d blocks of 256 KiB", n)
		}
		total += n * h.content
	}
	if total != maxHeld {
		t.Errorf("%d streams hold %d bytes, want %d", streams, total, maxHeld)
	}
}
