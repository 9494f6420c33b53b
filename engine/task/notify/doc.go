// Package notify has tasks that tell others of a request. They are no part of it: one
// that is slow is left after a minute, and one that fails is a warning, unless the rule
// says that the request needs it.
package notify

import (
	"context"
	"time"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
)

// Tasks are the tasks of this package.
func Tasks() task.Catalogue {
	return task.Catalogue{
		"http": {Make: newHTTP, Keys: []string{"url", "secret", "ca", "text", "attempts", "required"}, Limit: limit},
		"mail": {Make: newMail, Keys: []string{"url", "from", "to", "subject", "text", "user", "secret", "ca", "attempts", "required"}, Limit: limit},
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
	attempts int
	required bool
}

func newCommon(t *task.Table) (c common, err error) {
	c = common{url: t.URL, attempts: t.Attempts, required: t.Required}
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
	var err error
	wait := first
	for n := range c.attempts {
		if n > 0 && !sleep(within, wait) {
			break
		}
		wait *= 2
		if err = c.attempt(within, once); err == nil {
			return task.Result{}, nil
		}
		if _, ok := err.(permanent); ok {
			break
		}
	}
	switch {
	case ctx.Err() != nil: // the node is told to end: it is told again after the next start
		return task.Result{}, ctx.Err()
	case c.required:
		return task.Result{}, err
	}
	return task.Result{Warning: true, Output: []byte(err.Error())}, nil
}

func (c common) attempt(ctx context.Context, once func(context.Context) error) error {
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
