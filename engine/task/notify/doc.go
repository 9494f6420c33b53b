// Package notify has tasks that tell others of a request. They are no part of it: one
// that is slow is left after a minute, and one that fails is a warning, unless the rule
// says that the request needs it. Those that follow do not wait for a server that has failed
// one: see doubts.
package notify

import (
	"context"
	"errors"
	"time"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
)

// Tasks are the tasks of this package.
func Tasks() task.Catalogue {
	d := &doubts{of: map[string]*doubt{}}
	return task.Catalogue{
		"http": {Make: func(t *task.Table) (task.Task, error) { return newHTTP(t, d) }, Keys: []string{"url", "secret", "ca", "text", "attempts", "required"}, Limit: limit},
		"mail": {Make: func(t *task.Table) (task.Task, error) { return newMail(t, d) }, Keys: []string{"url", "from", "to", "subject", "text", "user", "secret", "ca", "attempts", "required"}, Limit: limit},
	}
}

const (
	limit    = time.Minute
	each     = 15 * time.Second // for one attempt
	attempts = 4
)

// first is between two attempts, and doubled each time. Tests do not wait so long.
var first = time.Second

// common is what the tasks have in common.
type common struct {
	url      string
	secret   string // path; "": none
	ca       string // path; "": the system's authorities
	server   string // host and port, for doubts
	attempts int
	required bool
	patient  bool // the rule wants all attempts, however the server has done before
	doubts   *doubts
}

func newCommon(t *task.Table, d *doubts) (c common, err error) {
	c = common{url: t.URL, attempts: t.Attempts, required: t.Required, patient: t.Required || t.Attempts != 0, doubts: d}
	if c.attempts == 0 {
		c.attempts = attempts
	}
	if c.attempts < 0 || c.attempts > 100 {
		return c, invalid("attempts is %d: write 1 to 100", t.Attempts)
	}
	if c.secret, err = task.FileOf("secret", t.Secret); err == nil {
		c.ca, err = task.FileOf("ca", t.CA)
	}
	return c, err
}

// permanent is an error that another attempt does not help.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// try calls once until it succeeds, within the attempts and somewhat less than the time
// of ctx, so that there is some left to say how it ended.
func (c common) try(ctx context.Context, once func(context.Context) error) (task.Result, error) {
	within := ctx
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		within, cancel = context.WithDeadline(ctx, end.Add(-time.Until(end)/20))
		defer cancel()
	}
	most, each := c.attempts, each
	if !c.patient {
		switch in, probe := c.doubts.tries(c.server, time.Now()); {
		case probe:
			most, each = 1, probeTime
		case in != nil:
			return warning(in.gaveUp(c.server)), nil
		}
	}
	err := c.tries(within, most, each, once)
	_, answered := err.(permanent)
	switch {
	case err == nil:
		c.doubts.taken(c.server)
		return task.Result{}, nil
	case errors.Is(ctx.Err(), context.Canceled): // the node is told to end: it is told again after the next start
		return task.Result{}, ctx.Err()
	case answered:
		c.doubts.taken(c.server)
	default:
		c.doubts.given(c.server, time.Now())
	}
	if c.required {
		return task.Result{}, err
	}
	return warning(err.Error()), nil
}

func warning(text string) task.Result {
	return task.Result{Warning: text, Output: []byte(text)}
}

// tries calls until it succeeds, at most so often and each time so long. Between two it looks
// whether others have given the server up.
func (c common) tries(ctx context.Context, most int, each time.Duration, once func(context.Context) error) (err error) {
	wait := first
	for n := range most {
		if n > 0 {
			if !sleep(ctx, wait) || !c.patient && c.doubts.has(c.server) {
				break
			}
			wait *= 2
		}
		if err = attempt(ctx, each, once); err == nil {
			return nil
		}
		if _, ok := err.(permanent); ok {
			return err
		}
	}
	return err
}

func attempt(ctx context.Context, each time.Duration, once func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, each)
	defer cancel()
	return once(ctx)
}

// unreached is an error on the way to a server, of which no more is known than that it was
// not reached: its name is no name, its certificate nobody's.
func unreached(op, host string, err error) error {
	if err != nil && fault.KindOf(err) == fault.Internal {
		err = fault.New(op, fault.Lost, "%w", err)
	}
	return fault.Wrap(op, host, err)
}

// sleep reports whether the time was waited for to its end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func invalid(format string, args ...any) error {
	return fault.New("check table", fault.Invalid, format, args...)
}
