package bench

import (
	"cmp"
	"slices"
	"time"
)

// Latency sums up the times of calls, in microseconds.
type Latency struct {
	P50   float64 `json:"p50_us"`
	P99   float64 `json:"p99_us"`
	Max   float64 `json:"max_us"`
	Count int     `json:"count"`
}

// summarize sorts times.
func summarize(times []time.Duration) *Latency {
	if len(times) == 0 {
		return &Latency{}
	}
	slices.Sort(times)
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	return &Latency{
		P50: us(percentile(times, 50)), P99: us(percentile(times, 99)),
		Max: us(times[len(times)-1]), Count: len(times),
	}
}

// percentile is the nearest-rank percentile of sorted values: the smallest of
// which at least p in a hundred are not larger.
func percentile[T any](sorted []T, p int) T {
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

// median of values, the lower one of an even count; the zero value of none.
func median[T cmp.Ordered](values []T) T {
	if len(values) == 0 {
		var zero T
		return zero
	}
	return percentile(slices.Sorted(slices.Values(values)), 50)
}
