package bench

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pannier/pannier/spec/fault"
)

func TestRoundsAlternate(t *testing.T) {
	var order []string
	samples, err := rounds(t.Context(), Config{Runs: 2, Progress: io.Discard}, baselines(), func(_ context.Context, c Case) (int, error) {
		order = append(order, c.Name())
		return len(order), nil
	})
	want := slices.Concat(Names(baselines()), Names(baselines()))
	if err != nil || !slices.Equal(order, want) {
		t.Errorf("%v, %v", order, err)
	}
	if !slices.Equal(samples["raw-tcp"], []int{1, 5}) {
		t.Errorf("samples %v", samples)
	}
}

func TestRoundsDropAFailedCase(t *testing.T) {
	ran := 0
	samples, err := rounds(t.Context(), Config{Runs: 3, Progress: io.Discard}, baselines(), func(_ context.Context, c Case) (int, error) {
		if c.Name() != "raw-tls" {
			return 0, nil
		}
		if ran++; ran == 2 {
			return 0, fault.New("run", fault.Lost, "on purpose")
		}
		return 0, nil
	})
	if !errors.Is(err, fault.Lost) || ran != 2 || len(samples) != 3 || samples["raw-tls"] != nil {
		t.Errorf("ran %d, %v, %v", ran, samples, err)
	}
}

func TestRoundsStopWhenInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ran := 0
	samples, err := rounds(ctx, Config{Runs: 3, Progress: io.Discard}, baselines(), func(context.Context, Case) (int, error) {
		ran++
		cancel()
		return 0, fault.New("run", fault.Lost, "an end died of the interrupt")
	})
	if fault.KindOf(err) != fault.Canceled || ran != 1 || samples != nil {
		t.Errorf("ran %d, %v, %v", ran, samples, err)
	}
}

func TestPercentile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := slices.Sorted(slices.Values(rapid.SliceOfN(rapid.Int(), 1, 200).Draw(t, "values")))
		p := rapid.IntRange(1, 100).Draw(t, "p")
		got := percentile(values, p)
		notLarger := 0
		below := 0
		for _, v := range values {
			if v <= got {
				notLarger++
			}
			if v < got {
				below++
			}
		}
		if notLarger*100 < p*len(values) || below*100 >= p*len(values) {
			t.Fatalf("p%d of %v is %d", p, values, got)
		}
	})
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %v", c.values, got)
		}
	}
}
