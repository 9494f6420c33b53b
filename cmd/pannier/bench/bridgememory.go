package bench

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/fault"
)

// What is measured without a server: the way between host and plugin alone. Each run has
// a process of its own.

const (
	smallFile  = 4000
	smallFiles = 1000 // of one run
	statCalls  = 2000 // of one run
	starts     = 6    // of one run
)

func memoryCases() []bridgeCase {
	way := func(name string, messages bool, move func(context.Context, plugins.Session, int64) error) bridgeCase {
		return bridgeCase{name: name, run: func(ctx context.Context, b *bridgeBench) (BridgeResult, error) {
			return b.fromMemory(ctx, messages, func(s plugins.Session, timed func(func() error) (float64, float64, error)) (r BridgeResult, err error) {
				if err := move(ctx, s, min(b.cfg.Size, mib)); err != nil { // pools are filled
					return r, err
				}
				seconds, cpu, err := timed(func() error { return move(ctx, s, b.cfg.Size) })
				r.moved(b.cfg.Size, 1, seconds, cpu)
				return r, err
			})
		}}
	}
	small := func(name string, move func(context.Context, plugins.Session, int64) error) bridgeCase {
		return bridgeCase{name: name, run: func(ctx context.Context, b *bridgeBench) (BridgeResult, error) {
			return b.fromMemory(ctx, false, func(s plugins.Session, timed func(func() error) (float64, float64, error)) (r BridgeResult, err error) {
				seconds, cpu, err := timed(func() error {
					for range smallFiles {
						if err := move(ctx, s, smallFile); err != nil {
							return err
						}
					}
					return nil
				})
				r.moved(smallFiles*smallFile, smallFiles, seconds, cpu)
				return r, err
			})
		}}
	}
	return []bridgeCase{
		way("read-channel", false, readZeros), way("read-messages", true, readZeros),
		way("write-channel", false, writeZeros), way("write-messages", true, writeZeros),
		small("read-4kB", readZeros), small("write-4kB", writeZeros),
		{name: "stat", run: statZeros}, {name: "start", run: startZeros},
	}
}

func readZeros(ctx context.Context, s plugins.Session, size int64) error {
	in, err := s.Read(ctx, "/"+strconv.FormatInt(size, 10), 0)
	if err != nil {
		return err
	}
	n, err := io.Copy(untouched{}, in)
	if err = errors.Join(err, in.Close()); err == nil && n != size {
		err = fault.New("read", fault.Corrupt, "%d bytes came of %d", n, size)
	}
	return err
}

func writeZeros(ctx context.Context, s plugins.Session, size int64) error {
	w, err := s.(plugins.Writer).Write(ctx, "/zeros", plugins.WriteRequest{Size: size})
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, io.LimitReader(untouched{}, size)); err != nil {
		_, _ = w.Abort(ctx, false)
		return err
	}
	_, err = w.Commit(ctx)
	return err
}

// fromMemory runs the driver Zeros in a process for one run.
func (b *bridgeBench) fromMemory(ctx context.Context, messages bool, run func(s plugins.Session, timed func(func() error) (seconds, cpu float64, err error)) (BridgeResult, error)) (r BridgeResult, err error) {
	cfg := b.cfg.Zeros
	cfg.Messages = messages
	err = b.withSession(ctx, cfg, plugins.Endpoint{URL: "zeros://"}, func(s plugins.Session, pid int) error {
		r, err = run(s, func(f func() error) (seconds, cpu float64, err error) { return timed(pid, f) })
		return err
	})
	return r, err
}

// withSession starts a plugin, logs in, and ends both.
func (b *bridgeBench) withSession(ctx context.Context, cfg host.Config, to plugins.Endpoint, f func(s plugins.Session, pid int) error) (err error) {
	p := host.New(cfg)
	defer func() { err = errors.Join(err, p.Close(context.WithoutCancel(ctx))) }()
	s, err := p.Open(ctx, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	status, err := p.Describe(ctx)
	if err != nil {
		return err
	}
	return f(s, status.PID)
}

// timed is what f takes: wall clock, and processor time of this process and that one; 0
// for none.
func timed(pid int, f func() error) (seconds, cpu float64, err error) {
	both := func() (sum float64, err error) {
		own, err := readUsage()
		if err != nil || pid == 0 {
			return own.CPU(), err
		}
		other, err := usageOf(pid)
		return own.CPU() + other.CPU(), err
	}
	before, err := both()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := f(); err != nil {
		return 0, 0, err
	}
	seconds = time.Since(began).Seconds()
	after, err := both()
	return seconds, after - before, err
}

// statZeros is the smallest call, one after the other.
func statZeros(ctx context.Context, b *bridgeBench) (BridgeResult, error) {
	return b.fromMemory(ctx, false, func(s plugins.Session, _ func(func() error) (float64, float64, error)) (r BridgeResult, err error) {
		times := make([]time.Duration, statCalls)
		for i := range times {
			began := time.Now()
			if _, err := s.Stat(ctx, "/1"); err != nil {
				return r, err
			}
			times[i] = time.Since(began)
		}
		l := summarize(times)
		r.P50, r.P99 = l.P50, l.P99
		return r, nil
	})
}

// startZeros is from nothing to the answer to the first call, and the memory of a process
// that has answered and does nothing: medians of some starts. The first of this program's
// life, which takes its digest too, is not among them.
func startZeros(ctx context.Context, b *bridgeBench) (r BridgeResult, err error) {
	var times, memory []float64
	for i := range starts {
		began := time.Now()
		err := b.withSession(ctx, b.cfg.Zeros, plugins.Endpoint{URL: "zeros://"}, func(s plugins.Session, pid int) error {
			if _, err := s.Stat(ctx, "/1"); err != nil {
				return err
			}
			took := time.Since(began)
			u, err := usageOf(pid)
			if i > 0 {
				times, memory = append(times, took.Seconds()*1000), append(memory, float64(u.RSS)/mib)
			}
			return err
		})
		if err != nil {
			return r, err
		}
	}
	r.FirstCall, r.RSS = median(times), median(memory)
	return r, nil
}
