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
	"github.com/pannier/pannier/spec/fault"
)

// TestMuchIsSaidAgain: what was said last on many streams is said once more over new
// connections, however much that is: ENDs first, whose trailers are large, then verdicts.
func TestMuchIsSaidAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, Config{Pool: NewPool(256 * MiB)})
		defer stop()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		last := content(32 * KiB)
		sources, sinks := manyStreams(ctx, t, near, far)
		lose := func(say func()) {
			loseWhile(l, say)
			settle()
		}
		lose(func() { endAll(t, sources, last) })
		for _, b := range sinks {
			if _, err := b.Recv(ctx); err != io.EOF || !bytes.Equal(b.Trailer(), last) {
				t.Fatalf("trailer of %d bytes, %v", len(b.Trailer()), err)
			}
		}
		lose(func() { finishAll(t, sinks, last) })
		judgeAll(ctx, t, sources, last)
		if e := near.Stats().Epoch; e != 3 {
			t.Errorf("%d epochs, want 3", e)
		}
	})
}

// TestCloseAfterVerdicts: a session that is closed in order loses none of the verdicts that it has given, neither
// those that a resumption has it say again nor those that are on a long way, while the sources confirm the first ones.
func TestCloseAfterVerdicts(t *testing.T) {
	for _, resumed := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			link := flowtest.LinkConfig{RTT: 4 * time.Millisecond, Rate: 100e6}
			if resumed { // most of them wait when it is closed
				link.SendBuffer = 64 * KiB
			}
			near, far, l, stop := emulated(t, link, Config{Pool: NewPool(256 * MiB)})
			defer stop()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			last := content(32 * KiB)
			sources, sinks := manyStreams(ctx, t, near, far)
			endAll(t, sources, nil)
			for _, b := range sinks {
				if _, err := b.Recv(ctx); err != io.EOF {
					t.Fatal(err)
				}
			}
			if resumed {
				loseWhile(l, func() { finishAll(t, sinks, last) })
				for far.Stats().Epoch < 2 {
					time.Sleep(time.Millisecond)
				}
			} else {
				finishAll(t, sinks, last)
			}
			began := time.Now()
			far.Close()
			if took := time.Since(began); took >= farewellTime {
				t.Errorf("resumed %v: Close took %v", resumed, took)
			}
			judgeAll(ctx, t, sources, last)
			<-near.Done()
			if n := near.stats.losses.Load(); n > 1 || !resumed && n > 0 || fault.KindOf(near.Err()) != fault.Canceled {
				t.Errorf("resumed %v: %d losses, then %v", resumed, n, near.Err())
			}
		})
	}
}

// TestBothClose: ends that close at the same time do not wait for each other.
func TestBothClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: 40 * time.Millisecond}, Config{})
		defer stop()
		settle()
		began := time.Now()
		var wg sync.WaitGroup
		for _, s := range []*Session{near, far} {
			wg.Go(func() { s.Close() })
		}
		wg.Wait()
		if took := time.Since(began); took >= farewellTime {
			t.Errorf("it took %v", took)
		}
	})
}

// manyStreams have a block received each, and verdicts of 32 KiB would be more than may wait on a lane.
func manyStreams(ctx context.Context, t *testing.T, near, far *Session) (sources, sinks []*BlockStream) {
	t.Helper()
	const streams = 3 * maxQueued / (32 * KiB)
	sources, sinks = make([]*BlockStream, streams), make([]*BlockStream, streams)
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
	return sources, sinks
}

// loseWhile has the connections cut before anything of what is said has left.
func loseWhile(l *flowtest.Link, say func()) {
	l.Stall()
	say()
	l.Cut()
	l.Unstall()
}

func endAll(t *testing.T, sources []*BlockStream, trailer []byte) {
	for _, b := range sources {
		if err := b.End(trailer); err != nil {
			t.Error(err)
		}
	}
}

func finishAll(t *testing.T, sinks []*BlockStream, verdict []byte) {
	for _, b := range sinks {
		if err := b.Finish(verdict); err != nil {
			t.Error(err)
		}
	}
}

func judgeAll(ctx context.Context, t *testing.T, sources []*BlockStream, want []byte) {
	t.Helper()
	for i, b := range sources {
		if v, err := b.Verdict(ctx); err != nil || !bytes.Equal(v, want) {
			t.Fatalf("verdict %d of %d bytes, %v", i, len(v), err)
		}
	}
}
