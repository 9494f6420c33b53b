package sftpd

import (
	"context"
	"sync"
)

const (
	maxRequests = 128     // that are not answered yet, of a subsystem
	maxUnderWay = 4 << 20 // bytes of them and of their replies; the last may be beyond
	maxEarly    = 8 << 20 // bytes of a connection that came, or were read, before their turn
)

// gate bounds what is under way. One goroutine enters, any leave.
type gate struct {
	mu       sync.Mutex
	requests int
	bytes    int
	freed    chan struct{} // has room for one
}

func newGate() *gate { return &gate{freed: make(chan struct{}, 1)} }

// enter waits for room for a request of that many bytes; false: the context has ended.
func (g *gate) enter(ctx context.Context, bytes int) bool {
	for {
		g.mu.Lock()
		if g.requests < maxRequests && (g.bytes+bytes <= maxUnderWay || g.bytes == 0) {
			g.requests++
			g.bytes += bytes
			g.mu.Unlock()
			return true
		}
		g.mu.Unlock()
		select {
		case <-g.freed:
		case <-ctx.Done():
			return false
		}
	}
}

// add counts the bytes of a reply to a request that has entered.
func (g *gate) add(bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bytes += bytes
}

// leave ends a request with all its bytes.
func (g *gate) leave(bytes int) {
	g.mu.Lock()
	g.requests--
	g.bytes -= bytes
	g.mu.Unlock()
	select {
	case g.freed <- struct{}{}:
	default:
	}
}

// budget is bytes that may be held, and that nobody waits for.
type budget struct {
	mu   sync.Mutex
	left int
}

// take takes so many, if they are left.
func (b *budget) take(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.left {
		return false
	}
	b.left -= n
	return true
}

func (b *budget) give(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
}
