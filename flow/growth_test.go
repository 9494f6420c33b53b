package flow

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

func TestStartLanes(t *testing.T) {
	for _, tc := range []struct {
		rtt               time.Duration
		lanes, most, want int
	}{
		{50 * time.Microsecond, 1, 8, 1},
		{20 * time.Millisecond, 1, 8, 1},
		{100 * time.Millisecond, 1, 8, 2},
		{300 * time.Millisecond, 1, 8, 4},
		{300 * time.Millisecond, 1, 1, 1},
		{300 * time.Millisecond, 6, 8, 6},
		{10 * time.Second, 1, 8, 8},
	} {
		if n := startLanes(&Config{Lanes: tc.lanes, MaxLanes: tc.most}, tc.rtt); n != tc.want {
			t.Errorf("%v, Lanes %d, MaxLanes %d: starts with %d, want %d", tc.rtt, tc.lanes, tc.most, n, tc.want)
		}
	}
}

// TestGrowth: lanes after two minutes in which each lane carries what it can,
// and all together what the link carries.
func TestGrowth(t *testing.T) {
	for name, tc := range map[string]struct {
		lane, link float64 // bytes per second
		want       int
	}{
		"loss holds each lane down":    {1e6, 1e9, 8},
		"buffers hold each lane down":  {27e6, 1e9, 8},
		"two fill the link":            {37e6, 37e6, 2},
		"slow link, where trials fail": {2e6, 3e6, 4},
		"hardly anything moves":        {1e5, 1e9, 2},
	} {
		t.Run(name, func(t *testing.T) {
			g, lanes, now, bytes := growth{}, 2, time.Unix(1, 0), 0.0
			for range 120 {
				bytes += min(tc.lane*float64(lanes), tc.link)
				now = now.Add(time.Second)
				lanes = min(g.look(int64(bytes), lanes, 100*time.Millisecond, now), 8)
			}
			if lanes != tc.want {
				t.Errorf("%d lanes, want %d", lanes, tc.want)
			}
		})
	}
}

// TestIdlestLane: what is next goes to the lane that will have sent it first.
func TestIdlestLane(t *testing.T) {
	bulk := func(flight, window uint64) *lane {
		return &lane{purpose: wire.Bulk, pipe: pipe{written: flight, window: window}}
	}
	slow, fast, full := bulk(128*KiB, 256*KiB), bulk(256*KiB, MiB), bulk(MiB, MiB)
	ts := &turns{lanes: []*lane{full, slow, fast}}
	if got := ts.idlest(wire.ClassBulk); got != fast {
		t.Errorf("the lane with %d of %d bytes under way", got.pipe.flight(), got.pipe.window)
	}
}

// TestLanesAreFilledTogether: a connection that takes no more for now does not
// keep a source from the other lanes.
func TestLanesAreFilledTogether(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	rate := map[int]int64{}
	for _, lanes := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			link := flowtest.LinkConfig{RTT: 100 * time.Millisecond, Rate: 1e9, SendBuffer: 256 * KiB}
			near, far, _, stop := emulated(t, link, Config{Lanes: lanes, MaxLanes: lanes})
			defer stop()
			rate[lanes] = moved(t, near, far, 5*time.Second)
		})
	}
	t.Logf("1 lane %d MB, 4 lanes %d MB", rate[1]/1e6, rate[4]/1e6)
	if rate[4] < 3*rate[1] {
		t.Errorf("4 lanes moved %d bytes, 1 lane %d: less than three times as much", rate[4], rate[1])
	}
}

func TestLanesComeBackAfterResumption(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	synctest.Test(t, func(t *testing.T) {
		near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: 20 * time.Millisecond, Rate: 20e6}, Config{Lanes: 2})
		defer stop()
		go func() {
			time.Sleep(time.Second)
			l.Cut()
			time.Sleep(3 * time.Second)
			if s := near.Stats(); s.Epoch != 2 || s.Lanes != 3 {
				t.Errorf("epoch %d with %d lanes, want 2 bulk lanes and the control lane", s.Epoch, s.Lanes)
			}
		}()
		moved(t, near, far, 5*time.Second)
	})
}

// TestCancelledSourceStops: also one that has credit and never has to wait.
func TestCancelledSourceStops(t *testing.T) {
	near, far, _, _ := pair(t, Config{}, false)
	opened := make(chan *BlockStream)
	go func() {
		defer close(opened)
		if b, err := near.OpenBlocks(t.Context(), Open{Kind: "x", Send: true}); err == nil {
			opened <- b
		}
	}()
	in, err := far.AcceptStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.AcceptBlocks(AcceptBlocks{Start: -1}); err != nil {
		t.Fatal(err)
	}
	b := <-opened
	if b == nil {
		t.Fatal("not opened")
	}
	ctx, cancel := context.WithCancel(t.Context())
	blk, err := b.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	blk.Drop()
	cancel()
	if _, err := b.Next(ctx); !errors.Is(err, fault.Canceled) {
		t.Errorf("Next after cancel, with credit: %v", err)
	}
}
