package rpc

import (
	"context"
	"sync"
	"time"
)

// lazy is the context of a half, made when somebody wants to wait for its end:
// small contents in messages are over before anybody does.
//
// It ends with its parent, and by stop. One that outlives ends with its parent
// only until detach. It is used by its address and not copied.
type lazy struct {
	parent   context.Context
	outlives bool

	mu     sync.Mutex
	ctx    context.Context // nil: not made
	cancel context.CancelCauseFunc
	unhook func() bool // of one that outlives
	loose  bool        // detached
	ended  bool        // stop came before ctx was made
	why    error
}

// made is the real context.
func (l *lazy) made() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx != nil {
		return l.ctx
	}
	parent := l.parent
	if l.outlives {
		parent = context.WithoutCancel(parent)
	}
	l.ctx, l.cancel = context.WithCancelCause(parent)
	if l.outlives && !l.loose {
		l.unhook = context.AfterFunc(l.parent, func() { l.stop(cause("call", l.parent)) })
	}
	if l.ended {
		l.cancel(l.why)
	}
	return l.ctx
}

// stop ends the context; the first reason counts.
func (l *lazy) stop(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ctx != nil:
		l.cancel(why)
	case !l.ended:
		l.ended, l.why = true, why
	}
}

// detach separates a context that outlives its parent.
func (l *lazy) detach() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loose = true
	if l.unhook != nil {
		l.unhook()
	}
}

// Done implements context.Context.
func (l *lazy) Done() <-chan struct{} { return l.made().Done() }

// Value implements context.Context; context.Cause asks it.
func (l *lazy) Value(key any) any { return l.made().Value(key) }

// Deadline implements context.Context.
func (l *lazy) Deadline() (time.Time, bool) {
	if l.outlives {
		return time.Time{}, false
	}
	return l.parent.Deadline()
}

// Err implements context.Context.
func (l *lazy) Err() error {
	l.mu.Lock()
	ctx, ended, free := l.ctx, l.ended, l.outlives && l.loose
	l.mu.Unlock()
	switch {
	case ctx != nil:
		return ctx.Err()
	case ended:
		return context.Canceled
	case free:
		return nil
	}
	return l.parent.Err()
}
