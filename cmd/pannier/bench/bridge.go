package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/fault"
)

// BridgeConfig is what to measure of plugins.
type BridgeConfig struct {
	Cases    []string         // of BridgeCases; none: all that can be measured
	Runs     int              // rounds, of which the median counts
	Size     int64            // bytes of the large file
	Files    int              // how many small ones there are; half as many are copied between servers
	Dir      string           // where files go. Default: a tmpfs if there is one
	Endpoint plugins.Endpoint // a server; without URL only what needs none is measured
	CopyTo   plugins.Endpoint // another of the same kind, that the first copies to; without URL nothing is copied
	Zeros    host.Config      // runs the driver Zeros
	Plugin   host.Config      // runs the driver of the endpoints
	Progress io.Writer
}

// BridgeResult is one case: medians over the runs, figure by figure; 0 was not measured.
// Processor time is of all processes on this side of the server: this one and the
// plugin's, or the other client's.
type BridgeResult struct {
	Case      string  `json:"case"`
	Runs      int     `json:"runs"`
	Rate      float64 `json:"gib_per_s,omitempty"`
	CPU       float64 `json:"cpu_s_per_gib,omitempty"`
	PerSecond float64 `json:"per_s,omitempty"`   // files, or calls
	Each      float64 `json:"ms_each,omitempty"` // wall clock, divided by how many files there were
	EachCPU   float64 `json:"cpu_ms_each,omitempty"`
	P50       float64 `json:"p50_us,omitempty"`
	P99       float64 `json:"p99_us,omitempty"`
	FirstCall float64 `json:"first_call_ms,omitempty"` // from nothing to the answer
	RSS       float64 `json:"rss_mib,omitempty"`       // of the plugin's process, idle
	Against   string  `json:"against,omitempty"`       // another case of the same round
	AgainstBy float64 `json:"rate_ratio,omitempty"`    // how many times its rate
}

func (r *BridgeResult) medians() []*float64 {
	return []*float64{&r.Rate, &r.CPU, &r.PerSecond, &r.Each, &r.EachCPU, &r.P50, &r.P99, &r.FirstCall, &r.RSS, &r.AgainstBy}
}

func (r BridgeResult) String() string {
	var b strings.Builder
	for _, f := range []struct {
		v    float64
		text string
	}{{r.Rate, "%.2f GiB/s"}, {r.CPU, "%.2f CPU s/GiB"}, {r.PerSecond, "%.0f/s"}, {r.Each, "%.2f ms each"}, {r.EachCPU, "%.2f CPU ms each"}, {r.P50, "p50 %.0f us"}, {r.P99, "p99 %.0f us"},
		{r.FirstCall, "first call after %.1f ms"}, {r.RSS, "%.1f MiB"}} {
		if f.v != 0 {
			fmt.Fprintf(&b, "  "+f.text, f.v)
		}
	}
	return strings.TrimSpace(b.String())
}

// moved fills in what follows from bytes, files and times.
func (r *BridgeResult) moved(bytes int64, files int, seconds, cpu float64) {
	gibs := float64(bytes) / gib
	r.Rate, r.CPU = gibs/seconds, cpu/gibs
	if files > 1 {
		n := float64(files)
		r.PerSecond, r.Each, r.EachCPU = n/seconds, seconds*1000/n, cpu*1000/n
	}
}

// A bridgeCase is something that plugins, or others in their place, do.
type bridgeCase struct {
	name    string
	needs   int    // what has to be given
	rival   rival  // who does it; nil: a plugin
	instead string // of which case, then
	against string // what a plugin's is compared with; set by choose
	run     func(context.Context, *bridgeBench) (BridgeResult, error)
}

// What a case needs.
const (
	needsNothing = iota
	needsServer
	needsTwo // servers
)

// Name is what the case is called.
func (c bridgeCase) Name() string { return c.name }

func bridgeCases() []bridgeCase { return slices.Concat(memoryCases(), serverCases(), copyCases()) }

// BridgeCases are the names of all cases, those included that need servers.
func BridgeCases() []string { return Names(bridgeCases()) }

