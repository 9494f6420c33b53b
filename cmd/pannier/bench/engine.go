package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// EngineConfig is what to measure of two daemons.
type EngineConfig struct {
	Cases    []string // names; none: all
	Runs     int      // rounds, of which the median counts
	Count    int      // requests of the cases of small files
	Size     int64    // of the case of one large file
	Dir      string   // where files and stores go: a disk, because durability is what costs. Default: the temporary directory
	Program  []string // this program
	Progress io.Writer
}

// EngineResult is one case: medians over the runs.
type EngineResult struct {
	Case       string  `json:"case"`
	Requests   int     `json:"requests"`
	Bytes      int64   `json:"bytes"` // of one
	InFlight   int     `json:"in_flight"`
	PerSecond  float64 `json:"transfers_per_s"`
	Rate       float64 `json:"mib_per_s"`
	CPU        float64 `json:"cpu_ms_per_transfer"` // user and system, both daemons
	P50        float64 `json:"submit_to_done_p50_ms"`
	P99        float64 `json:"submit_to_done_p99_ms"`
	MaxRSS     float64 `json:"max_rss_mib"` // of the larger daemon, over its life
	Submit     float64 `json:"submits_per_s,omitempty"`
	Start      float64 `json:"start_s,omitempty"`    // until the daemon answered
	Against    string  `json:"against,omitempty"`    // another case
	AgainstBy  float64 `json:"rate_ratio,omitempty"` // this rate by that one's
	SubmitBy   float64 `json:"submits_ratio,omitempty"`
	CPUBy      float64 `json:"cpu_ratio,omitempty"` // this processor time by that one's
	OtherRate  float64 `json:"against_transfers_per_s,omitempty"`
	OtherCPU   float64 `json:"against_cpu_ms_per_transfer,omitempty"`
	FileSystem string  `json:"file_system"`
}

// engineCase is one way to load two daemons.
type engineCase struct {
	name     string
	bytes    int64
	count    int // 0: EngineConfig.Count
	inFlight int
	settings []string // of [node]
	partner  []string // of [[partner]]
	rule     string   // settings of [[rule]]
	against  string   // a case of the same round
	run      func(*engineBench, engineCase) (EngineResult, error)
}

// engineCases are all: files of a size, so many in flight; disk-..., the same files
// written durably by one process; observed-..., the same with metrics that are read and
// traces that are told, beside daemons without; one large file beside a bare session;
// everything at once; what was queued while the partner was away; a long history.
func engineCases() []engineCase {
	return []engineCase{
		{name: "disk-250kB-64", bytes: 250_000, inFlight: 64, run: (*engineBench).disk},
		{name: "250kB-64", bytes: 250_000, inFlight: 64, against: "disk-250kB-64", run: (*engineBench).load},
		{name: "disk-4kB-64", bytes: 4_000, inFlight: 64, run: (*engineBench).disk},
		{name: "4kB-64", bytes: 4_000, inFlight: 64, against: "disk-4kB-64", run: (*engineBench).load},
		{name: "disk-250kB-1", bytes: 250_000, count: 200, inFlight: 1, run: (*engineBench).disk},
		{name: "250kB-1", bytes: 250_000, count: 200, inFlight: 1, against: "disk-250kB-1", run: (*engineBench).load},
		{name: "observed-250kB-64", bytes: 250_000, inFlight: 64, run: (*engineBench).observed},
		{name: "observed-4kB-64", bytes: 4_000, inFlight: 64, run: (*engineBench).observed},
		{name: "large", count: 1, inFlight: 1, rule: `digest = "sha256"`, run: (*engineBench).large},
		{name: "10000-in-flight", bytes: 4_000, count: 10_000, inFlight: 10_000,
			settings: []string{"concurrent = 10000", "serving = 15000"}, partner: []string{"concurrent = 10000"}, run: (*engineBench).flood},
		{name: "queued-100", bytes: 4_000, count: 100, run: (*engineBench).queued},
		{name: "queued-1000", bytes: 4_000, count: 1_000, run: (*engineBench).queued},
		{name: "queued-10000", bytes: 4_000, count: 10_000, run: (*engineBench).queued},
		{name: "queued-100000", bytes: 4_000, count: 100_000, run: (*engineBench).queued},
		{name: "history-1000000", bytes: 4_000, count: 1_000, inFlight: 64, run: (*engineBench).history},
	}
}

// EngineCases are the names of all cases.
func EngineCases() []string {
	var names []string
	for _, c := range engineCases() {
		names = append(names, c.name)
	}
	return names
}

