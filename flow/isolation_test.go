package flow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/scorecard/score"
)

// gather runs n streams from near to far for a while and returns what each
// moved. Streams for which stuck is true are accepted and never read.
func gather(t *testing.T, near, far *Session, n int, d time.Duration, stuck func(i int) bool) []int64 {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	moved := make([]int64, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			b, err := near.OpenBlocks(ctx, Open{Kind: "x", Send: true, Meta: []byte{byte(i)}})
			for err == nil {
				var blk *Block
				if blk, err = b.Next(ctx); err == nil {
					err = b.Send(ctx, blk, len(blk.Data))
				}
			}
		})
		wg.Go(func() {
			in, err := far.AcceptStream(ctx)
			if err != nil {
				return
			}
			i := in.Meta[0]
			b, err := in.AcceptBlocks(AcceptBlocks{Start: -1})
			if err == nil && stuck(int(i)) {
				<-ctx.Done()
				return
			}
			for err == nil {
				var blk *Block
				if blk, err = b.Recv(ctx); err == nil {
					moved[i] += int64(len(blk.Data))
					blk.Release()
				}
			}
		})
	}
	wg.Wait()
	return moved
}

// TestStuckStream: check 18. One of a hundred streams is never read, on links
// of different length.
func TestStuckStream(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	cfg := Config{SessionBudget: 32 * MiB}
	worst, least, most := 100.0, 100.0, 0
	for n := range score.N(1) {
		link := flowtest.LinkConfig{RTT: 5 * time.Millisecond * time.Duration(1+n%5), Rate: 60e6, Seed: score.Seed() + uint64(n)} // it is full within seconds
		alone, _, granted := beside(t, cfg, link, func(int) bool { return false })
		stuck, slowest, grantedThen := beside(t, cfg, link, func(i int) bool { return i == (50+n)%100 })
		share, own := 100*float64(stuck)/float64(alone*99/100), 100*float64(99*slowest)/float64(stuck)
		worst, least, most = min(worst, share), min(least, own), max(most, granted, grantedThen)
		if share < 95 || own < 25 {
			t.Errorf("RTT %v: %d bytes beside a stuck stream, %d without it; the slowest stream moved %d", link.RTT, stuck, alone, slowest)
		}
	}
	if most > cfg.SessionBudget {
		t.Errorf("%d bytes were granted, the budget is %d", most, cfg.SessionBudget)
	}
	score.Report(t, worst, fmt.Sprintf("the slowest of them %.0f %% of their mean; at most %.1f MiB granted of %d", least, float64(most)/MiB, cfg.SessionBudget/MiB))
}

// beside is what the streams that are read move in twenty seconds, all and the
// slowest of them, and the most that was granted meanwhile.
func beside(t *testing.T, cfg Config, link flowtest.LinkConfig, stuck func(int) bool) (sum, slowest int64, most int) {
	slowest = math.MaxInt64
	synctest.Test(t, func(t *testing.T) {
		near, far, _, stop := emulated(t, link, cfg)
		defer stop()
		watch, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for watch.Err() == nil {
				most = max(most, far.Stats().Granted)
				time.Sleep(50 * time.Millisecond)
			}
		})
		for i, n := range gather(t, near, far, 100, 20*time.Second, stuck) {
			if !stuck(i) {
				sum += n
				slowest = min(slowest, n)
			}
		}
		cancel()
		wg.Wait()
	})
	return sum, slowest, most
}

// TestSlowSink: check 24. What is in memory is what was granted.
func TestSlowSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{SessionBudget: 4 * MiB, MaxWindow: 4 * MiB}
		near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, cfg)
		defer stop()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		go func() {
			b, err := near.OpenBlocks(ctx, Open{Kind: "x", Send: true})
			for err == nil {
				var blk *Block
				if blk, err = b.Next(ctx); err == nil {
					err = b.Send(ctx, blk, len(blk.Data))
				}
			}
		}()
		in, err := far.AcceptStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		b, err := in.AcceptBlocks(AcceptBlocks{Start: -1})
		var read, most int64
		for err == nil {
			var blk *Block
			if blk, err = b.Recv(ctx); err == nil {
				time.Sleep(time.Second * time.Duration(len(blk.Data)) / MiB)
				read += int64(len(blk.Data))
				blk.Release()
				most = max(most, far.Stats().WireIn-read)
			}
		}
		if most > int64(cfg.SessionBudget) {
			t.Errorf("%d bytes waited in memory, the budget is %d", most, cfg.SessionBudget)
		}
		if read < 9*MiB || read > 11*MiB {
			t.Errorf("%d bytes in 10 s at 1 MiB/s", read)
		}
	})
}

