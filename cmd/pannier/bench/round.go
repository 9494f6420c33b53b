package bench

import (
	"context"
	"errors"

	"github.com/pannier/pannier/spec/fault"
)

// named is a case of any benchmark.
type named interface{ Name() string }

// rounds runs every case once, then every case again, and so on, so that a
// change of the machine's mood meets all cases alike. A case that fails is left
// out of later rounds; its samples are dropped and its failure is in err. An
// interruption ends everything.
func rounds[C named, T any](ctx context.Context, cfg Config, cases []C, run func(context.Context, C) (T, error)) (map[string][]T, error) {
	samples := make(map[string][]T, len(cases))
	failed := map[string]error{}
	for round := range cfg.Runs {
		for _, c := range cases {
			if failed[c.Name()] != nil {
				continue
			}
			limited, cancel := context.WithTimeout(ctx, maxRun)
			sample, err := run(limited, c)
			cancel()
			if ctx.Err() != nil {
				return nil, fault.Wrap("run", c.Name(), ctx.Err())
			}
			if err != nil {
				failed[c.Name()] = fault.Wrap("run", c.Name(), err)
				cfg.say("round %d/%d  %-20s failed: %v", round+1, cfg.Runs, c.Name(), err)
				continue
			}
			samples[c.Name()] = append(samples[c.Name()], sample)
			cfg.say("round %d/%d  %-20s %v", round+1, cfg.Runs, c.Name(), sample)
		}
	}
	var errs []error
	for _, c := range cases {
		if err := failed[c.Name()]; err != nil {
			delete(samples, c.Name())
			errs = append(errs, err)
		}
	}
	return samples, errors.Join(errs...)
}

// medianOf is the median of one figure over the samples of a case.
func medianOf[T any](samples []T, figure func(T) float64) float64 {
	return median(figures(samples, figure))
}

func figures[T any](samples []T, figure func(T) float64) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = figure(s)
	}
	return values
}