// Engine measures two daemons, each a process of its own, over TLS, with stores on
// disk and default settings but where a case says otherwise.
func Engine(ctx context.Context, cfg EngineConfig) (_ []EngineResult, err error) {
	if cfg.Dir == "" {
		cfg.Dir = os.TempDir()
	}
	if cfg.Dir, err = os.MkdirTemp(cfg.Dir, "pannier-bench-"); err != nil {
		return nil, err
	}
	// Not between the cases: ext4 without a journal looks for minutes at each inode
	// that was freed before it makes a file, which costs more than all else here.
	defer func() { err = errors.Join(err, os.RemoveAll(cfg.Dir)) }()
	var chosen []engineCase
	for _, c := range engineCases() {
		if len(cfg.Cases) == 0 || slices.Contains(cfg.Cases, c.name) {
			chosen = append(chosen, c)
		}
	}
	for _, name := range cfg.Cases {
		if !slices.Contains(EngineCases(), name) {
			return nil, fault.New("check flags", fault.Invalid, "no case %q; there are %s", name, strings.Join(EngineCases(), ", "))
		}
	}
	all := map[string][]EngineResult{}
	var failed []error
	for round := range cfg.Runs {
		for _, c := range chosen {
			r, err := engineOnce(ctx, cfg, c)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				failed = append(failed, fault.Wrap("bench engine", c.name, err))
				fmt.Fprintf(cfg.Progress, "%s: %v\n", c.name, err)
				continue
			}
			fmt.Fprintf(cfg.Progress, "round %d/%d  %-16s %6.0f/s  %7.1f MiB/s  %6.2f CPU ms  p50 %.1f ms  %.0f MiB\n", round+1, cfg.Runs, c.name, r.PerSecond, r.Rate, r.CPU, r.P50, r.MaxRSS)
			if other := all[c.against]; len(other) > round {
				r.Against, r.AgainstBy = c.against, r.PerSecond/other[round].PerSecond
			}
			all[c.name] = append(all[c.name], r)
		}
	}
	var results []EngineResult
	for _, c := range chosen {
		if runs := all[c.name]; len(runs) > 0 {
			results = append(results, engineMedian(runs))
		}
	}
	return results, errors.Join(failed...)
}

func engineMedian(runs []EngineResult) EngineResult {
	r := runs[0]
	for figure, get := range map[*float64]func(EngineResult) float64{
		&r.PerSecond: func(r EngineResult) float64 { return r.PerSecond }, &r.Rate: func(r EngineResult) float64 { return r.Rate },
		&r.CPU: func(r EngineResult) float64 { return r.CPU }, &r.P50: func(r EngineResult) float64 { return r.P50 },
		&r.P99: func(r EngineResult) float64 { return r.P99 }, &r.MaxRSS: func(r EngineResult) float64 { return r.MaxRSS },
		&r.Submit: func(r EngineResult) float64 { return r.Submit }, &r.Start: func(r EngineResult) float64 { return r.Start },
		&r.AgainstBy: func(r EngineResult) float64 { return r.AgainstBy }, &r.SubmitBy: func(r EngineResult) float64 { return r.SubmitBy },
		&r.CPUBy:     func(r EngineResult) float64 { return r.CPUBy },
		&r.OtherRate: func(r EngineResult) float64 { return r.OtherRate }, &r.OtherCPU: func(r EngineResult) float64 { return r.OtherCPU },
	} {
		*figure = medianOf(runs, get)
	}
	return r
}

// engineBench is one run of one case.
type engineBench struct {
	ctx  context.Context
	cfg  EngineConfig
	a, b *nodetest.Node
	at   *admin.Client
}

const engineRule = `
[[rule]]
name = "bench"
direction = "send"
partners = ["*"]
root = "%ROOT%"
`

func engineOnce(ctx context.Context, cfg EngineConfig, c engineCase) (r EngineResult, err error) {
	dir, err := os.MkdirTemp(cfg.Dir, c.name+"-")
	if err != nil {
		return r, err
	}
	if c.count == 0 {
		c.count = cfg.Count
	}
	e, err := newEngineBench(ctx, cfg, c, dir)
	if err != nil {
		return r, err
	}
	defer e.close()
	r, err = c.run(e, c)
	r.Case, r.Requests, r.Bytes, r.InFlight = c.name, c.count, max(r.Bytes, c.bytes), c.inFlight
	r.FileSystem = fileSystem(dir)
	return r, err
}