// TestBytesKeepTheBudget: byte streams ask the budget like block streams.
func TestBytesKeepTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, _, stop := emulated(t, flowtest.LinkConfig{}, Config{SessionBudget: 2 * MiB})
		defer stop()
		for range 60 {
			go func() {
				if in, err := far.AcceptStream(t.Context()); err == nil {
					in.AcceptBytes(nil)
				}
			}()
			if _, err := near.OpenBytes(t.Context(), Open{Kind: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		if g := far.Stats().Granted; g > 2*MiB+60*windowLeast {
			t.Errorf("%d bytes are granted to 60 idle byte streams", g)
		}
	})
}

// TestHalfOpenBothEnds: check 17. Both ends find out within 20 s that nothing
// arrives any more, idle or within a transfer, and go on when it does.
func TestHalfOpenBothEnds(t *testing.T) {
	r := rand.New(rand.NewPCG(score.Seed(), 17))
	var slowest time.Duration
	for n := range score.N(4) {
		link := flowtest.LinkConfig{RTT: time.Duration(1+r.IntN(200)) * time.Millisecond, Rate: 10e6}
		stall := 30*time.Second + time.Duration(r.IntN(20_000))*time.Millisecond
		synctest.Test(t, func(t *testing.T) { slowest = max(slowest, halfOpen(t, link, stall, n%2 == 1)) })
	}
	if slowest > 20*time.Second {
		t.Errorf("found after %v", slowest)
	}
	score.Report(t, slowest.Seconds(), "virtual time; every transfer then went on, nothing was left")
}

// halfOpen stalls a link for ever and returns how long the slower end took to
// find out.
func halfOpen(t *testing.T, link flowtest.LinkConfig, stall time.Duration, busy bool) (slower time.Duration) {
	near, far, l, stop := emulated(t, link, Config{Lanes: 2, ResumeTimeout: time.Minute})
	defer stop()
	want := content(100_000)
	var wg sync.WaitGroup
	if busy { // more than the link carries before it stalls
		want = content(2 * MiB)
		stall = 5*link.RTT + stall%(250*time.Millisecond) // streams that nobody has accepted yet are lost
		wg.Go(func() { transferred(t, near, far, want) })
	}
	time.Sleep(stall)
	if near.Stats().Epoch != 1 {
		t.Error("a connection was given up too early")
	}
	l.Stall()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, s := range []*Session{near, far} {
		s.mu.Lock()
		for s.state == up && s.wait(ctx) == nil {
		}
		s.mu.Unlock()
		slower = max(slower, time.Since(began))
	}
	l.Unstall()
	if !busy {
		transferred(t, near, far, want)
	}
	wg.Wait()
	return slower
}

func transferred(t *testing.T, near, far *Session, want []byte) {
	if got, err := carry(t, near, far, want, Open{}); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
	}
}

