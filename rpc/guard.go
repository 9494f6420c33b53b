package rpc

import (
	"net"
	"strconv"
	"sync"
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
	mu    sync.Mutex
	by    map[string]*allowance // with connections, or not full again
	swept time.Time
}

// allowance is a bucket of resets.
type allowance struct {
	mu    sync.Mutex
	left  float64 // at the moment at
	at    time.Time
	conns int // guarded by guard.mu
}

func newGuard() *guard { return &guard{by: map[string]*allowance{}} }

// watch is conn with an allowance of the peer that info tells of.
func (g *guard) watch(conn net.Conn, info credentials.AuthInfo) net.Conn {
	now := time.Now()
	c := &guardedConn{Conn: conn, frames: h2frames{skip: len(h2Preface)}}
	key, uid := proved(info)
	if uid >= 0 {
		key = "uid:" + strconv.Itoa(uid)
	}
	if key == "" {
		c.allowed, c.release = newAllowance(now), func() {}
		return c
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweep(now)
	a := g.by[key]
	if a == nil {
		a = newAllowance(now)
		g.by[key] = a
	}
	a.conns++
	c.allowed, c.release = a, sync.OnceFunc(func() { g.leave(a) })
	return c
}

func (g *guard) leave(a *allowance) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a.conns--
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
	release func()   // of the allowance, any number of times
	frames  h2frames // only used by Read, which gRPC calls from one goroutine
}

// Read implements net.Conn. Beyond the allowance it fails with
// fault.Overloaded, and gRPC closes the connection.
func (c *guardedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if resets := c.frames.resets(p[:n]); resets > 0 && !c.allowed.take(resets, time.Now()) {
		return 0, fault.New("read calls", fault.Overloaded, "the peer takes back over %d calls a second", resetsPerSecond)
	}
	return n, err
}

// Close implements net.Conn.
func (c *guardedConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// What HTTP/2 says to a server (RFC 9113, 3.4, 4.1 and 6.4).
const (
	h2Preface     = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	h2FrameHeader = 9
	h2Reset       = 3
)

// h2frames follows the frames in what a client sends, in any pieces.
type h2frames struct {
	skip int                 // bytes before the next frame's header
	head [h2FrameHeader]byte // of which have are there
	have int
}

// resets counts the RST_STREAM frames whose header is complete with p.
func (f *h2frames) resets(p []byte) (n int) {
	for len(p) > 0 {
		if f.skip > 0 {
			step := min(f.skip, len(p))
			f.skip -= step
			p = p[step:]
			continue
		}
		step := copy(f.head[f.have:], p)
		f.have += step
		p = p[step:]
		if f.have == h2FrameHeader {
			f.have, f.skip = 0, int(f.head[0])<<16|int(f.head[1])<<8|int(f.head[2])
			if f.head[3] == h2Reset {
				n++
			}
		}
	}
	return n
}
