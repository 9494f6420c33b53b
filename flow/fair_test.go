package flow

import (
	"context"
	"io"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/wire"
)

// TestShares: what streams move over a slow session in ten seconds is divided among
// shares by weight, whatever the number of their streams, and within a share evenly.
func TestShares(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	for _, tc := range []struct {
		name    string
		weights []int // of the shares
		streams []int // of each
		off     float64
	}{
		{"by weight", []int{1, 4}, []int{3, 3}, 0.25},
		{"hundred beside one", []int{1, 1}, []int{1, 100}, 0.25},
		{"hundred light beside three heavy", []int{4, 1}, []int{3, 100}, 0.25},
		{"alone", []int{7}, []int{3}, 0.25},
		{"one heavy stream beside a light one", []int{9, 1}, []int{1, 1}, 0.5}, // its window has to cover what waits, and grows first
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: 20 * time.Millisecond, Rate: 80e6}, Config{})
				defer stop()
				moved := sharing(t, near, far, tc.weights, tc.streams, 10*time.Second)
				all, weights := int64(0), 0
				for i, w := range tc.weights {
					weights += w
					for _, n := range moved[i] {
						all += n
					}
				}
				if all < 80e6/8*10*7/10 {
					t.Errorf("%d bytes in all: the link carries 100 MB", all)
				}
				for i, w := range tc.weights {
					own, least := int64(0), all
					for _, n := range moved[i] {
						own += n
						least = min(least, n)
					}
					want := float64(all) * float64(w) / float64(weights)
					if got := float64(own); got < (1-tc.off)*want || got > (1+tc.off)*want {
						t.Errorf("share %d of weight %d moved %d of %d bytes, want about %.0f", i, w, own, all, want)
					}
					if even := own / int64(len(moved[i])); least < even/2 {
						t.Errorf("a stream of share %d moved %d bytes, their mean is %d", i, least, even)
					}
				}
			})
		})
	}
}

