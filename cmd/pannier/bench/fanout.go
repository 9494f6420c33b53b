package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// FanoutConfig is what to measure of one daemon that sends a file to several.
type FanoutConfig struct {
	Cases    []string // names; none: all
	Runs     int      // rounds, of which the median counts
	Partners int
	Size     int64  // of the file
	Dir      string // where files and stores go. Default: the temporary directory
	Program  []string
	Progress io.Writer
}

// FanoutResult is one case: medians over the runs.
type FanoutResult struct {
	Case     string  `json:"case"`
	Partners int     `json:"partners"`
	Bytes    int64   `json:"bytes"`
	Read     float64 `json:"read_per_size"` // bytes that the sender's process has read from anywhere, by the file's size
	Wall     float64 `json:"wall_s"`        // until the last is DONE at both ends
	First    float64 `json:"most_wall_s"`   // until all but one are
	CPU      float64 `json:"cpu_s_per_gib"` // of all processes, for a GiB that was delivered
	MaxRSS   float64 `json:"sender_max_rss_mib"`
	System   string  `json:"file_system"`
}

// fanoutCases: "together" is one send to all partners, "one-by-one" a send to each, one after
// the other; "slow" is together, with one partner whose process runs a quarter of the time until
// the others are done, and "dead" with one whose process stands still.
var fanoutCases = []struct {
	name string
	run  func(*fanoutBench) error
}{
	{"together", (*fanoutBench).together},
	{"one-by-one", (*fanoutBench).oneByOne},
	{"slow", (*fanoutBench).slow},
	{"dead", (*fanoutBench).dead},
}

// FanoutCases are the names of all cases.
func FanoutCases() (names []string) {
	for _, c := range fanoutCases {
		names = append(names, c.name)
	}
	return names
}

// Fanout measures daemons, each a process of its own, over TLS, with default settings.
func Fanout(ctx context.Context, cfg FanoutConfig) (results []FanoutResult, err error) {
	for _, name := range cfg.Cases {
		if !slices.Contains(FanoutCases(), name) {
			return nil, fault.New("check flags", fault.Invalid, "no case %q; there are %s", name, strings.Join(FanoutCases(), ", "))
		}
	}
	if cfg.Partners < 2 || cfg.Size < 1 {
		return nil, fault.New("check flags", fault.Invalid, "%d partners and %d bytes: two partners and a byte at the least", cfg.Partners, cfg.Size)
	}
	if cfg.Dir, err = os.MkdirTemp(cfg.Dir, "pannier-bench-"); err != nil {
		return nil, err
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil { // sockets are in it
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cfg.Dir)) }()
	for _, c := range fanoutCases {
		if len(cfg.Cases) > 0 && !slices.Contains(cfg.Cases, c.name) {
			continue
		}
		var runs []FanoutResult
		for round := range cfg.Runs {
			r, err := fanoutOnce(ctx, cfg, fmt.Sprint(c.name, round), c.run)
			if err != nil {
				return results, fault.Wrap("bench fanout", c.name, err)
			}
			r.Case = c.name
			fmt.Fprintf(cfg.Progress, "round %d/%d  %-10s read %.3f  %.1f s  all but one %.1f s  %.2f CPU s/GiB  %.0f MiB\n", round+1, cfg.Runs, c.name, r.Read, r.Wall, r.First, r.CPU, r.MaxRSS)
			runs = append(runs, r)
		}
		r := runs[0]
		for into, figure := range map[*float64]func(FanoutResult) float64{
			&r.Read: func(r FanoutResult) float64 { return r.Read }, &r.Wall: func(r FanoutResult) float64 { return r.Wall }, &r.First: func(r FanoutResult) float64 { return r.First },
			&r.CPU: func(r FanoutResult) float64 { return r.CPU }, &r.MaxRSS: func(r FanoutResult) float64 { return r.MaxRSS },
		} {
			*into = medianOf(runs, figure)
		}
		results = append(results, r)
	}
	return results, nil
}

// fanoutBench is one run of one case.
type fanoutBench struct {
	ctx    context.Context
	cfg    FanoutConfig
	from   *nodetest.Node
	to     []*nodetest.Node
	client *admin.Client
	began  time.Time
	ended  []time.Duration // of each request, in the order in which they were DONE
}

func fanoutOnce(ctx context.Context, cfg FanoutConfig, name string, run func(*fanoutBench) error) (r FanoutResult, err error) {
	dir := filepath.Join(cfg.Dir, name)
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &fanoutBench{ctx: ctx, cfg: cfg}
	if b.from, err = nodetest.New(dir, "hosta", cfg.Program...); err != nil {
		return r, err
	}
	for i := range cfg.Partners {
		n, err := nodetest.New(dir, fmt.Sprint("hostb", i), cfg.Program...)
		if err != nil {
			return r, err
		}
		b.to = append(b.to, n)
	}
	rule := engineRule + `digest = "sha256"` + "\n"
	for _, n := range append([]*nodetest.Node{b.from}, b.to...) {
		others := []*nodetest.Node{b.from}
		if n == b.from {
			others = b.to
		}
		n.Log = cfg.Progress
		if err := n.Write([]string{`log = "warn"`}, nil, rule, others...); err != nil {
			return r, err
		}
	}
	if b.client, err = b.from.Client(); err != nil {
		return r, err
	}
	defer func() {
		for _, n := range append(b.to, b.from) {
			n.Close()
		}
	}()
	if err := b.start(); err != nil {
		return r, err
	}
	return b.measure(dir, run)
}