// TestPeerThatNeverReads: what waits for it is bounded, and its connection closed.
func TestPeerThatNeverReads(t *testing.T) {
	for _, asConnector := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			d := newDuel(t, asConnector, Config{ResumeTimeout: -1, KeepaliveIdle: time.Hour})
			defer d.end()
			d.conn.SetReadDeadline(time.Now()) // the listener stops
			settle()
			d.prepare(sink)
			var most int
			for k := int64(0); d.victim.Err() == nil && k < 1<<20; k++ {
				d.send(wire.AppendPing(nil, 1))
				d.victim.mu.Lock()
				l, turns := d.victim.control, d.victim.turns
				d.victim.mu.Unlock()
				if l != nil {
					turns.mu.Lock()
					most = max(most, len(l.ctl))
					turns.mu.Unlock()
				}
				time.Sleep(60 * time.Millisecond) // as fast as allowed
				if k > 100 {
					break
				}
			}
			frames := bytes.Repeat(wire.AppendPong(nil, 0), 60_000)
			d.victim.mu.Lock()
			l := d.victim.control
			d.victim.mu.Unlock()
			d.link.Stall() // so that nothing leaves any more
			for range 12 {
				l.post(frames[:len(frames)/2], false)
			}
			d.link.Unstall()
			settle()
			if err := d.victim.Err(); !errors.Is(err, fault.Overloaded) {
				t.Errorf("the session ended with %v", err)
			}
			if most > maxQueued {
				t.Errorf("%d bytes were queued", most)
			}
			if d.streamKind() == 0 {
				t.Error("the stream still waits")
			}
		})
	}
}

// TestSlowWriters: a peer that stops within a frame is dead, one that sends a
// byte a second is only slow.
func TestSlowWriters(t *testing.T) {
	for _, every := range []time.Duration{0, time.Second} {
		t.Run(fmt.Sprint(every), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDuel(t, true, Config{ResumeTimeout: -1})
				defer d.end()
				d.prepare(sink)
				f := block(d.id, 0, content(testBlock))
				d.write(d.seal(f)[:100])
				d.mute()
				began := time.Now()
				for i := 100; i < 200 && d.victim.Err() == nil; i++ {
					if every > 0 {
						d.write(f[i : i+1])
					}
					time.Sleep(time.Second)
				}
				if err := d.victim.Err(); (err == nil) != (every > 0) || err != nil && !errors.Is(err, fault.DeadPeer) {
					t.Errorf("the session ended with %v after %v", err, time.Since(began))
				}
				if d := time.Since(began); every == 0 && d > 20*time.Second {
					t.Errorf("found after %v", d)
				}
			})
		})
	}
}

// TestPipeAckAsAsked: who asks with a block hears when it has been taken off the lane, who does not a moment later.
func TestPipeAckAsAsked(t *testing.T) {
	for _, asks := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := newDuel(t, true, Config{})
			defer d.end()
			d.prepare(sink)
			f := block(d.id, 0, content(testBlock))
			if asks {
				wire.SetAsk(f)
			}
			d.send(f)
			time.Sleep(ackDelay / 2)
			if n := len(d.got(wire.TypePipeAck)); n > 0 != asks {
				t.Errorf("asked %v: %d PIPEACKs before the delay is over", asks, n)
			}
			time.Sleep(ackDelay)
			acks := d.got(wire.TypePipeAck)
			if len(acks) != 1 {
				t.Fatalf("asked %v: %d PIPEACKs of one block", asks, len(acks))
			}
			if n, err := wire.ParseU64(acks[0].body); n != uint64(len(f)) || err != nil {
				t.Errorf("asked %v: %d bytes are acknowledged of %d", asks, n, len(f))
			}
		})
	}
}

// TestSlowBlockIsAcknowledgedInParts: whoever sends a block that takes longer
// than a peer may be silent hears from the receiver meanwhile.
func TestSlowBlockIsAcknowledgedInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuel(t, true, Config{ResumeTimeout: -1})
		defer d.end()
		d.prepare(sink)
		d.mute()
		f := d.seal(block(d.id, 0, content(testBlock)))
		for i := 0; i < 32; i++ {
			d.write(f[i*KiB : (i+1)*KiB])
			time.Sleep(time.Second)
		}
		if n := len(d.got(wire.TypePipeAck)); n < 10 {
			t.Errorf("%d PIPEACKs in 32 s of one block", n)
		}
		d.write(f[32*KiB:])
		settle()
		acks := d.got(wire.TypePipeAck)
		if n, err := wire.ParseU64(acks[len(acks)-1].body); n != uint64(len(f)) || err != nil {
			t.Errorf("%d bytes are acknowledged of %d", n, len(f))
		}
	})
}