// sharing runs streams of shares from near to far for a while and returns what has
// arrived of each.
func sharing(t *testing.T, near, far *Session, weights, streams []int, d time.Duration) [][]int64 {
	type pair struct {
		a, b  *ByteStream
		moved *int64
	}
	var pairs []pair
	moved := make([][]int64, len(weights))
	for i, w := range weights {
		share := NewShare(w)
		moved[i] = make([]int64, streams[i])
		for k := range moved[i] {
			a, b := bytePair(t, near, far, wire.ClassRelay)
			a.SetShare(share)
			pairs = append(pairs, pair{a, b, &moved[i][k]})
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var wg sync.WaitGroup
	for _, p := range pairs {
		stop := context.AfterFunc(ctx, func() { p.a.Close(); p.b.Close() })
		defer stop()
		wg.Go(func() {
			buf := make([]byte, 64*KiB)
			for {
				if _, err := p.a.Write(buf); err != nil {
					return
				}
			}
		})
		wg.Go(func() {
			buf := make([]byte, 64*KiB)
			for {
				n, err := p.b.Read(buf)
				*p.moved += int64(n)
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return moved
}

// TestSeldomIsSoon: a stream that sends little does not wait behind fifty that send all
// they can, as it would if the first to come were the first served.
func TestSeldomIsSoon(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	synctest.Test(t, func(t *testing.T) {
		const rate = 80e6
		near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: 2 * time.Millisecond, Rate: rate, SendBuffer: 64 * KiB}, Config{})
		defer stop()
		a, b := bytePair(t, near, far, wire.ClassRelay)
		var worst time.Duration
		done := make(chan struct{})
		go func() {
			defer close(done)
			time.Sleep(3 * time.Second)
			for range 20 {
				began := time.Now()
				if _, err := a.Write([]byte("x")); err != nil {
					t.Error(err)
				}
				if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
					t.Error(err)
				}
				worst = max(worst, time.Since(began))
				time.Sleep(37 * time.Millisecond)
			}
		}()
		sharing(t, near, far, []int{1}, []int{50}, 5*time.Second)
		<-done
		round := time.Duration(50 * frameRelay * 8 / rate * float64(time.Second)) // one frame of each
		t.Logf("at most %v, one frame of each takes %v", worst, round)
		if worst > round*3/4 {
			t.Errorf("a byte took %v, one frame of each of the others takes %v", worst, round)
		}
	})
}

// TestFair holds the order against what it is meant to be, frame by frame, and what is
// taken back leaves nothing behind.
func TestFair(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var f fair
	shares := []*Share{NewShare(1), NewShare(2), NewShare(1000), nil}
	if shares[2].weight != MaxWeight || NewShare(-3).weight != 1 {
		t.Errorf("weights %d and %d", shares[2].weight, NewShare(-3).weight)
	}
	shares[2] = NewShare(5)
	seats := make([]*seat, 40)
	for i := range seats {
		seats[i] = &seat{share: shares[i%4]}
	}
	waiting := map[*turn]bool{}
	waits := map[*seat]bool{}
	push := func(s *seat) {
		w := &turn{seat: s, cost: int64(1000 + r.IntN(64_000))}
		f.push(w)
		waiting[w], waits[s] = true, true
	}
	sent := map[*Share]int64{}
	for range 50_000 { // all but a few have something all the time
		for _, s := range seats {
			if !waits[s] {
				push(s)
			}
		}
		if r.IntN(10) == 0 {
			for w := range waiting {
				f.remove(w)
				if w.index != gone {
					t.Fatal("a frame that was taken back still has a place")
				}
				delete(waiting, w)
				waits[w.seat] = false
				break
			}
		}
		w := f.pop()
		if !waiting[w] {
			t.Fatal("a frame that does not wait was granted")
		}
		delete(waiting, w)
		waits[w.seat] = false
		sent[w.seat.share] += w.cost
	}
	for i, want := range []int64{1, 2, 5} {
		if got := float64(sent[shares[i]]) / float64(sent[shares[0]]); got < 0.95*float64(want) || got > 1.05*float64(want) {
			t.Errorf("weight %d has sent %.2f times as much as weight 1", want, got)
		}
	}
	if got := float64(sent[nil]) / float64(sent[shares[0]]); got < 9.5 || got > 10.5 {
		t.Errorf("ten streams without a share have sent %.2f times as much as a share of weight 1", got)
	}
	for len(f.waiting) > 0 {
		f.pop()
	}
	for range 100 { // shares that come and go
		f.straight(&seat{share: NewShare(3)}, 1)
		f.straight(seats[3], 1_000_000)
	}
	if len(f.groups) > 10 {
		t.Errorf("%d shares are remembered", len(f.groups))
	}
}

// TestSharesOverOnePipe: where blocks and bytes have one connection, a transfer has the
// part of a share of weight 1.
func TestSharesOverOnePipe(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	synctest.Test(t, func(t *testing.T) {
		near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: 20 * time.Millisecond, Rate: 80e6}, Config{})
		defer stop()
		near.mu.Lock()
		near.single = true // no more lanes
		near.mu.Unlock()
		transfers := make(chan []int64, 1)
		go func() { transfers <- gather(t, near, far, 1, 10*time.Second, func(int) bool { return false }) }()
		settle()
		moved := sharing(t, near, far, []int{3}, []int{5}, 10*time.Second)
		bulk := (<-transfers)[0]
		var relayed int64
		for _, n := range moved[0] {
			relayed += n
		}
		if ratio := float64(relayed) / float64(bulk); ratio < 2.2 || ratio > 4 {
			t.Errorf("relays of weight 3 moved %d bytes, the transfer beside them %d", relayed, bulk)
		}
	})
}

// TestFramesOfByteStreams: frames are small until the window has grown, and on a single
// pipe and of interactive streams they stay so.
func TestFramesOfByteStreams(t *testing.T) {
	for _, tc := range []struct {
		class  wire.Class
		fast   int64
		widest int64
		trip   int64 // bytes moved in one, of a long link
		want   int
	}{
		{wire.ClassInteractive, frameFast, 16 * MiB, 0, frameInteractive},
		{wire.ClassRelay, frameFast, 256 * KiB, 0, frameRelay},
		{wire.ClassRelay, frameFast, MiB, 0, 128 * KiB},
		{wire.ClassRelay, frameFast, 16 * MiB, 0, frameFast},
		{wire.ClassRelay, frameLarge, 16 * MiB, 0, frameLarge},
		{wire.ClassRelay, frameRelay, 16 * MiB, 0, frameRelay},
		{wire.ClassRelay, 16 * KiB, 16 * MiB, 0, frameRelay},
		{wire.ClassRelay, frameFast, MiB, 200 * KiB, frameRelay},
		{wire.ClassRelay, frameFast, 16 * MiB, 800 * KiB, 200 * KiB},
		{wire.ClassRelay, frameFast, 16 * MiB, 16 * MiB, frameFast},
	} {
		s := &Session{}
		s.queues.carries.Store(tc.trip)
		if got := (&ByteStream{s: s, class: tc.class, fast: tc.fast, widest: tc.widest}).mostOfFrame(); got != tc.want {
			t.Errorf("%+v: %d", tc, got)
		}
	}
	for single, want := range map[bool]int64{false: frameLarge, true: frameRelay} {
		synctest.Test(t, func(t *testing.T) {
			near, far, _, stop := emulated(t, flowtest.LinkConfig{}, Config{})
			defer stop()
			near.mu.Lock()
			near.single = single
			near.mu.Unlock()
			a, b := bytePair(t, near, far, wire.ClassRelay)
			if a.fast != want {
				t.Errorf("single %v: frames of at most %d", single, a.fast)
			}
			a.Close()
			b.Close()
		})
	}
}

// TestNewcomersWait: streams of one frame, each followed by a new one, as of many small files, go in
// the order they came, with shares and without: none waits for those that come after it.
func TestNewcomersWait(t *testing.T) {
	for _, share := range []*Share{nil, NewShare(3)} {
		var f fair
		pushed := map[*turn]int{}
		for i := range 64 {
			w := &turn{seat: &seat{share: share}, cost: 1000}
			f.push(w)
			pushed[w] = i
		}
		for n := range 1000 {
			w := f.pop()
			if pushed[w] != n {
				t.Fatalf("share %v: frame %d before %d, which came first", share, pushed[w], n)
			}
			next := &turn{seat: &seat{share: share}, cost: 1000}
			f.push(next)
			pushed[next] = n + 64
		}
	}
}

// TestFairTimeBeginsAnew: shares stay what they are when so much has gone over a session
// that its virtual time is at its end, whether they wait for their turn then or not.
func TestFairTimeBeginsAnew(t *testing.T) {
	const cost = 64 * KiB
	f := &fair{now: math.MaxInt64 - 500*cost*costScale}
	seats := []*seat{{share: NewShare(1)}, {share: NewShare(3)}, {}, {}}
	idle := seats[3]
	for _, s := range seats { // each has been seen at that late time
		f.straight(s, cost)
	}
	for _, s := range seats[:3] {
		f.push(&turn{seat: s, cost: cost})
	}
	count := func(rounds int) map[*seat]int {
		had := map[*seat]int{}
		for range rounds {
			w := f.pop()
			had[w.seat]++
			f.push(&turn{seat: w.seat, cost: cost})
		}
		return had
	}
	for range 4 {
		had := count(1000)
		for i, want := range []int{200, 600, 200} {
			if got := had[seats[i]]; got < want-10 || got > want+10 {
				t.Errorf("seat %d had %d of 1000 turns, want %d", i, got, want)
			}
		}
	}
	f.push(&turn{seat: idle, cost: cost})
	if had := count(1200); had[idle] < 190 || had[idle] > 210 {
		t.Errorf("the one that was idle had %d of 1200 turns", had[idle])
	}
}
