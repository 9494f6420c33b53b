package s3

import (
	"context"
	"slices"
	"sync"
)

const (
	// everything is what all files on their way may have in memory, bytes, in this process: half of what a
	// host gives one.
	everything = common + firsts
	// common is what all servers share. One may have as much of it as others of its kind would leave for one more:
	// half if it is alone, a third of two.
	common = 384 << 20
	// firsts is only for servers that have none: whatever a slow one holds, the next can send a part.
	firsts = 128 << 20
)

// room is of everything. Who waits for some holds none that another waits for: a part that is full
// is on its way to the server, and goes.
var room = newRooms()

// rooms is memory that servers share.
type rooms struct {
	mu      sync.Mutex
	common  int64            // that is free
	firsts  int64            // the same
	held    map[string]*held // by server, of those that hold or wait
	waiting []*claim         // first come, first served, as far as they have the same to wait for
}

// held is what one server has.
type held struct {
	common int64
	all    int64 // common <= all
	claims int   // that hold or wait
}

// claim is of one part.
type claim struct {
	of    *held
	n     int64
	first bool          // it is of firsts
	given chan struct{} // closed then
}

func newRooms() *rooms { return &rooms{common: common, firsts: firsts, held: map[string]*held{}} }

// take waits until there is memory for so many bytes, for a server. Who wants more than common has all of that.
func (r *rooms) take(ctx context.Context, server string, n int64) (give func(), err error) {
	c := r.claim(server, n)
	give = sync.OnceFunc(func() { r.give(server, c) })
	select {
	case <-c.given:
		return give, nil
	case <-ctx.Done():
		give()
		return nil, ctx.Err()
	}
}

func (r *rooms) claim(server string, n int64) *claim {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.held[server]
	if of == nil {
		of = &held{}
		r.held[server] = of
	}
	of.claims++
	c := &claim{of: of, n: min(n, common), given: make(chan struct{})}
	r.waiting = append(r.waiting, c)
	r.serve()
	return c
}

// give takes a claim back, whether it was given or waits.
func (r *rooms) give(server string, c *claim) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.waiting, c); i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	} else {
		c.of.all -= c.n
		if c.first {
			r.firsts += c.n
		} else {
			c.of.common, r.common = c.of.common-c.n, r.common+c.n
		}
	}
	if c.of.claims--; c.of.claims == 0 {
		delete(r.held, server)
	}
	r.serve()
}

// serve gives what there is. r.mu is held. Who waits for their own server's share hold up nobody else's, and who waits for the
// common part holds up those behind that would take it, so that a large part comes to its turn. Those of a server that
// has something come in turn.
func (r *rooms) serve() {
	share, full, behind := int64(common/(len(r.held)+1)), false, map[*held]bool{}
	r.waiting = slices.DeleteFunc(r.waiting, func(c *claim) bool {
		none := c.of.all == 0
		if behind[c.of] && !none {
			return false
		}
		entitled := none || c.of.common+c.n <= share
		switch {
		case entitled && !full && c.n <= r.common:
			r.common, c.of.common = r.common-c.n, c.of.common+c.n
		case none && c.n <= r.firsts:
			r.firsts, c.first = r.firsts-c.n, true
		default:
			full, behind[c.of] = full || entitled, true
			return false
		}
		c.of.all += c.n
		close(c.given)
		return true
	})
}
