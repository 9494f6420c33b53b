package sftpd

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// takeTime is how long a client may take to make room for what is sent to it.
const takeTime = time.Minute

// line is a connection that knows when it was heard of, takes little from a stranger, and
// does not wait for ever for who reads nothing.
type line struct {
	net.Conn
	began time.Time
	heard atomic.Int64 // of clock
	in    atomic.Bool  // the client is let in, and may say as much as it likes
	left  int64        // bytes that it may say before; of Read
}

func newLine(c net.Conn, stranger int64) *line {
	return &line{Conn: c, began: time.Now(), left: stranger}
}

// clock is the time in ns since the connection has begun, whatever is done to the clock of
// the machine meanwhile.
func (l *line) clock() int64 { return int64(time.Since(l.began)) }

// Read ends the connection of a stranger who says too much. Package ssh holds for ever what
// has come behind the packet for which it refuses a client, up to 4 MiB: see strangerBytes.
func (l *line) Read(b []byte) (int, error) {
	stranger := !l.in.Load()
	if stranger {
		if l.left <= 0 {
			_ = l.Conn.Close()
			return 0, fault.New("login", fault.Protocol, "the client says more than a login needs, and nobody is logged in")
		}
		b = b[:min(int64(len(b)), l.left)]
	}
	n, err := l.Conn.Read(b)
	if n > 0 {
		l.heard.Store(l.clock())
	}
	if stranger {
		l.left -= int64(n)
	}
	return n, err
}

func (l *line) Write(b []byte) (int, error) {
	if err := l.Conn.SetWriteDeadline(time.Now().Add(takeTime)); err != nil {
		return 0, err
	}
	n, err := l.Conn.Write(b)
	if err != nil {
		_ = l.Conn.Close() // SSH would go on listening
	}
	return n, err
}

// watch ends a connection whose client is silent or idle, or that is to end, until over
// is closed.
func (g *guest) watch(over <-chan struct{}) {
	cfg := g.v.cfg
	every := cfg.idle / 8
	if cfg.keepalive > 0 {
		every = min(every, cfg.keepalive/4)
	}
	tick := time.NewTicker(max(every, 10*time.Millisecond))
	defer tick.Stop()
	ends := g.v.ctx.Done()
	var asking atomic.Bool
	for {
		select {
		case <-over:
			return
		case <-ends:
			ends = nil
			g.drain()
			continue
		case <-g.hard.Done():
			_ = g.line.Close()
			<-over
			return
		case <-tick.C:
		}
		now := g.line.clock()
		silent := time.Duration(now - g.line.heard.Load())
		switch {
		case g.working.Load() == 0 && time.Duration(now-g.asked.Load()) >= cfg.idle:
			g.log().Info("a client is idle, and its connection is closed", "after", cfg.idle)
			_ = g.line.Close()
		case cfg.keepalive > 0 && silent >= 2*cfg.keepalive:
			g.log().Info("a client does not answer, and its connection is closed", "silent", silent)
			_ = g.line.Close()
		case cfg.keepalive > 0 && silent >= cfg.keepalive && asking.CompareAndSwap(false, true):
			go func() { // ends with the reply, or with the connection
				_, _, _ = g.conn.SendRequest("keepalive@openssh.com", true, nil)
				asking.Store(false)
			}()
		}
	}
}
