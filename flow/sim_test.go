package flow

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/spec/fault"
)

var (
	simSeeds = flag.Int("flow.seeds", 150, "seeds of the simulation")
	simFirst = flag.Uint64("flow.seed", 0, "first seed of the simulation")
)

// world is one simulated run: two nodes, a bad link, streams both ways.
type world struct {
	t         *testing.T
	seed      uint64
	rnd       *rand.Rand // of the one goroutine that makes the plan
	near, far *Session
	link      *flowtest.Link
	ctx       context.Context
	wg        sync.WaitGroup
	drained   bool // by the far end

	mu   sync.Mutex
	ends map[string]*outcomes
}

// outcomes are what the two ends of one stream were told.
type outcomes struct {
	want           []byte
	got            []byte
	source, sink   error
	sourced, sunk  int // how often each end was told something final
	verdict        []byte
	deliberateKill bool
}

func (w *world) outcome(name string) *outcomes {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.ends[name]
	if o == nil {
		o = &outcomes{}
		w.ends[name] = o
	}
	return o
}

// TestSimulation runs random transfers over random faults. For every stream:
// content equal byte for byte, one end each, success at the source only if the
// sink delivered everything; nothing hangs, nothing is left.
func TestSimulation(t *testing.T) {
	t.Parallel()
	for i := range *simSeeds {
		seed := *simFirst + uint64(i)
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, seed) })
		})
		if !ok && testing.Short() {
			return
		}
	}
}