// newEngineBench makes both daemons, which are not started.
func newEngineBench(ctx context.Context, cfg EngineConfig, c engineCase, dir string) (e *engineBench, err error) {
	e = &engineBench{ctx: ctx, cfg: cfg}
	if e.a, e.b, err = nodetest.Pair(dir, cfg.Program...); err != nil {
		return nil, err
	}
	e.a.Log, e.b.Log = cfg.Progress, cfg.Progress
	settings := append([]string{`log = "warn"`}, c.settings...)
	rule := engineRule + c.rule + "\n"
	if err := errors.Join(e.a.Write(settings, c.partner, rule, e.b), e.b.Write(settings, c.partner, rule, e.a)); err != nil {
		return nil, err
	}
	e.at, err = e.a.Client()
	return e, err
}

// close ends what is left of both daemons.
func (e *engineBench) close() {
	e.a.Close()
	e.b.Close()
}

// start starts both daemons and lets a first transfer open the session.
func (e *engineBench) start(bytes int64) error {
	if err := e.b.Start(e.ctx); err != nil {
		return err
	}
	if err := e.a.Start(e.ctx); err != nil {
		return err
	}
	if err := e.files(1, min(bytes, 1000), "warm"); err != nil {
		return err
	}
	_, err := e.one("warm0", "warm0")
	return err
}

