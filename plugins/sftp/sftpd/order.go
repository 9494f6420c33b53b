package sftpd

import "context"

// order has requests that name the same file done one after the other, as they came.
// One goroutine enters them all, so that each waits only for earlier ones. It is of
// that goroutine and those that leave: the channels are all they share.
type order struct {
	last map[string]*turn // of each name: the request that came last
}

// turn is the place of a request.
type turn struct {
	before []*turn
	done   chan struct{} // closed when the next may begin
}

// enter takes a place behind the earlier requests of these names.
func (o *order) enter(names ...string) *turn {
	t := &turn{done: make(chan struct{})}
	for _, name := range names {
		if b := o.last[name]; b != nil && b != t {
			t.before = append(t.before, b)
		}
		o.last[name] = t
	}
	if len(o.last) > 2*maxRequests {
		o.forget()
	}
	return t
}

// forget drops the names whose last request is over.
func (o *order) forget() {
	for name, t := range o.last {
		select {
		case <-t.done:
			delete(o.last, name)
		default:
		}
	}
}

// wait returns when the earlier ones are over, or with the context's error.
func (t *turn) wait(ctx context.Context) error {
	for _, b := range t.before {
		select {
		case <-b.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	t.before = nil
	return nil
}

// leave lets the next begin.
func (t *turn) leave() { close(t.done) }
