package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// What a server may suffer from a flood.
const (
	floodRSS     = 64 * mib
	floodCPU     = 50 // percent of one core
	floodConnect = time.Second
	floodRate    = 0.5
)

// The good partner moves goodSize every goodEvery, and connects anew every goodAgain.
const (
	goodSize  = mib
	goodEvery = 100 * time.Millisecond
	goodAgain = time.Second
	calmFor   = 2 * time.Second // measured before the flood
)

var flood = check{
	id: 33,
	title: fmt.Sprintf("flood of %d idle connections, %d half TLS handshakes, %d senders of a byte a second from %d addresses, and %d a second each of opens+resets, PING, SETTINGS, CONTINUATION from an admitted partner: "+
		"memory grows <= 64 MiB, <= 50 %% of a core, a good partner connects within 1 s (nine times of ten) and keeps >= 50 %% of its rate", idleConns, halfConns, slowConns, sources, perSecond),
	unit: "MiB more", n: counts{reduced: 20, full: 300, control: 6},
	mutant: "no limits: the silent accepted, no budget of pending connections, no time limit for handshakes, no allowance for nuisances",
	edits: []edit{
		{"flow/carrier/tcp.go", "	c := net.ListenConfig{", "	if mutant(\"33\") {\n\t\tsilent = 0\n\t}\n\tc := net.ListenConfig{"},
		{"flow/carrier/recognize.go", "n >= need {", "n >= need || mutant(\"33\") {"},
		{"flow/carrier/budget.go", "b.sources[source] >= b.perSource:", "b.sources[source] >= b.perSource && !mutant(\"33\"):"},
		{"flow/carrier/budget.go", "	case b.crowded():\n", "	case b.crowded() && !mutant(\"33\"):\n"},
		{"flow/carrier/listener.go", "c.SetDeadline(time.Now().Add(l.opts.HandshakeTimeout)); err != nil", "c.SetDeadline(time.Now().Add(l.opts.HandshakeTimeout)); err != nil && !mutant(\"33\")"},
		{"rpc/guard.go", "return enough\n", "return enough || mutant(\"33\")\n"},
		{"flow/limits.go", "	if g.left[n] < 1 {\n", "	if g.left[n] < 1 && !mutant(\"33\") {\n"},
	},
	run: runFlood,
}

func runFlood(ctx context.Context, j *job) (result, error) {
	victim, good, hostile := filepath.Join(j.dir, "victim"), filepath.Join(j.dir, "good"), filepath.Join(j.dir, "hostile")
	ids := map[string]*carrier.Identity{}
	for _, dir := range []string{victim, good, hostile} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return result{}, fault.Wrap("prepare flood", "", err)
		}
		var err error
		if ids[dir], err = carrier.LoadOrCreateIdentity(dir); err != nil {
			return result{}, err
		}
	}
	s, err := startChild(ctx, roleServe, serveConfig{Address: "tls://127.0.0.1:0", Identity: victim, Pins: []string{ids[good].Key(), ids[hostile].Key()}})
	if err != nil {
		return result{}, err
	}
	p := &partner{address: s.address, cfg: rpc.ClientConfig{Identity: ids[good], Pins: carrier.Pins{ids[victim].Key()}}}
	if p.cc, err = rpc.Dial(p.address, p.cfg); err != nil {
		return result{}, err
	}
	defer p.cc.Close()
	calm := p.work(ctx, calmFor)
	a, err := startChild(ctx, roleAttack, attackConfig{Address: s.address, Identity: hostile})
	if err != nil {
		return result{}, errors.Join(err, s.stop(new(served)))
	}
	f, err := underFire(ctx, p, s, time.Duration(j.n)*time.Second)
	err = errors.Join(err, a.stop(&f.attacked), s.stop(new(served)))
	return f.judge(calm, j.full), err
}

// fire is what was measured during the flood.
type fire struct {
	work
	attacked
	rss  int64   // bytes more than before
	cpu  float64 // percent of one core
	busy bool    // the host: partner and server waited longer for a processor than they ran
}

// underFire watches the server and the good partner for a while.
func underFire(ctx context.Context, p *partner, s *child, d time.Duration) (f fire, err error) {
	before, err := s.load()
	if err != nil {
		return f, err
	}
	ran, waiting := waitedFor(s)
	began := time.Now()
	watch, stop := context.WithCancel(ctx)
	most := make(chan int64, 1)
	go func() { most <- s.peak(watch) }()
	f.work = p.work(ctx, d)
	after, err := s.load()
	stop()
	ranThen, waitingThen := waitedFor(s)
	f.busy = waitingThen-waiting > ranThen-ran
	f.rss = <-most - before.rss
	f.cpu = 100 * (after.cpu - before.cpu).Seconds() / time.Since(began).Seconds()
	return f, err
}

