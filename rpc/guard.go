package rpc

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/pannier/pannier/spec/fault"
)

// How often a peer may take back calls (RST_STREAM): as often as flow lets it
// reset the streams of effects. gRPC has no such limit, and a call that is taken back at
// once costs the server a goroutine and the peer 13 bytes.
const (
	resetsPerSecond = 2000
	resetsBurst     = 10000
)

// guard gives the server's gRPC connections their allowances. A peer that has
// proved a key or a user has one for all its connections, so that dialling
// again does not renew it; others have one a connection, because what is known of
// them, the host, may be shared with those who behave.
type guard struct {
	most int64        // bytes of memory that the messages of all may hold
	held atomic.Int64 // that they do

	mu    sync.Mutex
	by    map[string]*allowance // with connections, or not full again
	conns map[*guardedConn]struct{}
	swept time.Time
}

// allowance is a bucket of resets, and what a peer's messages hold.
type allowance struct {
	mu    sync.Mutex
	left  float64 // at the moment at
	at    time.Time
	conns int // guarded by guard.mu

	held  atomic.Int64 // bytes of memory
	going atomic.Int64 // of them: of calls that are broken, as gRPC has not heard yet
}

func newGuard(most int64) *guard {
	return &guard{most: most, by: map[string]*allowance{}, conns: map[*guardedConn]struct{}{}}
}

// watch is conn with an allowance of the peer that info tells of.
func (g *guard) watch(conn net.Conn, info credentials.AuthInfo) net.Conn {
	now := time.Now()
	key, uid := proved(info)
	if uid >= 0 {
		key = "uid:" + strconv.Itoa(uid)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweep(now)
	a := g.by[key]
	if a == nil {
		a = newAllowance(now)
	}
	if key != "" {
		g.by[key] = a
	}
	a.conns++
	c := &guardedConn{Conn: conn, allowed: a, patience: resetPatience}
	c.pending = pending{peer: a, all: &g.held, most: g.most, calls: map[uint32]*inflow{}, broken: map[uint32]int64{}, mended: make(chan struct{}, 1), from: h2frames{skip: len(h2Preface)}}
	c.relieve, c.release = g.relieve, sync.OnceFunc(func() { g.leave(c) })
	g.conns[c] = struct{}{}
	return c
}

func (g *guard) leave(c *guardedConn) {
	c.pending.close()
	g.mu.Lock()
	defer g.mu.Unlock()
	c.allowed.conns--
	delete(g.conns, c)
}

// relieve cuts off the connection that holds the most, of the peer that does, if
// all together hold too much, without what those hold that have been cut off already.
func (g *guard) relieve() {
	g.mu.Lock()
	defer g.mu.Unlock()
	all, by := int64(0), map[*allowance]int64{}
	for c := range g.conns {
		if !c.off.Load() {
			held := c.pending.held.Load()
			all, by[c.allowed] = all+held, by[c.allowed]+held
		}
	}
	if all <= g.most {
		return
	}
	var worst *guardedConn
	for c := range g.conns {
		if c.off.Load() {
			continue
		}
		if worst == nil || cmp.Or(cmp.Compare(by[c.allowed], by[worst.allowed]), cmp.Compare(c.pending.held.Load(), worst.pending.held.Load())) > 0 {
			worst = c
		}
	}
	if worst != nil {
		worst.cut()
	}
}

// sweep forgets, now and then, the allowances that are as good as new. mu is held.
func (g *guard) sweep(now time.Time) {
	if now.Sub(g.swept) < resetsBurst/resetsPerSecond*time.Second {
		return
	}
	g.swept = now
	for key, a := range g.by {
		if a.conns == 0 && a.take(0, now) && a.left == resetsBurst {
			delete(g.by, key)
		}
	}
}

func newAllowance(now time.Time) *allowance { return &allowance{left: resetsBurst, at: now} }

// take takes n resets; false: they are not there, and nothing is left.
func (a *allowance) take(n int, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left = min(resetsBurst, a.left+resetsPerSecond*max(0, now.Sub(a.at).Seconds())) - float64(n)
	a.at = now
	enough := a.left >= 0
	a.left = max(0, a.left)
	return enough
}

// guardedConn reads for gRPC and ends when the peer's allowance does.
type guardedConn struct {
	net.Conn
	allowed *allowance
	relieve func() // the server of the worst connection
	release func() // of the allowance, any number of times
	pending pending
	off     atomic.Bool // this was the worst

	// What gRPC, which reads from one goroutine, gets before more is read: the end of a
	// call, and what has come behind it and has not been looked at.
	first, ahead []byte
	broke        bool // first has broken a call
	patience     time.Duration
}

// resetPatience, as patience of every connection, is how long a connection is not read from at most, until the reset of a call that holds too much is
// out: who sends faster than gRPC gives up calls is held up by it, and not cut off.
const resetPatience = time.Second

// Read implements net.Conn. Beyond the allowance it fails with
// fault.Overloaded, and gRPC closes the connection.
func (c *guardedConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	if c.broke {
		c.broke = false
		c.pending.await(c.patience)
	}
	n, err := c.more(p)
	if c.off.Load() {
		return 0, fault.New("read calls", fault.Overloaded, "the messages of all calls together that are not whole, or unread, hold over %d bytes, and most of them came over this connection", c.pending.most)
	}
	s := c.pending.in(p[:n])
	if s.full {
		c.relieve()
	}
	switch {
	case s.resets > 0 && !c.allowed.take(s.resets, time.Now()):
		return 0, fault.New("read calls", fault.Overloaded, "the peer takes back over %d calls a second", resetsPerSecond)
	case s.err != nil:
		return 0, s.err
	case s.call != 0:
		c.first, c.broke = breakStream(s.call), true
	}
	if s.bytes < n {
		c.ahead = slices.Concat(p[s.bytes:n], c.ahead)
		return s.bytes, nil // an error comes again
	}
	return n, err
}

func (c *guardedConn) more(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

// Write implements net.Conn.
func (c *guardedConn) Write(p []byte) (int, error) { return c.Conn.Write(c.pending.out(p)) }

// cut makes Read fail, also one that waits; and Write, because gRPC does not read while much of what it
// has to say waits for a peer that does not. Until it closes the connection it holds what it has, and that counts.
func (c *guardedConn) cut() {
	c.off.Store(true)
	_ = c.Conn.SetDeadline(time.Unix(1, 0))
}

// Close implements net.Conn.
func (c *guardedConn) Close() error {
	c.release()
	return c.Conn.Close()
}
