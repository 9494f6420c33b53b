package ftp

import (
	"context"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Several commands in one write save a wait for each: with small files, waiting is all there
// is. A server that reads no more than one command of what comes at once loses the others;
// so each server is asked once, with two NOOP, and is sent one command at a time from then
// on if it does not answer both, or whenever one of several gets an answer that is none.
const (
	paceUnknown = iota
	pacePipelined
	paceSerial
)

// pipelines says whether the server may be sent several commands at once.
func (s *session) pipelines() bool { return s.paces.Load() == pacePipelined }

// serial has the server be sent one command at a time.
func (s *session) serial() { s.paces.Store(paceSerial) }

// probe asks a server how it takes commands, if that is not known. c may be dead then.
func (c *conn) probe(ctx context.Context) error {
	if c.s.paces.Load() != paceUnknown {
		return nil
	}
	if err := c.send(ctx, "NOOP", "NOOP"); err != nil {
		return err
	}
	for i := range 2 {
		wait := c.s.timeout
		if i > 0 {
			wait = c.s.grace()
		}
		r, err := c.answer(ctx, "NOOP", wait)
		switch {
		case err != nil && ctx.Err() == nil && i > 0:
			c.s.serial()
			return nil
		case err != nil:
			return err
		case !r.good():
			c.s.serial()
		}
	}
	c.s.paces.CompareAndSwap(paceUnknown, pacePipelined)
	return nil
}

// batch is how many of the commands go in one write.
func (s *session) batch(lines []string) int {
	if len(lines) > 1 && !s.pipelines() {
		return 1
	}
	return len(lines)
}

// answers are those to commands that were sent in one write.
func (c *conn) answers(ctx context.Context, lines []string, wait time.Duration) (all []reply, err error) {
	for i, line := range lines {
		r, err := c.answer(ctx, wordOf(line), wait)
		if err != nil {
			if k := fault.KindOf(err); i > 0 && (k == fault.DeadPeer || k == fault.Protocol) {
				c.s.serial()
			}
			return all, err
		}
		all = append(all, r)
	}
	return all, nil
}

// ask has a server answer commands, at once if it takes them so. Without an error there is a
// reply to each.
func (c *conn) ask(ctx context.Context, lines []string) (all []reply, err error) {
	for err == nil && len(lines) > 0 {
		now := lines[:c.s.batch(lines)]
		err = c.end(ctx, now, c.begin(ctx, now), &all)
		lines = lines[len(now):]
	}
	return all, err
}

// ask has both servers answer commands, at the same time. Without an error there is a reply
// to each; with one, the connections that live have been answered all that they were sent.
func (p *duo) ask(ctx context.Context, a, b []string) (fromA, fromB []reply, err error) {
	for err == nil && len(a)+len(b) > 0 {
		nowA, nowB := a[:p.a.s.batch(a)], b[:p.b.s.batch(b)]
		sentA, sentB := p.a.begin(ctx, nowA), p.b.begin(ctx, nowB)
		errA, errB := p.a.end(ctx, nowA, sentA, &fromA), p.b.end(ctx, nowB, sentB, &fromB)
		if err = errA; err == nil {
			err = errB
		}
		a, b = a[len(nowA):], b[len(nowB):]
	}
	return fromA, fromB, err
}

func (c *conn) begin(ctx context.Context, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	return c.send(ctx, lines...)
}

func (c *conn) end(ctx context.Context, lines []string, sent error, to *[]reply) error {
	if sent != nil {
		return sent
	}
	got, err := c.answers(ctx, lines, c.s.timeout)
	*to = append(*to, got...)
	return err
}
