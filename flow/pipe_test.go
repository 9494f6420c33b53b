package flow

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drive runs a pipe over a link of a fixed rate and round trip, whose sender
// always has something to send, and returns the window it ends with.
func drive(p *pipe, rate float64, rtt time.Duration, d time.Duration) uint64 {
	now := time.Unix(1, 0)
	if p.since.After(now) {
		now = p.since
	}
	for end := now.Add(d); now.Before(end); {
		for p.room() {
			p.written += 16 * KiB
		}
		step := max(rtt, 50*time.Microsecond)
		now = now.Add(step)
		p.ack(p.acked+min(p.written-p.acked, uint64(rate*step.Seconds())), rtt, now)
	}
	return p.window
}

func TestPipeFindsTheProductOfRateAndDelay(t *testing.T) {
	for _, tc := range []struct {
		rate     float64
		rtt      time.Duration
		min, max uint64
	}{
		{1e9, 50 * time.Microsecond, 512 * KiB, 512 * KiB}, // a neighbour: what moves in a moment
		{4e9, 50 * time.Microsecond, 2 * MiB, 2 * MiB},
		{100e6, 50 * time.Microsecond, 256 * KiB, 256 * KiB}, // which here is less than it begins with
		{40e6, 100 * time.Millisecond, 4e6, 32e6},
		{125e6, 50 * time.Millisecond, 6e6, 50e6},
		{1e6, 200 * time.Millisecond, 200e3, 8e6},
	} {
		p := newPipe(&Config{PipeWindow: 256 * KiB, MaxPipeWindow: 64 * MiB})
		p.bulk = true
		if w := drive(&p, tc.rate, tc.rtt, 10*time.Second); w < tc.min || w > tc.max {
			t.Errorf("%.0f MB/s, %v: window %d, want %d to %d", tc.rate/1e6, tc.rtt, w, tc.min, tc.max)
		}
	}
}

// TestPipeFollowsALaneDown: a lane that slows down is not given seconds of work.
func TestPipeFollowsALaneDown(t *testing.T) {
	rtt := 100 * time.Millisecond
	p := newPipe(&Config{PipeWindow: 256 * KiB, MaxPipeWindow: 64 * MiB})
	p.bulk = true
	if w := drive(&p, 40e6, rtt, 10*time.Second); w < 4e6 {
		t.Errorf("window %d at 40 MB/s", w)
	}
	if w := drive(&p, 1e6, rtt, 10*time.Second); w > 512*KiB {
		t.Errorf("window %d at 1 MB/s", w)
	}
}

// TestPipeForgetsABusyMachine: two processes of one host that took 20 ms to
// answer once do not keep the window of a long link.
func TestPipeForgetsABusyMachine(t *testing.T) {
	p := newPipe(&Config{PipeWindow: 256 * KiB, MaxPipeWindow: 64 * MiB})
	p.bulk = true
	if w := drive(&p, 1e9, 20*time.Millisecond, time.Second); w < 4e6 {
		t.Errorf("window %d at 20 ms", w)
	}
	if w := drive(&p, 1e9, 50*time.Microsecond, time.Second); w != 512*KiB {
		t.Errorf("window %d at 50 us", w)
	}
	if p.trip != 0 {
		t.Errorf("%d bytes in a round trip of a long link, which there is none", p.trip)
	}
}

// TestPipeOfANeighbourFollowsItDown: what a lane has under way is a few milliseconds' worth, also when it has become slow.
func TestPipeOfANeighbourFollowsItDown(t *testing.T) {
	p := newPipe(&Config{PipeWindow: 256 * KiB, MaxPipeWindow: 64 * MiB})
	p.bulk = true
	if w := drive(&p, 4e9, 50*time.Microsecond, time.Second); w != 2*MiB {
		t.Errorf("window %d at 4 GB/s", w)
	}
	if w := drive(&p, 600e6, 50*time.Microsecond, time.Second); w > MiB {
		t.Errorf("window %d at 600 MB/s", w)
	}
	if w := drive(&p, 10e6, 50*time.Microsecond, time.Second); w != 256*KiB {
		t.Errorf("window %d at 10 MB/s", w)
	}
	control := newPipe(&Config{PipeWindow: 256 * KiB, MaxPipeWindow: 64 * MiB})
	if w := drive(&control, 4e9, 50*time.Microsecond, time.Second); w != 256*KiB {
		t.Errorf("window %d of a control lane at 4 GB/s", w) // relays share it by weight
	}
}

