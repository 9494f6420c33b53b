package host_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
)

// late is a session whose Stat takes as long as its name says, in microseconds.
type late struct{ plugins.Session }

func (l late) Stat(ctx context.Context, name string) (plugins.Attr, error) {
	us, err := strconv.Atoi(name[1:])
	if us > 0 {
		time.Sleep(time.Duration(us) * time.Microsecond)
	}
	return plugins.Attr{Name: name}, err
}

// BenchmarkCall is a call without bytes to a plugin that answers at once, and to one that both processes wait for: they
// have to be woken then.
func BenchmarkCall(b *testing.B) {
	for _, us := range []int{0, 600} {
		b.Run(fmt.Sprintf("after %d µs", us), func(b *testing.B) {
			cfg, _ := config(b)
			p := run(b, cfg)
			s, err := p.Open(b.Context(), plugins.Endpoint{URL: "odd:late"})
			if err != nil {
				b.Fatal(err)
			}
			is, err := p.Describe(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			host, plugin := usedHere(), usedBy(is.PID)
			for b.Loop() {
				if _, err := s.Stat(b.Context(), fmt.Sprint("/", us)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((usedHere()-host).Microseconds())/float64(b.N), "host-cpu-µs/op")
			b.ReportMetric(float64((usedBy(is.PID)-plugin).Microseconds())/float64(b.N), "plugin-cpu-µs/op")
		})
	}
}

// usedHere is the processor time that this process has taken, usedBy what another has.
func usedHere() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func usedBy(pid int) (all time.Duration) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, thread := range threads {
		text, _ := os.ReadFile(thread)
		var ns time.Duration
		_, _ = fmt.Sscan(string(text), &ns)
		all += ns
	}
	return all
}
