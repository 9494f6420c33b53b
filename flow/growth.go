package flow

import "time"

// growth tries more bulk lanes on long links, where one connection may be held
// down by loss or by the kernel's buffers. While blocks move it adds a lane; if
// some seconds later the session is not faster by a tenth, it leaves it at that
// for a minute. It belongs to the keepalive goroutine of the connector.
type growth struct {
	bytes  int64   // of content, at the last look
	rate   float64 // bytes per second, smoothed over the last seconds
	before float64 // rate before the trial; 0 = none is on
	looks  int     // since before or since the last trial
	rest   int     // looks to sit out
	lastAt time.Time
}

const (
	longLink    = 5 * time.Millisecond // round trip from which more lanes may help
	growthRate  = 256 * KiB            // bytes per second below which nothing is tried
	trialLooks  = 5
	trialPays   = 1.1
	trialPauses = 60
)

// look is called about once a second; it returns how many bulk lanes to have.
func (g *growth) look(bytes int64, lanes int, now time.Time) int {
	elapsed := now.Sub(g.lastAt).Seconds()
	if elapsed < 0.9 {
		return lanes
	}
	present := float64(bytes-g.bytes) / elapsed
	g.bytes, g.lastAt = bytes, now
	if present < growthRate {
		*g = growth{bytes: bytes, lastAt: now, rest: g.rest}
		return lanes
	}
	g.rate += (present - g.rate) / float64(min(g.looks+1, 3))
	g.looks++
	switch {
	case g.rest > 0:
		g.rest--
	case g.looks < trialLooks:
	case g.before > 0 && g.rate < trialPays*g.before:
		g.before, g.rest = 0, trialPauses
	default:
		g.before, g.looks = g.rate, 0
		return lanes + 1
	}
	return lanes
}

// growLanes lets the growth have a look. Only the connector can dial.
func (s *Session) growLanes(g *growth, now time.Time) {
	s.mu.Lock()
	have := len(s.lanes) - 1
	s.mu.Unlock()
	if s.dialer == nil || s.single || have < s.cfg.Lanes || have >= s.cfg.MaxLanes || s.RTT() < longLink {
		return
	}
	if want := g.look(s.stats.bytesIn.Load()+s.stats.bytesOut.Load(), have, now); want > have {
		s.wantLanes(min(want, s.cfg.MaxLanes))
	}
}