// start starts all, makes the file, and has a small one open the sessions.
func (b *fanoutBench) start() error {
	for _, n := range append(slices.Clone(b.to), b.from) {
		if err := n.Start(b.ctx); err != nil {
			return err
		}
	}
	e := &engineBench{ctx: b.ctx, a: b.from}
	if err := errors.Join(e.files(1, 1000, "warm"), e.files(1, b.cfg.Size, "f")); err != nil {
		return err
	}
	return b.send("warm0", b.to)
}

// measure is what the run of a case costs.
func (b *fanoutBench) measure(dir string, run func(*fanoutBench) error) (r FanoutResult, err error) {
	before, err := b.cpu()
	if err != nil {
		return r, err
	}
	read, err := readBy(b.from.PID())
	if err != nil {
		return r, err
	}
	b.began, b.ended = time.Now(), nil
	if err := run(b); err != nil {
		return r, err
	}
	r = FanoutResult{Partners: len(b.to), Bytes: b.cfg.Size, System: fileSystem(dir)}
	r.Wall, r.First = b.ended[len(b.ended)-1].Seconds(), b.ended[len(b.ended)-2].Seconds()
	after, err := b.cpu()
	if err != nil {
		return r, err
	}
	now, err := readBy(b.from.PID())
	if err != nil {
		return r, err
	}
	r.Read = float64(now-read) / float64(b.cfg.Size)
	r.CPU = (after - before) / (float64(b.cfg.Size) * float64(len(b.to)) / (1 << 30))
	u, err := usageOf(b.from.PID())
	r.MaxRSS = float64(u.PeakRSS) / mib
	return r, err
}

// cpu is the processor time of all processes.
func (b *fanoutBench) cpu() (total float64, err error) {
	for _, n := range append(slices.Clone(b.to), b.from) {
		u, err := usageOf(n.PID())
		if err != nil {
			return 0, err
		}
		total += u.CPU()
	}
	return total, nil
}

// send sends a file to partners at once, and waits for all.
func (b *fanoutBench) send(name string, to []*nodetest.Node) error {
	ids, err := b.submit(name, to)
	if err != nil {
		return err
	}
	return b.await(ids)
}

func (b *fanoutBench) submit(name string, to []*nodetest.Node) (ids []string, err error) {
	for _, n := range to {
		reply, err := b.client.Submit(b.ctx, &adminpb.SubmitRequest{Partner: n.Name, Rule: "bench", Source: name, Together: int32(len(to))})
		if err != nil {
			return nil, err
		}
		ids = append(ids, reply.Request.Id)
	}
	return ids, nil
}

// await waits until requests are DONE, and notes when each was.
func (b *fanoutBench) await(ids []string) error {
	errs := make(chan error, len(ids))
	for _, id := range ids {
		go func() {
			r, err := b.client.Wait(b.ctx, &adminpb.WaitRequest{Ref: &adminpb.Ref{Id: id}})
			if err == nil && r.State != adminpb.Request_DONE {
				err = fault.New("transfer", fault.Internal, "request %s to %s is %v: %v", r.Id, r.Partner, r.State, r.Failure)
			}
			errs <- err
		}()
	}
	var all []error
	for range ids {
		all = append(all, <-errs)
		b.ended = append(b.ended, time.Since(b.began))
	}
	return errors.Join(all...)
}

func (b *fanoutBench) together() error { return b.send("f0", b.to) }

func (b *fanoutBench) oneByOne() error {
	for _, n := range b.to {
		if err := b.send("f0", []*nodetest.Node{n}); err != nil {
			return err
		}
	}
	return nil
}

// slow lets one partner's process run a quarter of the time, until the others are done.
func (b *fanoutBench) slow() error {
	return b.hindered(func(ctx context.Context, signal func(syscall.Signal)) {
		for ctx.Err() == nil {
			signal(syscall.SIGSTOP)
			time.Sleep(150 * time.Millisecond)
			signal(syscall.SIGCONT)
			time.Sleep(50 * time.Millisecond)
		}
	})
}

// dead lets one partner's process stand still until the others are done.
func (b *fanoutBench) dead() error {
	return b.hindered(func(_ context.Context, signal func(syscall.Signal)) { signal(syscall.SIGSTOP) })
}

// hindered is together, with the last partner's process hindered until the others are done.
func (b *fanoutBench) hindered(hinder func(context.Context, func(syscall.Signal))) error {
	last := len(b.to) - 1
	signal := func(s syscall.Signal) { _ = syscall.Kill(b.to[last].PID(), s) }
	ids, err := b.submit("f0", b.to)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(b.ctx)
	var hindering sync.WaitGroup
	hindering.Go(func() { hinder(ctx, signal) })
	err = b.await(ids[:last])
	cancel()
	hindering.Wait()
	signal(syscall.SIGCONT)
	return errors.Join(err, b.await(ids[last:]))
}
