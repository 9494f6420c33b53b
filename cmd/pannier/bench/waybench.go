package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// RelayConfig is what to measure of relays and of other ways.
type RelayConfig struct {
	Cases     []string      // of Ways; none: all whose programs are there
	Figures   []string      // of Figures; none: all
	Runs      int           // rounds, of which the median counts
	Size      int64         // bytes of the bulk connection
	Calls     int           // bytes there and back that are timed
	Idle      int           // connections open at a time
	Churn     int           // connections opened and closed, 1000 of them a second
	Datagrams int           // 50,000 of them a second
	Busy      int           // connections beside a ping; 0: 100
	Settle    time.Duration // until busy processes are under way
	Rest      time.Duration // until idle ones have given back what they can
	Program   Program
	Progress  io.Writer
}

// RelayResult is one way: medians over the runs, and sums of what must not be.
type RelayResult struct {
	Case string `json:"case"`
	Runs int    `json:"runs"`

	Rate   float64 `json:"gib_per_s,omitempty"`
	RateBy float64 `json:"rate_by_direct,omitempty"` // within each round
	CPU    float64 `json:"cpu_s_per_gib,omitempty"`  // user and system, all processes

	P50     float64 `json:"ping_p50_us,omitempty"`
	P50More float64 `json:"ping_p50_more_us,omitempty"` // than the direct one of the same round
	P99     float64 `json:"ping_p99_us,omitempty"`
	PingCPU float64 `json:"ping_cpu_us,omitempty"`

	IdleConns int     `json:"idle_conns,omitempty"`
	IdleEntry float64 `json:"idle_entry_rss_mib,omitempty"` // all of the process
	IdleExit  float64 `json:"idle_exit_rss_mib,omitempty"`

	Opened   float64 `json:"opened_per_s,omitempty"` // asked for: 1000
	ChurnP99 float64 `json:"opened_p99_us,omitempty"`
	ChurnCPU float64 `json:"opened_cpu_us,omitempty"`
	Lost     int64   `json:"lost"` // sum

	AloneP99     float64 `json:"alone_p99_us,omitempty"` // just before what follows
	BusyP50      float64 `json:"busy_p50_us,omitempty"`
	BusyP99      float64 `json:"busy_p99_us,omitempty"`
	BusyRate     float64 `json:"busy_gib_per_s,omitempty"` // of the 100 others together, and of what is in the transfer's place
	TransferRate float64 `json:"transfer_gib_per_s,omitempty"`
	FloodP50     float64 `json:"flood_p50_us,omitempty"`
	FloodP99     float64 `json:"flood_p99_us,omitempty"`
	FloodRate    float64 `json:"flood_gib_per_s,omitempty"`

	Datagrams   float64 `json:"datagrams_per_s,omitempty"` // sent
	DatagramCPU float64 `json:"datagram_cpu_us,omitempty"`
	Missing     int64   `json:"datagrams_missing"` // sum, as the next two
	Dropped     int64   `json:"datagrams_dropped"` // of the missing ones, by the relay itself
	Disorder    int64   `json:"datagrams_disorder"`
}

// medians are the figures of a RelayResult of which the median counts.
func (r *RelayResult) medians() []*float64 {
	return []*float64{
		&r.Rate, &r.RateBy, &r.CPU, &r.P50, &r.P50More, &r.P99, &r.PingCPU, &r.IdleEntry, &r.IdleExit, &r.Opened, &r.ChurnP99, &r.ChurnCPU,
		&r.AloneP99, &r.BusyP50, &r.BusyP99, &r.BusyRate, &r.TransferRate, &r.FloodP50, &r.FloodP99, &r.FloodRate, &r.Datagrams, &r.DatagramCPU,
	}
}

// sums are those that are added up.
func (r *RelayResult) sums() []*int64 {
	return []*int64{&r.Lost, &r.Missing, &r.Dropped, &r.Disorder}
}

