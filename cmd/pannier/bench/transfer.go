package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

const (
	gib = 1 << 30
	mib = 1 << 20
)

// TransferResult is the outcome of one case: medians over the runs, figure by
// figure. The clock runs from opening the source to the other end's word that
// the target is complete; connecting is not in it, checking the target neither.
type TransferResult struct {
	Case      string  `json:"case"`
	Rate      float64 `json:"gib_per_s"`
	CPU       float64 `json:"cpu_s_per_gib"` // user and system, both ends
	MaxRSS    float64 `json:"max_rss_mib"`   // of the larger end
	RateMin   float64 `json:"gib_per_s_min"` // slowest run
	RateMax   float64 `json:"gib_per_s_max"` // fastest run
	SourceCPU float64 `json:"source_cpu_s_per_gib"`
	SinkCPU   float64 `json:"sink_cpu_s_per_gib"`
	UserCPU   float64 `json:"user_s_per_gib"` // both ends
	SourceRSS float64 `json:"source_rss_mib"`
	SinkRSS   float64 `json:"sink_rss_mib"`
	Seconds   float64 `json:"seconds"`
	Bytes     int64   `json:"bytes"` // in one run
	Files     int     `json:"files"` // in one run, moved at once
	Runs      int     `json:"runs"`
	TmpFS     bool    `json:"tmpfs"` // source and target were in memory
}

// moveSample is one run.
type moveSample struct{ measured }

func (s moveSample) rate() float64    { return s.gibs() / s.Seconds }
func (s moveSample) gibs() float64    { return float64(s.Bytes) / gib }
func (s moveSample) maxRSS() float64  { return float64(max(s.client.PeakRSS, s.server.PeakRSS)) / mib }
func (s moveSample) cpu() float64     { return (s.client.CPU() + s.server.CPU()) / s.gibs() }
func (s moveSample) userCPU() float64 { return (s.client.User + s.server.User) / s.gibs() }
func (s moveSample) String() string {
	return fmt.Sprintf("%.2f GiB/s  %.2f CPU s/GiB  %.0f MiB", s.rate(), s.cpu(), s.maxRSS())
}

// Transfer moves files by every case chosen. Results come in the order of the
// cases; those of cases that failed are missing and their failures in err.
func Transfer(ctx context.Context, cfg Config) (_ []TransferResult, err error) {
	cfg, err = cfg.checked()
	if err != nil {
		return nil, err
	}
	cases, err := Select(BenchTransfer, cfg.Cases)
	if err != nil {
		return nil, err
	}
	size := cfg.Size / int64(cfg.Concurrent)
	w, err := openWorkspace(cfg.Dir, size, size*int64(cfg.Concurrent))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	cfg.say("%s", w.describe())
	samples, err := rounds(ctx, cfg, cases, func(ctx context.Context, c Case) (moveSample, error) {
		return transferOnce(ctx, cfg, w, c)
	})
	var results []TransferResult
	for _, c := range cases {
		if s := samples[c.Name()]; len(s) > 0 {
			results = append(results, transferResult(c, cfg, w, s))
		}
	}
	return results, err
}

func transferOnce(ctx context.Context, cfg Config, w *workspace, c Case) (s moveSample, err error) {
	job := cfg.job(BenchTransfer, w.dir)
	job.Case = c.Name()
	defer func() { err = errors.Join(err, w.discard(job)) }()
	s.measured, err = withPair(ctx, cfg, job, cfg.Link, func(ends *pair) (measured, error) {
		return ends.measure(order{Verb: verbMove})
	})
	if err != nil {
		return s, err
	}
	return s, w.verify(job)
}

func transferResult(c Case, cfg Config, w *workspace, s []moveSample) TransferResult {
	rates := figures(s, moveSample.rate)
	perGiB := func(figure func(moveSample) float64) float64 {
		return medianOf(s, func(s moveSample) float64 { return figure(s) / s.gibs() })
	}
	return TransferResult{
		Case: c.Name(), Rate: median(rates), RateMin: slices.Min(rates), RateMax: slices.Max(rates),
		CPU: medianOf(s, moveSample.cpu), UserCPU: medianOf(s, moveSample.userCPU),
		SourceCPU: perGiB(func(s moveSample) float64 { return s.client.CPU() }),
		SinkCPU:   perGiB(func(s moveSample) float64 { return s.server.CPU() }),
		MaxRSS:    medianOf(s, moveSample.maxRSS),
		SourceRSS: medianOf(s, func(s moveSample) float64 { return float64(s.client.PeakRSS) / mib }),
		SinkRSS:   medianOf(s, func(s moveSample) float64 { return float64(s.server.PeakRSS) / mib }),
		Seconds:   medianOf(s, func(s moveSample) float64 { return s.Seconds }),
		Bytes:     s[0].Bytes, Files: cfg.Concurrent, Runs: len(s), TmpFS: w.tmpfs,
	}
}
