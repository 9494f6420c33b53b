package bench

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pannier/pannier/spec/fault"
)

// maxConnect bounds Case.Connect, also over an emulated link.
const maxConnect = 30 * time.Second

// End is one end of one run: it reads its Job and then orders from in, answers
// each on out, and returns when in ends. Failures of the case are answers;
// what End returns is that in or out failed.
func End(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := newLineReader(in)
	var job Job
	if err := lines.read(&job); err != nil {
		return fault.Wrap("read job", "", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if job.Bench == BenchRelay {
		return wayEnd(ctx, job, lines, out)
	}
	chosen, err := Select(job.Bench, []string{job.Case})
	if err != nil {
		return writeLine(out, failure(err))
	}
	switch job.Role {
	case RoleServe:
		return serveEnd(ctx, cancel, chosen[0], job, lines, out)
	case RoleConnect:
		return connectEnd(ctx, chosen[0], job, lines, out)
	}
	return writeLine(out, failure(fault.New("read job", fault.Protocol, "no role %q", job.Role)))
}

// serveEnd waits for the case's Serve before it returns.
func serveEnd(ctx context.Context, cancel func(), c Case, job Job, lines lineReader, out io.Writer) error {
	addr := make(chan string, 1)
	served := make(chan error, 1)
	go func() { served <- c.Serve(ctx, job, func(a string) { addr <- a }) }()
	select {
	case err := <-served:
		return writeLine(out, failure(fault.Wrap("serve", c.Name(), err)))
	case a := <-addr:
		if err := writeLine(out, reply{Addr: a}); err != nil {
			return err
		}
	}
	err := answer(lines, out, answerUsage)
	cancel()
	return errors.Join(err, <-served)
}

func connectEnd(ctx context.Context, c Case, job Job, lines lineReader, out io.Writer) error {
	limited, cancel := context.WithTimeout(ctx, maxConnect)
	client, err := c.Connect(limited, job, job.Addr)
	cancel()
	if err != nil {
		return writeLine(out, failure(err))
	}
	if err := writeLine(out, reply{}); err != nil {
		return errors.Join(err, client.Close())
	}
	err = answer(lines, out, func(o order) reply { return obey(ctx, client, job, o) })
	return errors.Join(err, client.Close())
}

// answer answers orders until there are no more.
func answer(lines lineReader, out io.Writer, do func(order) reply) error {
	for {
		var o order
		if err := lines.read(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := writeLine(out, do(o)); err != nil {
			return err
		}
	}
}

func answerUsage(o order) reply {
	if o.Verb != verbUsage {
		return failure(fault.New("obey", fault.Protocol, "no order %q here", o.Verb))
	}
	u, err := readUsage()
	if err != nil {
		return failure(err)
	}
	return reply{Usage: &u}
}

// obey carries out one order at the connected end.
func obey(ctx context.Context, client Client, job Job, o order) reply {
	if o.Count < 0 || o.Count > maxCount {
		return failure(fault.New("obey", fault.Protocol, "count is %d; it must be from 0 to %d", o.Count, maxCount))
	}
	mover, canMove := client.(Mover)
	caller, canCall := client.(Caller)
	switch {
	case o.Verb == verbMove && canMove:
		return move(ctx, mover, job)
	case o.Verb == verbCalls && canCall:
		return call(ctx, caller, o.Count)
	case o.Verb == verbBeside && canMove && canCall:
		return callBeside(ctx, mover, caller, job, o.Count)
	}
	return answerUsage(o)
}

// move moves Job.Concurrent files at once.
func move(ctx context.Context, m Mover, job Job) reply {
	files, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for i := range job.Concurrent {
		files.Go(func() error { return m.Move(ctx, i) })
	}
	if err := files.Wait(); err != nil {
		return failure(err)
	}
	return reply{Seconds: time.Since(start).Seconds(), Bytes: job.Size * int64(job.Concurrent)}
}

func call(ctx context.Context, c Caller, count int) reply {
	times := make([]time.Duration, 0, count)
	for len(times) < count {
		start := time.Now()
		if err := c.Call(ctx); err != nil {
			return failure(err)
		}
		times = append(times, time.Since(start))
	}
	return reply{Latency: summarize(times)}
}

// callBeside counts only calls that began and ended during one move, so that
// the gaps between moves, when the target is removed, do not flatter.
func callBeside(ctx context.Context, m Mover, c Caller, job Job, count int) reply {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := startBulk(ctx, m, job)
	times := make([]time.Duration, 0, count)
	for len(times) < count && !b.over() {
		before := b.moving()
		start := time.Now()
		if err := c.Call(ctx); err != nil {
			_, _, _ = b.finish()
			return failure(err)
		}
		if took := time.Since(start); before != 0 && b.moving() == before {
			times = append(times, took)
		}
	}
	moved, seconds, err := b.finish()
	if err != nil {
		return failure(err)
	}
	return reply{Latency: summarize(times), Bytes: moved, Seconds: seconds}
}

// removeTarget makes room for the next one.
func removeTarget(job Job, i int) error {
	return fault.Wrap("remove target", "", os.Remove(job.Target(i)))
}