func simulate(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	cfg := Config{
		BlockSize: 4 * KiB << r.IntN(5), Window: 16 * KiB << r.IntN(5), SessionBudget: 64 * KiB << r.IntN(8),
		PipeWindow: 16 * KiB << r.IntN(5), Lanes: 1 + r.IntN(4), Pool: NewPool(64 * MiB),
	}
	link := flowtest.LinkConfig{RTT: time.Duration(r.IntN(50)) * time.Millisecond, Single: r.IntN(4) == 0, Seed: seed}
	if r.IntN(2) == 0 {
		link.Rate = 1e6 * int64(10+r.IntN(200))
	}
	if r.IntN(4) == 0 {
		link.Loss = 0.01 * r.Float64()
	}
	near, far, l, stop := emulated(t, link, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	w := &world{t: t, seed: seed, rnd: r, near: near, far: far, link: l, ctx: ctx, ends: map[string]*outcomes{}}
	for _, s := range []*Session{near, far} {
		serveSeed := r.Uint64()
		w.wg.Go(func() { w.serve(s, serveSeed) })
	}
	for i := range 2 + r.IntN(8) {
		w.start(i)
	}
	over := make(chan struct{})
	faults := make(chan struct{})
	faultSeed := r.Uint64()
	go func() { defer close(faults); w.trouble(rand.New(rand.NewPCG(faultSeed, 2)), over) }()
	w.finish(over)
	<-faults
	stop()
	w.judge()
	for name, s := range map[string]*Session{"near": near, "far": far} {
		if g := s.Stats().Granted; g != 0 {
			t.Errorf("%s: %d bytes are still granted", name, g)
		}
	}
	if u := cfg.Pool.Used(); u != 0 {
		t.Errorf("%d bytes of the pool are still in use", u)
	}
}

// finish waits for the openers, ends the session in one of three ways, and
// waits for the rest.
func (w *world) finish(over chan struct{}) {
	done := make(chan struct{})
	go func() { w.wg.Wait(); close(done) }()
	drain := w.rnd.IntN(3)
	time.Sleep(time.Duration(w.rnd.IntN(5000)) * time.Millisecond)
	switch drain {
	case 0:
		w.near.Drain(w.ctx)
	case 1:
		w.drained = true
		w.far.Drain(w.ctx)
	default:
		w.near.mu.Lock()
		for w.near.state < ended && len(w.near.streams) > 0 {
			if w.near.wait(w.ctx) != nil {
				break
			}
		}
		w.near.mu.Unlock()
		time.Sleep(time.Minute) // the last verdicts and resumptions
		w.near.Close()
	}
	w.far.finish(fault.New("session", fault.Draining, "the simulation is over"), true)
	close(over)
	select {
	case <-done:
	case <-w.ctx.Done():
		w.t.Error("somebody still waits")
	}
	if w.ctx.Err() != nil {
		w.t.Error("the run took ten minutes")
	}
}

// ended is over, which a local of that name hides.
const ended = over

// start opens one stream and drives this end of it.
func (w *world) start(i int) {
	r := rand.New(rand.NewPCG(w.seed, uint64(100+i)))
	s := w.near
	if r.IntN(2) == 0 {
		s = w.far
	}
	name := fmt.Sprint(i)
	o := w.outcome(name)
	size := r.IntN(1 + 4*KiB<<r.IntN(9))
	o.want = make([]byte, size)
	if r.IntN(3) > 0 {
		rand.NewChaCha8([32]byte{byte(i), byte(w.seed)}).Read(o.want)
	}
	open := Open{Kind: "file", Meta: []byte(name), Send: r.IntN(2) == 0, Compress: Compression(r.IntN(4))}
	bytewise := r.IntN(4) == 0
	open.Resume = bytewise && r.IntN(2) == 0
	ctx, cancel := w.ctx, context.CancelFunc(func() {})
	if r.IntN(5) == 0 {
		o.deliberateKill = true
		ctx, cancel = context.WithTimeout(w.ctx, time.Duration(r.IntN(2000))*time.Millisecond)
	}
	w.wg.Go(func() {
		defer cancel()
		time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
		if bytewise {
			w.openBytes(ctx, s, open, o)
			return
		}
		b, err := s.OpenBlocks(ctx, open)
		switch {
		case err != nil && open.Send:
			w.told(o, &o.source, &o.sourced, err)
		case err != nil:
			w.told(o, &o.sink, &o.sunk, err)
		case open.Send:
			w.source(ctx, b, o)
		default:
			w.sink(ctx, b, o)
		}
	})
}

func (w *world) told(o *outcomes, at *error, n *int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*at = err
	*n++
}

func (w *world) source(ctx context.Context, b *BlockStream, o *outcomes) {
	v, err := push(ctx, b, o.want)
	if err != nil {
		b.Reset(err)
	}
	w.mu.Lock()
	o.verdict = v
	w.mu.Unlock()
	w.told(o, &o.source, &o.sourced, err)
}

func (w *world) sink(ctx context.Context, b *BlockStream, o *outcomes) {
	got, err := pull(ctx, b)
	if err != nil {
		b.Reset(err)
	}
	w.mu.Lock()
	o.got = got
	w.mu.Unlock()
	w.told(o, &o.sink, &o.sunk, err)
}

func (w *world) openBytes(ctx context.Context, s *Session, open Open, o *outcomes) {
	open.Kind = "bytes"
	b, err := s.OpenBytes(ctx, open)
	if err == nil {
		stop := context.AfterFunc(ctx, func() { b.Close() })
		if _, err = b.Write(o.want); err == nil {
			err = b.CloseWrite()
		}
		if err == nil {
			_, err = io.Copy(io.Discard, b) // the other end closes when it has all
		}
		stop()
		b.Close()
	}
	w.told(o, &o.source, &o.sourced, err)
}

// serve accepts what the other end opens; now and then it refuses or resets.
func (w *world) serve(s *Session, seed uint64) {
	for n := uint64(0); ; n++ {
		in, err := s.AcceptStream(w.ctx)
		if err != nil {
			return
		}
		r := rand.New(rand.NewPCG(seed, n))
		w.wg.Go(func() { w.answer(in, r) })
	}
}

func (w *world) answer(in *Incoming, r *rand.Rand) {
	o := w.outcome(string(in.Meta))
	time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
	if r.IntN(15) == 0 {
		in.Refuse(fault.New("x", fault.Refused, "not today"))
		return
	}
	ctx, cancel := w.ctx, context.CancelFunc(func() {})
	if r.IntN(8) == 0 {
		ctx, cancel = context.WithTimeout(w.ctx, time.Duration(r.IntN(2000))*time.Millisecond)
	}
	defer cancel()
	if !in.Blocks {
		b, err := in.AcceptBytes(nil)
		if err == nil {
			stop := context.AfterFunc(ctx, func() { b.Close() })
			o.got, err = io.ReadAll(b)
			stop()
			b.CloseWrite()
			b.Close()
		}
		w.told(o, &o.sink, &o.sunk, err)
		return
	}
	b, err := in.AcceptBlocks(AcceptBlocks{Start: -1, Compress: Compression(r.IntN(4))})
	switch {
	case err != nil && in.Send:
		w.told(o, &o.sink, &o.sunk, err)
	case err != nil:
		w.told(o, &o.source, &o.sourced, err)
	case in.Send:
		w.sink(ctx, b, o)
	default:
		w.source(ctx, b, o)
	}
}

// trouble makes faults until the run is over.
func (w *world) trouble(r *rand.Rand, over chan struct{}) {
	for range r.IntN(12) {
		select {
		case <-over:
			return
		case <-time.After(time.Duration(r.IntN(1500)) * time.Millisecond):
		}
		switch r.IntN(8) {
		case 0, 1:
			w.link.Cut()
		case 2:
			w.link.CutAfter(flowtest.Direction(r.IntN(2)), int64(r.IntN(200_000)))
		case 3:
			w.link.CutAfter(flowtest.Direction(r.IntN(2)), int64(r.IntN(500)))
		case 4:
			w.link.Stall()
			time.Sleep(time.Duration(r.IntN(20_000)) * time.Millisecond)
			w.link.Unstall()
		case 5:
			w.link.Slice(1 + r.IntN(100))
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
			w.link.Slice(0)
		case 6:
			w.link.Refuse(true)
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
			w.link.Refuse(false)
		}
	}
}

// judge compares what both ends of each stream were told.
func (w *world) judge() {
	for name, o := range w.ends {
		if o.sourced > 1 || o.sunk > 1 || o.sourced+o.sunk == 0 {
			w.t.Errorf("stream %s: the source was told %d times, the sink %d times", name, o.sourced, o.sunk)
		}
		if o.sunk == 1 && o.sink == nil && !bytes.Equal(o.got, o.want) {
			w.t.Errorf("stream %s: the sink has %d bytes of %d and calls it success", name, len(o.got), len(o.want))
		}
		if o.sourced == 1 && o.source == nil && (o.sunk != 1 || o.sink != nil) {
			w.t.Errorf("stream %s: success at the source; at the sink: %v", name, o.sink)
		}
		for _, err := range []error{o.source, o.sink} {
			if errors.Is(err, fault.Protocol) || errors.Is(err, fault.Corrupt) || errors.Is(err, fault.Internal) || errors.Is(err, fault.Invalid) {
				w.t.Errorf("stream %s: %v", name, err)
			}
		}
	}
	for _, s := range []*Session{w.near, w.far} {
		err := s.Err()
		if errors.Is(err, fault.Protocol) || errors.Is(err, fault.Overloaded) {
			w.t.Errorf("session: %v", err)
		}
		if errors.Is(err, fault.Stale) && !w.drained { // with a lost CLOSE that is how the connector hears of it
			w.t.Errorf("session: %v", err)
		}
	}
}
