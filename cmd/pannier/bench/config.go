package bench

import (
	"fmt"
	"io"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Limits of a Config.
const (
	maxRuns       = 1000
	maxConcurrent = 10_000
	maxLanes      = 8
)

// Config is what to measure. Zero values are the defaults.
type Config struct {
	Cases      []string // names; none: all of the benchmark
	Runs       int      // rounds, of which the median counts. Default 3, at most 1000
	Size       int64    // bytes moved in one run, all files together. Default 1 GiB
	Concurrent int      // files moved at once, Size/Concurrent bytes each. Default 1, at most 10 000
	Lanes      int      // bulk connections of a session. Default: as the session decides, at most 8
	Calls      int      // calls timed in one run. Default 5000, at most 10 000 000
	Dir        string   // where the files go. Default: a tmpfs if there is one
	Link       Link     // between the ends. Default: plain loopback

	Program  Program   // how to start an end; required
	Progress io.Writer // messages and the ends' stderr. Default: none
}

// checked returns the Config with its defaults filled in.
func (c Config) checked() (Config, error) {
	for _, l := range []struct {
		name     string
		field    *int
		def, max int
	}{
		{"runs", &c.Runs, 3, maxRuns},
		{"concurrent", &c.Concurrent, 1, maxConcurrent},
		{"calls", &c.Calls, 5000, maxCount},
		{"lanes", &c.Lanes, 0, maxLanes},
	} {
		if *l.field == 0 {
			*l.field = l.def
		}
		if *l.field < 0 || *l.field > l.max {
			return c, fault.New("check flags", fault.Invalid, "--%s is %d; it must be from 0 to %d", l.name, *l.field, l.max)
		}
	}
	if c.Size == 0 {
		c.Size = 1 << 30
	}
	if c.Size < int64(c.Concurrent) {
		return c, fault.New("check flags", fault.Invalid, "--size %d is less than a byte for each of %d files", c.Size, c.Concurrent)
	}
	if c.Program.Path == "" || len(c.Program.Args) == 0 {
		return c, fault.New("check flags", fault.Internal, "Config.Program is not set")
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c, c.Link.check()
}

// job is what both ends of every run of a benchmark have in common.
func (c Config) job(bench, dir string) Job {
	return Job{Bench: bench, Dir: dir, Size: c.Size / int64(c.Concurrent), Concurrent: c.Concurrent, Lanes: c.Lanes}
}

// say writes one line of progress.
func (c Config) say(format string, args ...any) {
	fmt.Fprintf(c.Progress, format+"\n", args...)
}

// Link is the path between the ends. The zero Link is the loopback itself.
type Link struct {
	RTT  time.Duration // round trip, at most 10 s
	Rate int64         // bits per second, all connections together; 0: unlimited
	Loss float64       // probability that a segment is lost, at most 0.5
	Open bool          // no slow start: what counts is the protocol, not TCP's first window of 14,600 bytes
}

// Emulated reports whether anything lies between the ends.
func (l Link) Emulated() bool { return l != Link{} }

func (l Link) check() error {
	if l.RTT < 0 || l.RTT > 10*time.Second {
		return fault.New("check flags", fault.Invalid, "--rtt is %s; it must be from 0 to 10s", l.RTT)
	}
	if l.Rate < 0 {
		return fault.New("check flags", fault.Invalid, "--rate is %d bit/s; it must not be negative", l.Rate)
	}
	if !(l.Loss >= 0 && l.Loss <= 0.5) { // also refuses NaN
		return fault.New("check flags", fault.Invalid, "--loss is %g; it must be a probability from 0 to 0.5, as 0.001", l.Loss)
	}
	return nil
}