// Bridge measures plugins, in rounds. What fails is left out of the results, and in err;
// what cannot be measured here is said to Progress.
func Bridge(ctx context.Context, cfg BridgeConfig) (results []BridgeResult, err error) {
	chosen, err := cfg.choose()
	if err != nil {
		return nil, err
	}
	b := &bridgeBench{cfg: cfg}
	if slices.ContainsFunc(chosen, func(c bridgeCase) bool { return c.needs > needsNothing }) {
		defer func() { err = errors.Join(err, b.leave(context.WithoutCancel(ctx))) }()
		if err := b.prepare(ctx, chosen); err != nil {
			return nil, err
		}
	}
	round := Config{Runs: cfg.Runs, Progress: cfg.Progress}
	samples, err := rounds(ctx, round, chosen, func(ctx context.Context, c bridgeCase) (BridgeResult, error) {
		return c.run(ctx, b)
	})
	for _, c := range chosen {
		runs := samples[c.name]
		if len(runs) == 0 {
			continue
		}
		for i, other := range samples[c.against] {
			runs[i].Against, runs[i].AgainstBy = c.against, runs[i].Rate/other.Rate
		}
		r := runs[0]
		for i, into := range r.medians() {
			*into = medianOf(runs, func(r BridgeResult) float64 { return *r.medians()[i] })
		}
		r.Case, r.Runs = c.name, len(runs)
		results = append(results, r)
	}
	return results, err
}

// choose is what is to be measured, as far as it can be.
func (c BridgeConfig) choose() (chosen []bridgeCase, err error) {
	const op = "check flags"
	switch {
	case c.Runs < 1 || c.Runs > maxRuns:
		return nil, fault.New(op, fault.Invalid, "--runs is %d; it must be from 1 to %d", c.Runs, maxRuns)
	case c.Size < 1:
		return nil, fault.New(op, fault.Invalid, "--size is %d; it must be at least 1", c.Size)
	case c.Files < 2 || c.Files > maxConcurrent:
		return nil, fault.New(op, fault.Invalid, "--files is %d; it must be from 2 to %d", c.Files, maxConcurrent)
	case c.CopyTo.URL != "" && c.Endpoint.URL == "":
		return nil, fault.New(op, fault.Invalid, "--copy-to without --endpoint; give the server that it is copied from, too")
	case c.CopyTo.URL != "" && scheme(c.CopyTo.URL) != scheme(c.Endpoint.URL):
		return nil, fault.New(op, fault.Invalid, "--copy-to is %s://, --endpoint %s://; servers copy directly only by one protocol", scheme(c.CopyTo.URL), scheme(c.Endpoint.URL))
	}
	has := needsNothing
	if c.Endpoint.URL != "" {
		has = needsServer
	}
	if c.CopyTo.URL != "" {
		has = needsTwo
	}
	all := bridgeCases()
	for _, name := range c.Cases {
		i := slices.IndexFunc(all, func(c bridgeCase) bool { return c.name == name })
		switch {
		case i < 0:
			return nil, fault.New("choose cases", fault.Invalid, "no case %q; there are %s", name, strings.Join(Names(all), ", "))
		case all[i].needs > has:
			return nil, fault.New("choose cases", fault.Invalid, "%s needs %s", name, []string{needsServer: "a server: give --endpoint", needsTwo: "two servers: give --endpoint and --copy-to"}[all[i].needs])
		}
	}
	said := map[string]bool{}
	for _, one := range all {
		if one.needs > has || len(c.Cases) > 0 && !slices.Contains(c.Cases, one.name) {
			continue
		}
		if one.rival != nil {
			ends := []plugins.Endpoint{c.Endpoint}
			if one.needs == needsTwo {
				ends = append(ends, c.CopyTo)
			}
			if why := one.rival.lacks(ends...); why != "" {
				if why != otherScheme && !said[why] {
					said[why] = true
					fmt.Fprintf(c.Progress, "%s: not compared\n", why)
				}
				continue
			}
		}
		chosen = append(chosen, one)
	}
	for _, theirs := range chosen {
		if i := slices.IndexFunc(chosen, func(c bridgeCase) bool { return c.name == theirs.instead }); i >= 0 {
			chosen[i].against = theirs.name
		}
	}
	if len(chosen) == 0 {
		return nil, fault.New("choose cases", fault.Unsupported, "none of the cases can be measured here")
	}
	return chosen, nil
}

// scheme is the part of a URL before "://".
func scheme(url string) string {
	s, _, _ := strings.Cut(url, "://")
	return s
}
