package rpc

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// A lazy context says what an ordinary one would, whether it was made before
// what ends it, after, or not at all.
func TestLazy(t *testing.T) {
	why, parents := errors.New("why"), errors.New("the parent's")
	for _, c := range []struct {
		name     string
		outlives bool
		end      func(l *lazy, parent context.CancelCauseFunc)
		want     error // the cause; nil: it goes on
	}{
		{"stopped", false, func(l *lazy, _ context.CancelCauseFunc) { l.stop(why); l.stop(parents) }, why},
		{"stopped for no reason", false, func(l *lazy, _ context.CancelCauseFunc) { l.stop(nil) }, context.Canceled},
		{"with its parent", false, func(_ *lazy, p context.CancelCauseFunc) { p(parents) }, parents},
		{"detached, which changes nothing", false, func(l *lazy, p context.CancelCauseFunc) { l.detach(); p(parents) }, parents},
		{"outliving, with its parent", true, func(_ *lazy, p context.CancelCauseFunc) { p(parents) }, parents},
		{"outliving, detached", true, func(l *lazy, p context.CancelCauseFunc) { l.detach(); p(parents) }, nil},
		{"outliving, detached and stopped", true, func(l *lazy, p context.CancelCauseFunc) { l.detach(); p(parents); l.stop(why) }, why},
	} {
		for _, when := range []string{"never", "before", "after"} {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				l := &lazy{parent: ctx, outlives: c.outlives}
				defer l.stop(nil)
				if when == "before" {
					l.Done()
				}
				if l.Err() != nil {
					t.Errorf("%s, made %s: over from the start", c.name, when)
				}
				c.end(l, cancel)
				synctest.Wait()
				if when == "after" {
					l.Done()
					synctest.Wait()
				}
				if (l.Err() != nil) != (c.want != nil) {
					t.Errorf("%s, made %s: %v", c.name, when, l.Err())
				}
				if when == "never" {
					return
				}
				if got := context.Cause(l); !errors.Is(got, c.want) || c.want == nil && got != nil {
					t.Errorf("%s, made %s: the cause is %v, want %v", c.name, when, got, c.want)
				}
				heard := false
				defer context.AfterFunc(l, func() { heard = true })()
				if synctest.Wait(); heard != (c.want != nil) {
					t.Errorf("%s, made %s: heard %v", c.name, when, heard)
				}
			})
		}
	}
}
