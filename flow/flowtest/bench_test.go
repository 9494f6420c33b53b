package flowtest

import (
	"sync"
	"syscall"
	"testing"
	"time"
)

// BenchmarkRealTime fills a link of 300 Mbit/s and 100 ms and reports what the
// emulation costs: CPU seconds of the whole process per second.
func BenchmarkRealTime(b *testing.B) {
	l := NewLink(LinkConfig{RTT: 100 * time.Millisecond, Rate: 300e6})
	defer l.Close()
	var wg sync.WaitGroup
	b.SetBytes(64 << 20)
	for b.Loop() {
		c, _ := l.Dial(b.Context())
		s, _ := l.Accept()
		cpu, begin := cpuTime(), time.Now()
		wg.Go(func() { send(c, 64<<20); _ = c.Close() })
		_, _ = receive(s)
		_ = s.Close()
		wg.Wait()
		b.ReportMetric((cpuTime()-cpu).Seconds()/time.Since(begin).Seconds(), "cores")
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
