package host_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
)

// zeros is a driver of one file without an end to write to, and 1 GiB to read.
type zeros struct{}

func (zeros) Describe() plugins.Description {
	return plugins.Description{Name: "zeros", Version: "1", Schemes: []string{"zeros"}}
}
func (zeros) Open(context.Context, plugins.Endpoint) (plugins.Session, error) { return zeros{}, nil }
func (zeros) Capabilities() plugins.Capabilities                              { return plugins.Capabilities{Write: true} }
func (zeros) Stat(context.Context, string) (plugins.Attr, error)              { return plugins.Attr{}, nil }
func (zeros) Close() error                                                    { return nil }
func (zeros) Read(context.Context, string, int64) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeroes{}, 1<<30)), nil
}
func (zeros) Write(context.Context, string, plugins.WriteRequest) (plugins.Staged, error) {
	return sink{}, nil
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { return len(p), nil }

type sink struct{}

func (sink) Offset() int64                                        { return 0 }
func (sink) Write(p []byte) (int, error)                          { return len(p), nil }
func (sink) Commit(context.Context) (plugins.Attr, error)         { return plugins.Attr{}, nil }
func (sink) Abort(context.Context, bool) (resume []byte, _ error) { return nil, nil }

// cpu is what this process and another have computed, in seconds.
func cpu(b *testing.B, pid int) float64 {
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		b.Fatal(err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Skip("this system does not say what a process has computed: ", err)
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	ticks := 0.0
	for _, f := range fields[11:13] {
		n, _ := strconv.ParseFloat(string(f), 64)
		ticks += n
	}
	return time.Duration(own.Utime.Nano()+own.Stime.Nano()).Seconds() + ticks/100
}

// BenchmarkBytes is 1 GiB of memory to or from a plugin, by descriptors and by messages:
// processor seconds of both processes a GiB.
func BenchmarkBytes(b *testing.B) {
	for name, messages := range map[string]bool{"channel": false, "messages": true} {
		cfg, _ := config(b)
		cfg.Args, cfg.Messages = []string{"zeros"}, messages
		p := run(b, cfg)
		st, err := p.Describe(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		s, err := p.Open(b.Context(), plugins.Endpoint{})
		if err != nil {
			b.Fatal(err)
		}
		measure := func(b *testing.B, one func() error) {
			b.SetBytes(1 << 30)
			before := cpu(b, st.PID)
			for b.Loop() {
				if err := one(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((cpu(b, st.PID)-before)/float64(b.N), "cpu-s/GiB")
		}
		b.Run("read/"+name, func(b *testing.B) {
			measure(b, func() error {
				r, err := s.Read(b.Context(), "/a", 0)
				if err != nil {
					return err
				}
				if _, err := io.Copy(discard{}, r); err != nil {
					return err
				}
				return r.Close()
			})
		})
		b.Run("write/"+name, func(b *testing.B) {
			measure(b, func() error {
				w, err := s.(plugins.Writer).Write(b.Context(), "/a", plugins.WriteRequest{Size: 1 << 30})
				if err != nil {
					return err
				}
				if _, err := io.Copy(w, io.LimitReader(zeroes{}, 1<<30)); err != nil {
					return err
				}
				_, err = w.Commit(b.Context())
				return err
			})
		})
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// discard is io.Discard without its own buffers.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkStart is from nothing to the plugin's description, and its memory then.
func BenchmarkStart(b *testing.B) {
	cfg, _ := config(b)
	rss := 0.0
	for b.Loop() {
		p := host.New(cfg)
		st, err := p.Describe(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", st.PID))
		if err != nil {
			b.Skip("this system does not say what memory a process has: ", err)
		}
		for _, line := range bytes.Split(status, []byte("\n")) {
			if v, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
				rss, _ = strconv.ParseFloat(string(bytes.Fields(v)[0]), 64)
			}
		}
		if err := p.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(rss/1024, "RSS-MiB")
}

// BenchmarkStat is the smallest call.
func BenchmarkStat(b *testing.B) {
	cfg, _ := config(b)
	s := open(b, run(b, cfg), b.TempDir())
	for b.Loop() {
		if _, err := s.Stat(b.Context(), "/"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSmall is a file of 4 KiB, read.
func BenchmarkSmall(b *testing.B) {
	for name, messages := range map[string]bool{"channel": false, "messages": true} {
		b.Run(name, func(b *testing.B) {
			cfg, _ := config(b)
			cfg.Messages = messages
			s := open(b, run(b, cfg), b.TempDir())
			put(b, s, "/a", make([]byte, 4096))
			for b.Loop() {
				if got := get(b, s, "/a"); len(got) != 4096 {
					b.Fatal(len(got))
				}
			}
		})
	}
}
