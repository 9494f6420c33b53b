package flow

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
)

// emulated makes two ends of a session over an emulated link, inside a bubble.
func emulated(t *testing.T, link flowtest.LinkConfig, cfg Config) (near, far *Session, l *flowtest.Link, stop func()) {
	t.Helper()
	l = flowtest.NewLink(link)
	near, far, stop = joinedBy(t, l, l, cfg)
	return near, far, l, stop
}

// joinedBy is a session on a link whose connections the dialer may have wrapped.
func joinedBy(t *testing.T, l *flowtest.Link, d Dialer, cfg Config) (near, far *Session, stop func()) {
	t.Helper()
	a, err := NewAcceptor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { a.Handle(c) })
		}
	})
	near, err = Connect(t.Context(), d, cfg)
	if err != nil {
		t.Fatal(err)
	}
	far, err = a.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return near, far, func() {
		near.Close()
		a.Close()
		l.Close()
		wg.Wait()
	}
}

// moved counts what arrives on one stream in a given (virtual) time.
func moved(t *testing.T, near, far *Session, d time.Duration) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	go func() {
		b, err := near.OpenBlocks(ctx, Open{Kind: "x", Send: true})
		if err != nil {
			return
		}
		for {
			blk, err := b.Next(ctx)
			if err != nil {
				b.Reset(err)
				return
			}
			if b.Send(ctx, blk, len(blk.Data)) != nil {
				return
			}
		}
	}()
	in, err := far.AcceptStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b, err := in.AcceptBlocks(AcceptBlocks{Start: -1})
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	for {
		blk, err := b.Recv(ctx)
		if err != nil {
			b.Reset(err)
			return n
		}
		n += int64(len(blk.Data))
		blk.Release()
	}
}

func TestLongLinkIsFilled(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	synctest.Test(t, func(t *testing.T) {
		near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: 100 * time.Millisecond, Rate: 300e6}, Config{})
		defer stop()
		var before int64
		go func() {
			time.Sleep(5 * time.Second)
			before = far.Stats().BytesIn
		}()
		n := moved(t, near, far, 10*time.Second)
		share := float64((n-before)*8) / 5 / 300e6
		t.Logf("one transfer: %.0f %% of the link in its first 10 s, %.0f %% in the second half of them", float64(n*8)/10/300e6*100, 100*share)
		if share < 0.85 {
			t.Errorf("%.0f %% of the link's rate, want 85 %%", 100*share)
		}
	})
}

func TestStripingBeatsLoss(t *testing.T) {
	rate := map[int]int64{}
	for _, lanes := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: 100 * time.Millisecond, Rate: 300e6, Loss: 0.001, Seed: 7}, Config{Lanes: lanes, MaxLanes: lanes})
			defer stop()
			rate[lanes] = moved(t, near, far, 20*time.Second)
		})
	}
	t.Logf("1 lane %d MB, 4 lanes %d MB", rate[1]/1e6, rate[4]/1e6)
	if rate[4] < 2*rate[1] {
		t.Errorf("4 lanes moved %d bytes, 1 lane %d: less than twice as much", rate[4], rate[1])
	}
}

func TestHalfOpenIsFoundAndResumed(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	synctest.Test(t, func(t *testing.T) {
		near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: 20 * time.Millisecond, Rate: 100e6}, Config{ResumeTimeout: time.Minute})
		defer stop()
		var stalled time.Time
		go func() {
			time.Sleep(time.Second)
			stalled = time.Now()
			l.Stall()
			near.mu.Lock()
			for near.state == up {
				near.wait(t.Context())
			}
			near.mu.Unlock()
			t.Logf("found after %v", time.Since(stalled))
			if d := time.Since(stalled); d > 20*time.Second {
				t.Errorf("a half-open connection was found after %v", d)
			}
			l.Unstall()
		}()
		data := content(40 << 20)
		got, err := carry(t, near, far, data, Open{})
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if stalled.IsZero() || near.Stats().Epoch < 2 {
			t.Error("the link never stalled")
		}
	})
}

func TestLanesGrowWhereTheyHelp(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	for _, tc := range []struct {
		loss     float64
		from, to int // lanes, the control lane included; a trial during the start counts its ramp as success
	}{{0, 2, 4}, {0.001, 4, 9}} {
		synctest.Test(t, func(t *testing.T) {
			near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: 100 * time.Millisecond, Rate: 300e6, Loss: tc.loss, Seed: 3}, Config{})
			defer stop()
			moved(t, near, far, 40*time.Second)
			if n := near.Stats().Lanes; n < tc.from || n > tc.to {
				t.Errorf("loss %v: %d lanes after 40 s, want %d to %d", tc.loss, n, tc.from, tc.to)
			}
		})
	}
}
