package flowtest

import (
	"syscall"
	"time"
)

// Cut resets all connections at once: both ends read what has arrived and then
// get ECONNRESET, and so do writes. New connections can be dialed.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	l.cut()
}

func (l *Link) cut() {
	for p := range l.live {
		p.reset(syscall.ECONNRESET)
	}
	l.arrived = nil
	l.cutAfter = [2]int64{-1, -1}
}

// CutAfter cuts once n further bytes have been delivered in one direction, over
// all connections. A later call replaces it; a cut of any kind, and a negative n, end it.
func (l *Link) CutAfter(d Direction, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	if n == 0 {
		l.cut()
		return
	}
	l.cutAfter[d] = max(n, -1)
}

// Refuse makes Dial fail with ECONNREFUSED, or work again.
func (l *Link) Refuse(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusing = on
}

// Stall makes the link half-open: nothing arrives any more and nobody is told.
// Writes succeed until the send buffer is full, Dial waits.
func (l *Link) Stall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	if !l.stalled {
		l.clock.since = time.Since(l.start)
		l.stalled = true
	}
}

// Unstall ends Stall: what was under way goes on where it was, as it does when
// TCP has retransmitted.
func (l *Link) Unstall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stalled {
		l.stalled = false
		l.clock.lost += time.Since(l.start) - l.clock.since
		l.timerAt = 0
		l.advance()
	}
}

// Slice makes every Read deliver at most n bytes; 0: no limit.
func (l *Link) Slice(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slice = max(n, 0)
}

// Corruption changes bytes on their way. p begins at byte offset of one
// direction of the conn-th connection dialed (from 0); what it returns is
// delivered instead. It may change p in place and must not call the link.
type Corruption func(d Direction, conn int, offset int64, p []byte) []byte

// Corrupt applies f to everything delivered from now on; nil ends it.
func (l *Link) Corrupt(f Corruption) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	l.corrupt = f
}

// Flip inverts the lowest bit of the byte at offset at.
func Flip(dir Direction, conn int, at int64) Corruption {
	return edit(dir, conn, at, 1, func(p []byte, i, _ int) []byte {
		p[i] ^= 1
		return p
	})
}

// Drop takes n bytes out, from offset at.
func Drop(dir Direction, conn int, at int64, n int) Corruption {
	return edit(dir, conn, at, n, func(p []byte, i, j int) []byte { return append(p[:i:i], p[j:]...) })
}

// Duplicate delivers n bytes twice, from offset at. Where they come in several
// pieces each piece is doubled.
func Duplicate(dir Direction, conn int, at int64, n int) Corruption {
	return edit(dir, conn, at, n, func(p []byte, i, j int) []byte {
		return append(append(p[:j:j], p[i:j]...), p[j:]...)
	})
}

// edit applies change to the part of each piece that lies in [at, at+n).
func edit(dir Direction, conn int, at int64, n int, change func(p []byte, i, j int) []byte) Corruption {
	return func(d Direction, c int, offset int64, p []byte) []byte {
		i, j := max(at-offset, 0), min(at+int64(n)-offset, int64(len(p)))
		if d != dir || c != conn || i >= j {
			return p
		}
		return change(p, int(i), int(j))
	}
}

// Counts are what a link did so far.
type Counts struct {
	Dialed    int64    // connections
	Written   [2]int64 // bytes taken from writers, by Direction
	Delivered [2]int64 // bytes put before readers in order, by Direction, uncorrupted
	Segments  [2]int64 // segments sent, retransmissions included
	Lost      [2]int64 // segments lost at random
	Dropped   [2]int64 // segments dropped by a full queue
}

// Counts are the counters so far.
func (l *Link) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	return l.counts
}