// waitedFor is waited of partner and server together.
func waitedFor(s *child) (run, wait time.Duration) {
	r1, w1 := waited(os.Getpid())
	r2, w2 := waited(s.cmd.Process.Pid)
	return r1 + r2, w1 + w2
}

// judge holds what was measured against the limits. A reduced run, which has to
// pass on any host, does not judge the processor's share and the time of a
// connect, which are the host's speed as much as ours, nor the rate when the host was too busy.
func (f fire) judge(calm work, full bool) result {
	var w note
	share := f.rate / calm.rate
	if f.rss > floodRSS {
		w.add("memory grew by more than 64 MiB")
	}
	if f.cpu > floodCPU && full {
		w.add("more than %d %% of a core", floodCPU)
	}
	lenient := f.busy && !full
	if len(f.connects) == 0 || full && (f.nine() > floodConnect || f.failed > 0) {
		w.add("the good partner did not connect within %v (%d failed)", floodConnect, f.failed)
	}
	if share < floodRate && !lenient {
		w.add("the good partner kept less than half of its rate")
	}
	ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	host := ""
	switch {
	case lenient:
		host = " (reduced: share of a core and connects are not judged, nor the rate, the host being too busy)"
	case !full:
		host = " (reduced: share of a core and connects are not judged)"
	}
	return w.result(float64(f.rss*10/mib)/10, "%.0f %% of a core; good partner: %.0f %% of its rate, %d connects, median %v, nine of ten %v, worst %v (median %v, worst %v before)%s; attackers: %d connections, %d frames, cut off %d times",
		f.cpu, 100*share, len(f.connects), ms(f.median()), ms(f.nine()), ms(f.worst()), ms(calm.median()), ms(calm.worst()), host, f.Dialled, f.Frames, f.CutOff)
}

// partner is one who behaves.
type partner struct {
	address string
	cfg     rpc.ClientConfig
	cc      *rpc.ClientConn // from before the flood
}

// work is what a partner got done.
type work struct {
	rate     float64 // transfers a second
	failed   int     // connects that took too long to wait for
	connects []time.Duration
}

// share is what some of the connects stayed below: 1 = the worst.
func (w work) share(of float64) time.Duration {
	if len(w.connects) == 0 {
		return 0
	}
	slices.Sort(w.connects)
	return w.connects[min(int(of*float64(len(w.connects))), len(w.connects)-1)]
}

func (w work) median() time.Duration { return w.share(0.5) }
func (w work) nine() time.Duration   { return w.share(0.9) }
func (w work) worst() time.Duration  { return w.share(1) }

// work moves files over one connection and makes others beside it, for a while.
func (p *partner) work(ctx context.Context, d time.Duration) (w work) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		for ; ctx.Err() == nil; pause(ctx, goodAgain) {
			took, err := p.connect(ctx)
			switch {
			case err == nil:
				w.connects = append(w.connects, took)
			case ctx.Err() == nil:
				w.failed++
			}
		}
	})
	moved := p.move(ctx)
	wg.Wait()
	w.rate = float64(moved) / d.Seconds()
	return w
}

// move counts transfers over the connection that was there before.
func (p *partner) move(ctx context.Context) (n int) {
	content := make([]byte, goodSize)
	tick := time.NewTicker(goodEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if put(ctx, p.cc, "x", upload(content)) == nil {
			n++
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return n
}

// connect is the time from nothing to the first reply on a new connection, with
// as many attempts as it takes; at most ten times what is allowed.
func (p *partner) connect(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*floodConnect)
	defer cancel()
	began := time.Now()
	for {
		cc, err := rpc.Dial(p.address, p.cfg)
		if err != nil {
			return 0, err
		}
		err = put(ctx, cc, "x", upload([]byte("hello")))
		took := time.Since(began)
		cc.Close()
		if err == nil || ctx.Err() != nil {
			return took, fault.Wrap("connect", "", err)
		}
		pause(ctx, 20*time.Millisecond)
	}
}

func upload(content []byte) *sideeffect.Descriptor {
	return &sideeffect.Descriptor{Direction: sideeffect.ClientToServer, Quota: sideeffect.NoQuota, Local: sideeffect.Memory(content)}
}
