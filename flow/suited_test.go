package flow

import (
	"testing"
	"time"

	"github.com/pannier/pannier/flow/wire"
)

// TestSuitedBlock: blocks are large where a large one takes no time, or may be believed to, and smaller
// elsewhere; a wish, which a transfer that goes on has, gives way to nothing but memory.
func TestSuitedBlock(t *testing.T) {
	const slow, fast = 100e6, 1e9 // bytes per second
	for _, tc := range []struct {
		name        string
		near, small bool
		rtt         time.Duration
		rate        float64
		streams     int // that are there already
		wish        int
		limit       int // the configuration's
		sink        bool
		most        int
		window      int64
		maxWindow   int
		want        int
	}{
		{name: "unknown", want: 256 * KiB},
		{name: "one host", near: true, want: MiB},
		{name: "one host that was slow", near: true, rate: slow, want: 256 * KiB},
		{name: "another host that was fast", rate: fast, want: MiB},
		{name: "another host that was slow", rate: slow, want: 256 * KiB},
		{name: "far, for all its rate", near: true, rate: fast, rtt: longLink, want: 256 * KiB},
		{name: "what the source sends", sink: true, want: MiB},
		{name: "what the source sends from far", sink: true, rtt: longLink, want: 256 * KiB},
		{name: "one pipe", near: true, small: true, want: 64 * KiB},
		{name: "one pipe, into the sink", sink: true, small: true, want: 64 * KiB},
		{name: "a bound", near: true, most: 128 * KiB, want: 128 * KiB},
		{name: "a quarter of the window", sink: true, window: MiB, want: 256 * KiB},
		{name: "a quarter of the largest window", sink: true, maxWindow: MiB, want: 256 * KiB},
		{name: "a tiny window", sink: true, window: 1, want: 16 * KiB},
		{name: "a source does not look at its own windows", near: true, window: MiB, maxWindow: MiB, want: MiB},
		{name: "as configured", near: true, limit: 32 * KiB, want: 32 * KiB},
		{name: "16 streams", near: true, streams: 15, want: MiB},
		{name: "17 streams", near: true, streams: 16, want: 512 * KiB},
		{name: "1,000 streams", near: true, streams: 999, want: 16 * KiB},
		{name: "a wish for what one pipe does not suit", small: true, wish: MiB, want: MiB},
		{name: "a wish of one in 64", wish: MiB, streams: 63, want: MiB},
		{name: "a wish of one in 65", wish: MiB, streams: 64, want: 512 * KiB},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg, err := Config{BlockSize: tc.limit, MaxWindow: tc.maxWindow}.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			s := newSession(cfg)
			defer s.cancel()
			s.near, s.small, s.turns = tc.near, tc.small, &turns{}
			s.turns.lanes = []*lane{{purpose: wire.Control}, {purpose: wire.Bulk, pipe: pipe{rate: tc.rate}}}
			if tc.rtt > 0 {
				s.measured(tc.rtt)
			}
			for i := range tc.streams {
				s.streams[uint32(i)] = nil
			}
			if got := s.chooseBlock(blockWish{tc.wish, tc.most, tc.window, !tc.sink}); got != tc.want {
				t.Errorf("blocks of %d KiB, want %d", got/KiB, tc.want/KiB)
			}
		})
	}
}

// TestPipeRate: what a lane moved counts where somebody waited for it, not where the source was slow.
func TestPipeRate(t *testing.T) {
	p := pipe{window: 256 * KiB, max: MiB, bulk: true}
	p.judge(1e6, 0)
	if p.rate != 0 {
		t.Errorf("a rate of %v with room all the time", p.rate)
	}
	p.written = p.window
	p.room()
	p.judge(1e9, 0)
	if p.rate != 1e9 {
		t.Errorf("a rate of %v instead of 1e9", p.rate)
	}
}

// TestSlowPipeRate: a lane whose acknowledgements come too seldom to judge it is known to be slow.
func TestSlowPipeRate(t *testing.T) {
	p, now := pipe{window: 256 * KiB, max: MiB, bulk: true}, time.Now()
	for range 3 {
		p.written += MiB
		p.room()
		now = now.Add(1050 * time.Millisecond)
		p.ack(p.written, 0, now)
	}
	if p.rate < 0.9*MiB || p.rate > 1.1*MiB {
		t.Errorf("a rate of %v instead of 1 MB/s", p.rate)
	}
}

// TestWindowBound: a window is never more than the configuration allows, however large the blocks.
func TestWindowBound(t *testing.T) {
	for _, most := range []int{256 * KiB, MiB, 2 * MiB} {
		cfg, err := Config{MaxWindow: most}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		s := newSession(cfg)
		s.near, s.turns = true, &turns{}
		block := s.chooseBlock(blockWish{})
		if w := s.chooseWindow(block, 0); w > int64(most) || int64(block) > w {
			t.Errorf("a window of %d with blocks of %d, at most %d", w, block, most)
		}
		s.cancel()
	}
}
