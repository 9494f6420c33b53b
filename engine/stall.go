package engine

import (
	"context"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// A transfer whose bytes do not move is ended: the other end may be alive and never
// send or take another one. Bytes that this node's own limits hold up count as moving.

// stallLimit is for how long they may stand still.
const stallLimit = 10 * time.Minute

// lookRate is how many bytes a second an end looks through at the least: the first byte
// of one that resumes may take so much longer, and so may its word when it has all of them.
const lookRate = 16 << 20

// errStalled is what such a transfer is ended with. Another attempt may help.
var errStalled = fault.Concluded("move bytes", fault.Deadline, "none have moved for %v", stallLimit)

// stalls does what moves bytes, and ends it when they do not.
func (x *run) stalls(move func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(x.ctx)
	defer cancel(nil)
	looks := time.Duration(max(x.r.Rank, x.r.Size, 0)/lookRate) * time.Second
	began := time.Now()
	var check func()
	var timer *time.Timer
	check = func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		limit := stallLimit
		switch total := x.live.Total; {
		case !x.rose.After(began):
			limit += looks
		case total > 0 && x.live.Received >= total:
			limit += time.Duration(total/lookRate) * time.Second
		}
		left := limit - time.Since(x.rose)
		if x.paced > 0 {
			left = stallLimit
		}
		if left > 0 {
			timer.Reset(left)
			return
		}
		cancel(errStalled)
	}
	x.mu.Lock()
	timer = time.AfterFunc(stallLimit, check)
	x.mu.Unlock()
	defer timer.Stop()
	err := move(ctx)
	if err != nil && context.Cause(ctx) == error(errStalled) {
		return errStalled
	}
	return err
}

// Judging is what a Ledger of this engine also is: for those who wait, in place of the engine, for the
// verdict of what lies behind the other end, and see to it that this is there.
type Judging interface {
	// Judged runs f, which moves no bytes and takes its time.
	Judged(f func() error) error
}

// Judged implements Judging.
func (l ledger) Judged(f func() error) error {
	l.x.pacing(1)
	defer l.x.pacing(-1)
	return f()
}

// pacing notes that a wait for a limit of this node's, or for a verdict, begins (1) or ends (-1).
func (x *run) pacing(n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.paced += n
	x.rose = time.Now()
}
