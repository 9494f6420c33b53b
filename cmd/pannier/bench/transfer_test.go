package bench

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

func TestTransfer(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"one file":       func(*Config) {},
		"five at once":   func(c *Config) { c.Concurrent = 5 },
		"one byte":       func(c *Config) { c.Size = 1 },
		"over a link":    func(c *Config) { c.Size, c.Link.RTT = 40_000, 5*time.Millisecond },
		"two rounds":     func(c *Config) { c.Runs = 2 },
		"whole messages": func(c *Config) { c.Size = 4 * largeChunk },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := small(t)
			change(&cfg)
			cfg.Cases = transferCases(cfg)
			results, err := Transfer(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if len(results) != len(cfg.Cases) {
				t.Fatalf("%d results for %d cases", len(results), len(cfg.Cases))
			}
			for i, r := range results {
				if r.Case != cfg.Cases[i] || r.Runs != cfg.Runs || r.Rate <= 0 || r.SourceRSS <= 0 || r.SinkRSS <= 0 {
					t.Errorf("%+v", r)
				}
				if r.MaxRSS < r.SourceRSS || r.MaxRSS < r.SinkRSS || r.RateMin > r.Rate || r.Rate > r.RateMax {
					t.Errorf("order of figures: %+v", r)
				}
			}
			empty(t, cfg.Dir)
		})
	}
}

// transferCases are all that work on the link; a unix socket has none.
func transferCases(cfg Config) []string {
	names := Names(Cases(BenchTransfer))
	if cfg.Link.Emulated() {
		names = slices.DeleteFunc(names, func(n string) bool { return n == "session-unix" })
	}
	return names
}

func TestRPC(t *testing.T) {
	cfg := small(t)
	results, err := RPC(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.RoundTrips < 1 || r.P50 <= 0 || r.P99 < r.P50 || r.Calls != cfg.Calls {
			t.Errorf("%+v", r)
		}
	}
	empty(t, cfg.Dir)
}

func TestMixed(t *testing.T) {
	cfg := small(t)
	results, err := Mixed(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.IdleP50 <= 0 || r.BusyP99 < r.BusyP50 || r.Rate <= 0 {
			t.Errorf("%+v", r)
		}
	}
	empty(t, cfg.Dir)
}

func TestTransferErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		kind   fault.Kind
	}{
		{"unknown case", func(c *Config) { c.Cases = []string{"carrier-pigeon"} }, fault.Invalid},
		{"case twice", func(c *Config) { c.Cases = []string{"raw-tcp", "raw-tcp"} }, fault.Invalid},
		{"too many runs", func(c *Config) { c.Runs = maxRuns + 1 }, fault.Invalid},
		{"less than a byte each", func(c *Config) { c.Size, c.Concurrent = 4, 5 }, fault.Invalid},
		{"loss", func(c *Config) { c.Link.Loss = 1 }, fault.Invalid},
		{"no room", func(c *Config) { c.Size = 1 << 60 }, fault.NoSpace},
		{"no such directory", func(c *Config) { c.Dir += "/absent" }, fault.NotFound},
		{"no program", func(c *Config) { c.Program = Program{} }, fault.Internal},
		{"absent program", func(c *Config) { c.Program.Path = c.Dir + "/absent" }, fault.NotFound},
		{"program that dies", func(c *Config) { c.Program = Program{Path: "/bin/false", Args: []string{"false"}} }, fault.Lost},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := small(t)
			dir := cfg.Dir
			cfg.Cases = []string{"raw-tcp"}
			c.change(&cfg)
			results, err := Transfer(t.Context(), cfg)
			if fault.KindOf(err) != c.kind || len(results) != 0 {
				t.Errorf("%v: %v, want %v", results, err, c.kind)
			}
			empty(t, dir)
		})
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cfg := small(t)
	if _, err := Transfer(ctx, cfg); !errors.Is(err, fault.Canceled) && fault.KindOf(err) != fault.Canceled {
		t.Error(err)
	}
	empty(t, cfg.Dir)
}

func TestTransferNoticesDamage(t *testing.T) {
	cfg := small(t)
	liar, err := Self("liar")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PANNIER_TEST_TARGET", cfg.Dir)
	cfg.Program, cfg.Cases = liar, []string{"raw-tcp", "grpc-chunk-1m"}
	results, err := Transfer(t.Context(), cfg)
	if !errors.Is(err, fault.Corrupt) || len(results) != 0 {
		t.Errorf("%v, %v", results, err)
	}
	empty(t, cfg.Dir)
}

func TestFailureAtAnEndIsReported(t *testing.T) {
	cfg := small(t)
	job := Job{Role: RoleConnect, Bench: BenchTransfer, Case: "carrier-pigeon", Dir: cfg.Dir, Concurrent: 1}
	_, _, err := startProcess(t.Context(), cfg.Program, job, cfg.Progress)
	if e, ok := errors.AsType[*fault.Error](err); !ok || e.Kind != fault.Invalid || e.Side != fault.Peer {
		t.Error(err)
	}
}