// TestPipeAsks: of every window that fills up some frame has asked for a PIPEACK, which leaves room
// when it comes; and a wide one asks four times, not at every frame.
func TestPipeAsks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		window := rapid.Uint64Range(16*KiB, 64*MiB).Draw(t, "window")
		p := pipe{window: window, max: 64 * MiB, bulk: true}
		asks, frames := 0, uint64(0)
		for p.room() {
			p.written += rapid.Uint64Range(1, 300*KiB).Draw(t, "frame")
			frames++
			if p.asks() {
				asks++
			}
		}
		if p.written-p.asked >= window {
			t.Fatalf("%d of a window of %d are written, a PIPEACK was asked for at %d: it leaves no room", p.written, window, p.asked)
		}
		if most := 1 + int(p.written/min(max(window/4, askGrain), window/2)); asks == 0 || asks > most {
			t.Fatalf("%d frames of a window of %d asked %d times; want 1 to %d", frames, window, asks, most)
		}
	})
}

// TestPipeProperties: whatever is acknowledged when, acked never passes written
// or goes back, and the window stays within its bounds.
func TestPipeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rtt := time.Duration(rapid.IntRange(1, 1e9).Draw(t, "rtt"))
		p := newPipe(&Config{PipeWindow: 16 * KiB, MaxPipeWindow: 1 << 20})
		now := time.Unix(1, 0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			p.room()
			p.written += uint64(rapid.IntRange(0, 1<<20).Draw(t, "written"))
			now = now.Add(time.Duration(rapid.IntRange(0, 1e9).Draw(t, "pause")))
			before := p.acked
			total := rapid.Uint64Range(0, p.written+10).Draw(t, "ack")
			if ok := p.ack(total, rtt, now); ok != (total <= p.written) {
				t.Fatalf("ack of %d of %d: %v", total, p.written, ok)
			}
			if p.acked < before || p.acked > p.written || p.window < 8*KiB || p.window > 1<<20 {
				t.Fatalf("acked %d before, %d now, written %d, window %d", before, p.acked, p.written, p.window)
			}
		}
	})
}

func TestTuner(t *testing.T) {
	now := time.Unix(1, 0)
	tune := tuner{since: now}
	rtt := 100 * time.Millisecond
	if _, epoch := tune.measure(MiB, rtt, now.Add(rtt-1)); epoch {
		t.Error("measured before a round trip was over")
	}
	want, epoch := tune.measure(MiB, rtt, now.Add(rtt))
	if !epoch || want != 2*MiB {
		t.Errorf("1 MiB in a round trip wants %d", want)
	}
	if want, _ = tune.measure(2*MiB, rtt, now.Add(3*rtt)); want != MiB {
		t.Errorf("1 MiB in two round trips wants %d", want)
	}
}

func TestPool(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := NewPool(MiB)
		var held []*buffer
		used := 0
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			n := rapid.IntRange(0, MiB).Draw(t, "n")
			switch rapid.IntRange(0, 3).Draw(t, "do") {
			case 0:
				b := p.get(n)
				if len(b.payload(n)) != n || len(b.mem) < headroom+n+slack {
					t.Fatalf("%d bytes for %d", len(b.mem), n)
				}
				for _, h := range held {
					if h == b {
						t.Fatal("a buffer was given out twice")
					}
				}
				held = append(held, b)
			case 1:
				if len(held) > 0 {
					p.put(held[0])
					held = held[1:]
				}
			case 2:
				if p.reserve(n, false) {
					used += n
				} else if used+n <= MiB {
					t.Fatalf("%d refused with %d used", n, used)
				}
			case 3:
				p.release(used)
				used = 0
			}
			if p.Used() != used || used > MiB || p.idle > maxIdle {
				t.Fatalf("used %d, want %d; idle %d", p.Used(), used, p.idle)
			}
		}
	})
}