// Relay measures the ways, in rounds: each figure of all ways, one after the other. What
// fails is left out of the results, and in err.
func Relay(ctx context.Context, cfg RelayConfig) (results []RelayResult, err error) {
	chosen, figures, err := cfg.choose()
	if err != nil {
		return nil, err
	}
	if cfg.Busy == 0 {
		cfg.Busy = busyConns
	}
	if err := manyFiles(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pannier-bench-")
	if err != nil {
		return nil, fault.Wrap("make workspace", "", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := writeCertificate(dir); err != nil {
		return nil, err
	}
	samples, failed := map[string][]RelayResult{}, map[string]error{}
	for round := range cfg.Runs {
		now := make([]RelayResult, len(chosen))
		for _, f := range figures {
			for i, w := range chosen {
				what := f.name + " of " + w.name
				if failed[what] != nil || !f.has(w) {
					continue
				}
				if err := measureWay(ctx, cfg, w, f, Job{Dir: dir, Size: cfg.Size}, &now[i]); err != nil {
					if ctx.Err() != nil {
						return nil, fault.Wrap("run", what, ctx.Err())
					}
					failed[what] = fault.Wrap("run", what, err)
					fmt.Fprintf(cfg.Progress, "round %d/%d  %s failed: %v\n", round+1, cfg.Runs, what, err)
				}
			}
		}
		direct := slices.IndexFunc(chosen, func(w way) bool { return w.exit == nil })
		for i, w := range chosen {
			if direct >= 0 && i != direct {
				now[i].against(&now[direct])
			}
			fmt.Fprintf(cfg.Progress, "round %d/%d  %-10s %v\n", round+1, cfg.Runs, w.name, &now[i])
			samples[w.name] = append(samples[w.name], now[i])
		}
	}
	var errs []error
	for _, e := range failed {
		errs = append(errs, e)
	}
	for _, w := range chosen {
		r := medianOfWays(samples[w.name])
		r.Case, r.Runs = w.name, cfg.Runs
		results = append(results, r)
	}
	return results, errors.Join(errs...)
}

// choose is what is to be measured. Ways whose programs are missing are left out, and
// Progress is told.
func (c RelayConfig) choose() (chosen []way, figures []figure, err error) {
	for name, n := range map[string]int64{"runs": int64(c.Runs), "size": c.Size, "calls": int64(c.Calls), "idle": int64(c.Idle), "churn": int64(c.Churn), "datagrams": int64(c.Datagrams)} {
		if n < 1 {
			return nil, nil, fault.New("check flags", fault.Invalid, "--%s is %d; it must be at least 1", name, n)
		}
	}
	if most := max(c.Calls, c.Idle, c.Churn, c.Datagrams); most > maxCount || c.Idle > manyConns {
		return nil, nil, fault.New("check flags", fault.Invalid, "nothing is done more than %d times, and at most %d connections are open", maxCount, manyConns)
	}
	names := c.Cases
	if len(names) == 0 {
		names = Ways()
	}
	for _, name := range names {
		w, err := wayNamed(name)
		if err != nil {
			return nil, nil, err
		}
		if p := w.missing(); p != "" {
			fmt.Fprintf(c.Progress, "%s is left out: there is no %s on this host\n", name, p)
			continue
		}
		chosen = append(chosen, w)
	}
	for _, name := range c.Figures {
		if !slices.Contains(Figures(), name) {
			return nil, nil, fault.New("check flags", fault.Invalid, "no figure %q; use some of %s", name, strings.Join(Figures(), ", "))
		}
	}
	for _, f := range figuresOfWays() {
		if len(c.Figures) > 0 && !slices.Contains(c.Figures, f.name) {
			continue
		}
		figures = append(figures, f)
		for _, w := range chosen {
			if !f.has(w) {
				fmt.Fprintf(c.Progress, "%s of %s is left out: %s\n", f.name, w.name, f.without)
			}
		}
	}
	if len(chosen) == 0 {
		return nil, nil, fault.New("choose cases", fault.Unsupported, "none of the cases can be measured on this host")
	}
	return chosen, figures, nil
}

// measureWay takes one figure of a way, with processes that have done nothing else.
func measureWay(ctx context.Context, cfg RelayConfig, w way, f figure, job Job, out *RelayResult) error {
	ctx, cancel := context.WithTimeout(ctx, maxRun)
	defer cancel()
	r, err := startWay(ctx, cfg.Program, w, job, cfg.Progress)
	if err != nil {
		return err
	}
	return errors.Join(f.measure(ctx, cfg, r, out), r.close())
}

// against completes what is relative to the direct way.
func (r *RelayResult) against(direct *RelayResult) {
	if r.Rate > 0 && direct.Rate > 0 {
		r.RateBy = r.Rate / direct.Rate
	}
	if r.P50 > 0 && direct.P50 > 0 {
		r.P50More = r.P50 - direct.P50
	}
}

// medianOfWays leaves out the rounds that have no figure.
func medianOfWays(runs []RelayResult) (r RelayResult) {
	for i, into := range r.medians() {
		var values []float64
		for j := range runs {
			if v := *runs[j].medians()[i]; v != 0 {
				values = append(values, v)
			}
		}
		*into = median(values)
	}
	for i, into := range r.sums() {
		for j := range runs {
			*into += *runs[j].sums()[i]
		}
	}
	for _, one := range runs {
		r.IdleConns = max(r.IdleConns, one.IdleConns)
	}
	return r
}

func (r *RelayResult) String() string {
	return fmt.Sprintf("%.2f GiB/s  %.2f CPU s/GiB  ping %.0f/%.0f us  idle %.0f/%.0f MiB  %.0f opened/s, p99 %.0f us, %d lost  busy p99 %.0f us  datagrams %d missing, %d dropped",
		r.Rate, r.CPU, r.P50, r.P99, r.IdleEntry, r.IdleExit, r.Opened, r.ChurnP99, r.Lost, r.BusyP99, r.Missing, r.Dropped)
}
