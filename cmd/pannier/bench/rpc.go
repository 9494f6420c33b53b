package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// callRTT is the round trip under which round trips are counted: long beside
// anything the machine does.
const callRTT = 40 * time.Millisecond

// CallResult is the outcome of one case: medians over the runs.
type CallResult struct {
	Case       string  `json:"case"`
	P50        float64 `json:"p50_us"`
	CPU        float64 `json:"cpu_us_per_call"` // user and system, both ends
	RoundTrips float64 `json:"round_trips"`     // of the first call of a connection that is up, over 40 ms of delay
	OverTCP    float64 `json:"round_trips_tcp"` // the same with TCP's slow start, whose first window is 14,600 bytes
	P99        float64 `json:"p99_us"`
	UserCPU    float64 `json:"user_us_per_call"` // both ends
	Calls      int     `json:"calls"`            // in one run
	Runs       int     `json:"runs"`
}

// callSample is one run.
type callSample struct {
	measured
	firstCall float64 // microseconds over callRTT
	slowStart float64 // the same with slow start
}

func (s callSample) p50() float64        { return s.Latency.P50 }
func (s callSample) p99() float64        { return s.Latency.P99 }
func (s callSample) roundTrips() float64 { return s.firstCall / float64(callRTT/time.Microsecond) }
func (s callSample) overTCP() float64    { return s.slowStart / float64(callRTT/time.Microsecond) }
func (s callSample) cpu() float64        { return s.perCall(s.client.CPU() + s.server.CPU()) }
func (s callSample) userCPU() float64    { return s.perCall(s.client.User + s.server.User) }
func (s callSample) perCall(seconds float64) float64 {
	return seconds * 1e6 / float64(s.Latency.Count)
}
func (s callSample) String() string {
	return fmt.Sprintf("p50 %.0f us  %.0f CPU us/call  %.2f round trips", s.p50(), s.cpu(), s.roundTrips())
}

// RPC makes calls by every case chosen, one after the other on one connection.
// Results as with Transfer. Config.Size, Concurrent and Link are not used.
func RPC(ctx context.Context, cfg Config) (_ []CallResult, err error) {
	cfg.Size, cfg.Concurrent = 1, 1
	cfg, err = cfg.checked()
	if err != nil {
		return nil, err
	}
	cases, err := Select(BenchRPC, cfg.Cases)
	if err != nil {
		return nil, err
	}
	w, err := openWorkspace(cfg.Dir, cfg.Size, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	samples, err := rounds(ctx, cfg, cases, func(ctx context.Context, c Case) (callSample, error) {
		return callOnce(ctx, cfg, w, c)
	})
	var results []CallResult
	for _, c := range cases {
		if s := samples[c.Name()]; len(s) > 0 {
			results = append(results, CallResult{
				Case: c.Name(), P50: medianOf(s, callSample.p50), P99: medianOf(s, callSample.p99),
				CPU: medianOf(s, callSample.cpu), UserCPU: medianOf(s, callSample.userCPU),
				RoundTrips: medianOf(s, callSample.roundTrips), OverTCP: medianOf(s, callSample.overTCP), Calls: cfg.Calls, Runs: len(s),
			})
		}
	}
	return results, err
}

// callOnce times many calls on the loopback, then the first one over callRTT
// without and with TCP's slow start.
func callOnce(ctx context.Context, cfg Config, w *workspace, c Case) (s callSample, err error) {
	job := cfg.job(BenchRPC, w.dir)
	job.Case = c.Name()
	s.measured, err = withPair(ctx, cfg, job, Link{}, func(ends *pair) (measured, error) {
		if _, err := ends.client.ask(order{Verb: verbCalls, Count: warmUp(cfg.Calls)}); err != nil {
			return measured{}, err
		}
		return ends.measure(order{Verb: verbCalls, Count: cfg.Calls})
	})
	if err != nil {
		return s, err
	}
	for _, first := range []struct {
		link Link
		into *float64
	}{{Link{RTT: callRTT, Open: true}, &s.firstCall}, {Link{RTT: callRTT}, &s.slowStart}} {
		m, err := withPair(ctx, cfg, job, first.link, func(ends *pair) (measured, error) {
			return ends.measure(order{Verb: verbCalls, Count: 1})
		})
		if err != nil {
			return s, err
		}
		*first.into = m.Latency.P50
	}
	return s, nil
}

// warmUp is how many calls precede those that count.
func warmUp(calls int) int { return max(1, calls/10) }