// files makes sources.
func (e *engineBench) files(n int, size int64, prefix string) error {
	buf := make([]byte, min(size, 1<<20))
	random := rand.NewChaCha8([32]byte{1})
	for i := range n {
		f, err := os.Create(filepath.Join(e.a.Root, fmt.Sprintf("%s%d", prefix, i)))
		if err != nil {
			return err
		}
		for left := size; left > 0 && err == nil; left -= int64(len(buf)) {
			random.Read(buf)
			_, err = f.Write(buf[:min(left, int64(len(buf)))])
		}
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// submit registers a transfer.
func (e *engineBench) submit(source, target string) (*adminpb.Request, error) {
	reply, err := e.at.Submit(e.ctx, &adminpb.SubmitRequest{Partner: e.b.Name, Rule: "bench", Source: source, Target: target})
	if err != nil {
		return nil, err
	}
	return reply.Request, nil
}

// one carries a file over: from submit to DONE at both ends, because the
// requester is DONE only when it has heard that the other is.
func (e *engineBench) one(source, target string) (time.Duration, error) {
	began := time.Now()
	reply, err := e.at.Submit(e.ctx, &adminpb.SubmitRequest{Partner: e.b.Name, Rule: "bench", Source: source, Target: target, Wait: durationpb.New(time.Hour)})
	if err != nil {
		return 0, err
	}
	r := reply.Request
	if r.State != adminpb.Request_DONE {
		return 0, fault.New("transfer", fault.Internal, "request %s is %v: %v", r.Id, r.State, r.Failure)
	}
	return time.Since(began), nil
}

// usage is of both daemons together.
func (e *engineBench) usage() (cpu float64, peak int64, err error) {
	for _, n := range []*nodetest.Node{e.a, e.b} {
		u, err := usageOf(n.PID())
		if err != nil {
			return 0, 0, err
		}
		cpu += u.CPU()
		peak = max(peak, u.PeakRSS)
	}
	return cpu, peak, nil
}

// load carries files, so many at a time, and times each.
func (e *engineBench) load(c engineCase) (EngineResult, error) {
	if err := e.start(c.bytes); err != nil {
		return EngineResult{}, err
	}
	if err := e.files(c.count, c.bytes, "f"); err != nil {
		return EngineResult{}, err
	}
	return e.timed(c, "f")
}

// timed carries the files of a prefix.
func (e *engineBench) timed(c engineCase, prefix string) (EngineResult, error) {
	return e.timedTo(c, prefix, 0, "")
}

// timedTo is timed for the files from number from on, whose targets are below a directory.
func (e *engineBench) timedTo(c engineCase, prefix string, from int, dir string) (r EngineResult, err error) {
	before, _, err := e.usage()
	if err != nil {
		return r, err
	}
	times := make([]time.Duration, c.count)
	began := time.Now()
	err = e.each(c.count, c.inFlight, func(i int) (err error) {
		name := fmt.Sprintf("%s%d", prefix, from+i)
		times[i], err = e.one(name, dir+name)
		return err
	})
	took := time.Since(began)
	if err != nil {
		return r, err
	}
	after, peak, err := e.usage()
	if err != nil {
		return r, err
	}
	if err := e.check(from, c.count, c.bytes, dir+prefix); err != nil {
		return r, err
	}
	l := summarize(times)
	r.figures(c.count, c.bytes, took, after-before, peak)
	r.P50, r.P99 = l.P50/1000, l.P99/1000
	return r, nil
}

func (r *EngineResult) figures(count int, bytes int64, took time.Duration, cpu float64, peak int64) {
	r.PerSecond = float64(count) / took.Seconds()
	r.Rate = r.PerSecond * float64(bytes) / mib
	r.CPU = cpu * 1000 / float64(count)
	r.MaxRSS = float64(peak) / mib
}

// each does something n times, so many at a time.
func (e *engineBench) each(n, at int, do func(int) error) error {
	var next atomic.Int64
	var group sync.WaitGroup
	errs := make(chan error, at)
	for range min(at, n) {
		group.Go(func() {
			for e.ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	group.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return e.ctx.Err()
	}
}

// check wants every target there, whole.
func (e *engineBench) check(from, n int, size int64, prefix string) error {
	for i := range n {
		name := fmt.Sprintf("%s%d", prefix, from+i)
		fi, err := os.Stat(filepath.Join(e.b.Root, name))
		if err != nil {
			return err
		}
		if fi.Size() != size {
			return fault.New("check target", fault.Corrupt, "%s has %d bytes", name, fi.Size())
		}
	}
	return nil
}

// large carries one file, and the same bytes over a bare session beside it.
func (e *engineBench) large(c engineCase) (r EngineResult, err error) {
	const other = "session-tls-sha256"
	if err := e.start(1000); err != nil {
		return r, err
	}
	c.bytes = e.cfg.Size
	if err := e.files(1, c.bytes, "f"); err != nil {
		return r, err
	}
	if r, err = e.timed(c, "f"); err != nil {
		return r, err
	}
	r.Bytes = c.bytes
	e.a.Kill()
	e.b.Kill()
	bare, err := Transfer(e.ctx, Config{Cases: []string{other}, Runs: 1, Size: c.bytes, Dir: filepath.Dir(e.a.Dir),
		Program: Program{Path: e.cfg.Program[0], Args: append(slices.Clone(e.cfg.Program), "bench", "end")}, Progress: e.cfg.Progress})
	if err != nil {
		return r, err
	}
	r.Against, r.AgainstBy = other, r.Rate/1024/bare[0].Rate
	return r, nil
}

// submitAll registers n requests of one source, and says how fast.
func (e *engineBench) submitAll(n int, below string) (perSecond float64, err error) {
	began := time.Now()
	err = e.each(n, 64, func(i int) error {
		_, err := e.submit("f0", fmt.Sprintf("%s/d%d/t%d", below, i%100, i))
		return err
	})
	return float64(n) / time.Since(began).Seconds(), err
}

// drained waits until no request is under way.
func (e *engineBench) drained() error {
	for {
		left := 0
		list, err := e.at.List(e.ctx, &adminpb.ListRequest{Limit: 1, States: []adminpb.Request_State{
			adminpb.Request_TOSUBMIT, adminpb.Request_RUNNING, adminpb.Request_INTERRUPTED, adminpb.Request_INERROR}})
		if err != nil {
			return err
		}
		for {
			r, err := list.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if r.State == adminpb.Request_INERROR {
				return fault.New("transfer", fault.Internal, "request %s failed: %v", r.Id, r.Failure)
			}
			left++
		}
		if left == 0 {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-e.ctx.Done():
			return e.ctx.Err()
		}
	}
}

// flood submits everything and lets all of it run at once.
func (e *engineBench) flood(c engineCase) (r EngineResult, err error) {
	if err := e.start(c.bytes); err != nil {
		return r, err
	}
	return e.burst(c)
}

// queued submits everything while the partner is away, then lets it come.
func (e *engineBench) queued(c engineCase) (r EngineResult, err error) {
	if err := e.a.Start(e.ctx); err != nil {
		return r, err
	}
	return e.burst(c)
}

func (e *engineBench) burst(c engineCase) (r EngineResult, err error) {
	if err := e.files(1, c.bytes, "f"); err != nil {
		return r, err
	}
	atOnce := e.b.PID() != 0
	var before float64
	began := time.Now()
	if atOnce {
		if before, _, err = e.usage(); err != nil {
			return r, err
		}
	}
	if r.Submit, err = e.submitAll(c.count, "all"); err != nil {
		return r, err
	}
	if !atOnce {
		if err := e.b.Start(e.ctx); err != nil {
			return r, err
		}
		if before, _, err = e.usage(); err != nil {
			return r, err
		}
		began = time.Now()
		if _, err := e.at.TestPartner(e.ctx, &adminpb.TestPartnerRequest{Partner: e.b.Name}); err != nil {
			return r, err
		}
	}
	if err := e.drained(); err != nil {
		return r, err
	}
	took := time.Since(began)
	after, peak, err := e.usage()
	r.figures(c.count, c.bytes, took, after-before, peak)
	return r, err
}
