package ftpd

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// transfer is one file or listing on its way.
type transfer struct {
	c     *client
	verb  string
	name  string
	port  *port
	ctx   context.Context
	abort context.CancelFunc
	bytes atomic.Int64

	mu     sync.Mutex
	handed bool // the whole file is the node's: it cannot be aborted any more
}

// transfer has move do a transfer, and meanwhile answers what may be asked during one: STAT,
// NOOP if it was sent since, and ABOR, whose reply follows the transfer's. All else waits.
func (c *client) transfer(verb, name string, move func(*transfer) reply) reply {
	p := c.port
	c.port = nil
	defer p.close()
	switch {
	case p == nil:
		return say(425, "Say EPSV, PASV, EPRT or PORT first.")
	case c.secure != nil && !c.prot:
		return say(522, "Say PROT P first: where commands are encrypted, files are.")
	}
	t := &transfer{c: c, verb: verb, name: name, port: p}
	t.ctx, t.abort = context.WithCancel(c.ctx)
	defer t.abort()
	done := make(chan reply, 1)
	go func() { done <- t.guarded(move) }()
	aborts, lines := 0, c.lines
	for {
		select {
		case r := <-done:
			c.moving.Store(false)
			c.log.Info("a transfer is over", "command", verb, "name", name, "bytes", t.bytes.Load(), "reply", r.code, "user", c.user)
			for range aborts {
				c.say(r)
				r = say(226, "The transfer is over.")
			}
			return r
		case cmd, ok := <-lines:
			switch {
			case !ok: // the context has ended, and what can be aborted is being
				lines = nil
			case cmd.verb == "ABOR":
				aborts++
				t.cancel()
			case cmd.verb == "STAT" && cmd.arg == "":
				c.say(c.status(t.status()))
			case cmd.verb == "NOOP" && cmd.later:
				c.say(c.noopCommand(""))
			case len(c.pending) < maxPending:
				c.pending = append(c.pending, cmd)
			default:
				c.leave(errFlood)
				c.pending, lines = nil, nil
			}
		}
	}
}

func (t *transfer) guarded(move func(*transfer) reply) (r reply) {
	defer func() {
		if v := recover(); v != nil {
			t.c.log.Error("a transfer has panicked", "panic", v, "stack", string(debug.Stack()))
			r = say(451, "Something is wrong with this server.")
		}
	}()
	return move(t)
}

// cancel aborts the transfer, if that can be.
func (t *transfer) cancel() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.handed {
		t.abort()
	}
}

// hand says that the file is the node's now. Not ok: it was aborted before.
func (t *transfer) hand() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handed = t.ctx.Err() == nil
	return t.handed
}

// aborted is the reply of a transfer that has not come to its end.
func (t *transfer) aborted() *reply {
	if t.c.s.hard.Err() != nil {
		return refuse(426, "This server is being stopped.")
	}
	return refuse(426, "The transfer was aborted.")
}

func (t *transfer) status() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.handed {
		return fmt.Sprintf("%s of %s: %d bytes came, and are being handed on.", t.verb, quoted(t.name), t.bytes.Load())
	}
	return fmt.Sprintf("%s of %s: %d bytes until now.", t.verb, quoted(t.name), t.bytes.Load())
}
