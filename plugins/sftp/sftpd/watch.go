package sftpd

import (
	"net"
	"sync/atomic"
	"time"
)

// takeTime is how long a client may take to make room for what is sent to it.
const takeTime = time.Minute

// line is a connection that knows when it was heard of, and does not wait for ever for
// who reads nothing.
type line struct {
	net.Conn
	heard atomic.Int64 // ns
}

func (l *line) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if n > 0 {
		l.heard.Store(time.Now().UnixNano())
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
		now := time.Now().UnixNano()
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
