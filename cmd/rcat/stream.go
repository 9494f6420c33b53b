package main

import (
	"context"
	"io"
	"time"
)

// interruptible is a reader whose Read ends when its deadline is set. Where the
// system cannot do that, as with most terminals and pipes that a shell made, a
// goroutine reads in its place; one that waits for input then lasts as long as
// the process, which is about to end.
func interruptible(r io.Reader) io.Reader {
	if d, ok := r.(interface{ SetDeadline(time.Time) error }); ok && d.SetDeadline(time.Time{}) == nil {
		return r
	}
	pr, pw := io.Pipe()
	go func() {
		_, err := io.Copy(pw, r)
		pw.CloseWithError(err)
	}()
	return piped{pr}
}

type piped struct{ *io.PipeReader }

// SetDeadline ends reading, whenever it is said to end.
func (p piped) SetDeadline(time.Time) error { return p.CloseWithError(context.Canceled) }
