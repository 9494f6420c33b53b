package sideeffect

import (
	"context"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// reporter calls Descriptor.Progress, not too often.
type reporter struct {
	call func(Progress)
	last time.Time
}

func (r *reporter) report(p Progress) {
	if r.call == nil {
		return
	}
	if now := time.Now(); now.Sub(r.last) >= ProgressEvery {
		r.last = now
		r.call(p)
	}
}

func (r *reporter) final(p Progress) {
	if r.call != nil {
		r.call(p)
	}
}

// interruptOn interrupts x, if it can be, when ctx ends. What it returns ends the watch, and is to be called once.
func interruptOn(ctx context.Context, x any) (stop func()) {
	i, ok := x.(Interrupter)
	if !ok {
		return func() {}
	}
	return atEnd(ctx, i.Interrupt)
}

// atEnd calls f when ctx ends. stop waits for it if it has begun, because what it interrupts
// is the caller's again after that, and raises its panic.
func atEnd(ctx context.Context, f func()) (stop func()) {
	over := make(chan struct{})
	var panicked *Panic
	forget := context.AfterFunc(ctx, func() {
		defer close(over)
		defer func() { panicked = PanicOf(recover()) }()
		f()
	})
	return func() {
		if forget() {
			return
		}
		<-over
		if panicked != nil {
			panic(panicked)
		}
	}
}

// because is err, or the reason why ctx ended when err only follows from that.
func because(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		switch fault.KindOf(err) {
		case fault.Internal, fault.IO, fault.Canceled, fault.Deadline:
			return fault.Wrap(op, "", context.Cause(ctx))
		}
	}
	return fault.Wrap(op, "", err)
}
