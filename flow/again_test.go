package flow

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
)

// TestMuchIsSaidAgain: what was said last on many streams is said once more over new
// connections, however much that is: ENDs first, whose trailers are large, then verdicts.
func TestMuchIsSaidAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, Config{Pool: NewPool(256 * MiB)})
		defer stop()
		const streams = 3 * maxQueued / (32 * KiB)
		last := content(32 * KiB)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		sources, sinks := make([]*BlockStream, streams), make([]*BlockStream, streams)
		var err error
		var wg sync.WaitGroup
		for i := range streams {
			wg.Go(func() {
				in, err := far.AcceptStream(ctx)
				if err == nil {
					sinks[i], err = in.AcceptBlocks(AcceptBlocks{Start: -1})
				}
				if err != nil {
					t.Error(err)
				}
			})
			if sources[i], err = near.OpenBlocks(ctx, Open{Kind: "x", Send: true, BlockSize: minBlock}); err != nil {
				t.Fatal(err)
			}
			wg.Wait()
		}
		for i, b := range sources {
			blk, err := b.Next(ctx)
			if err == nil {
				err = b.Send(ctx, blk, len(blk.Data))
			}
			if err != nil {
				t.Fatal(err)
			}
			if blk, err = sinks[i].Recv(ctx); err != nil {
				t.Fatal(err)
			}
			blk.Release()
		}
		settle()
		lose := func(say func()) {
			l.Stall()
			say()
			l.Cut()
			l.Unstall()
			settle()
		}
		lose(func() {
			for _, b := range sources {
				if err := b.End(last); err != nil {
					t.Error(err)
				}
			}
		})
		for _, b := range sinks {
			if _, err := b.Recv(ctx); err != io.EOF || !bytes.Equal(b.Trailer(), last) {
				t.Fatalf("trailer of %d bytes, %v", len(b.Trailer()), err)
			}
		}
		lose(func() {
			for _, b := range sinks {
				if err := b.Finish(last); err != nil {
					t.Error(err)
				}
			}
		})
		for _, b := range sources {
			if v, err := b.Verdict(ctx); err != nil || !bytes.Equal(v, last) {
				t.Fatalf("verdict of %d bytes, %v", len(v), err)
			}
		}
		if e := near.Stats().Epoch; e != 3 {
			t.Errorf("%d epochs, want 3", e)
		}
	})
}
