package bench

import (
	"context"
	"errors"
	"fmt"
)

// MixedResult is the outcome of one case: medians over the runs.
type MixedResult struct {
	Case    string  `json:"case"`
	IdleP50 float64 `json:"idle_p50_us"`
	IdleP99 float64 `json:"idle_p99_us"`
	BusyP50 float64 `json:"busy_p50_us"` // beside a transfer on the same session or connection
	BusyP99 float64 `json:"busy_p99_us"`
	Rate    float64 `json:"gib_per_s"` // of that transfer
	Calls   int     `json:"calls"`     // in one run, idle and busy each
	Runs    int     `json:"runs"`
}

// mixedSample is one run.
type mixedSample struct{ idle, busy reply }

func (s mixedSample) idleP50() float64 { return s.idle.Latency.P50 }
func (s mixedSample) idleP99() float64 { return s.idle.Latency.P99 }
func (s mixedSample) busyP50() float64 { return s.busy.Latency.P50 }
func (s mixedSample) busyP99() float64 { return s.busy.Latency.P99 }
func (s mixedSample) rate() float64    { return float64(s.busy.Bytes) / gib / s.busy.Seconds }
func (s mixedSample) String() string {
	return fmt.Sprintf("idle %.0f/%.0f us  busy %.0f/%.0f us (p50/p99)  %.2f GiB/s",
		s.idleP50(), s.idleP99(), s.busyP50(), s.busyP99(), s.rate())
}

// Mixed makes small calls alone, then beside one bulk transfer on the same
// session. Results as with Transfer. Config.Concurrent is not used.
func Mixed(ctx context.Context, cfg Config) (_ []MixedResult, err error) {
	cfg.Concurrent = 1
	cfg, err = cfg.checked()
	if err != nil {
		return nil, err
	}
	cases, err := Select(BenchMixed, cfg.Cases)
	if err != nil {
		return nil, err
	}
	w, err := openWorkspace(cfg.Dir, cfg.Size, cfg.Size)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	cfg.say("%s", w.describe())
	samples, err := rounds(ctx, cfg, cases, func(ctx context.Context, c Case) (mixedSample, error) {
		return mixedOnce(ctx, cfg, w, c)
	})
	var results []MixedResult
	for _, c := range cases {
		if s := samples[c.Name()]; len(s) > 0 {
			results = append(results, MixedResult{
				Case: c.Name(), IdleP50: medianOf(s, mixedSample.idleP50), IdleP99: medianOf(s, mixedSample.idleP99),
				BusyP50: medianOf(s, mixedSample.busyP50), BusyP99: medianOf(s, mixedSample.busyP99),
				Rate: medianOf(s, mixedSample.rate), Calls: cfg.Calls, Runs: len(s),
			})
		}
	}
	return results, err
}

func mixedOnce(ctx context.Context, cfg Config, w *workspace, c Case) (mixedSample, error) {
	job := cfg.job(BenchMixed, w.dir)
	job.Case = c.Name()
	return withPair(ctx, cfg, job, cfg.Link, func(ends *pair) (s mixedSample, err error) {
		if _, err := ends.client.ask(order{Verb: verbCalls, Count: warmUp(cfg.Calls)}); err != nil {
			return s, err
		}
		if s.idle, err = ends.client.ask(order{Verb: verbCalls, Count: cfg.Calls}); err != nil {
			return s, err
		}
		s.busy, err = ends.client.ask(order{Verb: verbBeside, Count: cfg.Calls})
		return s, err
	})
}
