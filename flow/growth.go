package flow

import "time"

// growth tries more bulk lanes on long links, where one connection may be held
// down by loss or by the kernel's buffers. While blocks move it adds a lane; if
// some seconds later the session is not faster by a tenth, it leaves it at that
// for a minute. Nothing is tried while it is the link that holds the lanes down:
// the slow start of one more lane would overflow its queue. It belongs to the keepalive goroutine of the connector.
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
func (g *growth) look(bytes int64, lanes int, rtt time.Duration, now time.Time) int {
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
	case !held(g.rate * rtt.Seconds() / float64(lanes)):
		g.before = 0
	default:
		g.before, g.looks = g.rate, 0
		return lanes + 1
	}
	return lanes
}

// laneHolds is what one connection may be relied on to have in flight, in bytes:
// Linux's default bound of a send buffer is 4 MiB, and its bookkeeping takes a
// good third of that.
const laneHolds = 2 * MiB

// startLanes is how many bulk lanes a session begins with: on a long link so
// many that a connection's buffers do not hold it down.
func startLanes(c *Config, rtt time.Duration) int {
	return min(max(c.Lanes, 1+expected(rtt)/laneHolds), c.MaxLanes)
}

// held reports whether something other than the link may hold down a lane that
// has so many bytes in flight: loss if they are few, buffers if they are many.
func held(flight float64) bool { return flight < laneHolds/4 || flight > laneHolds }

// growLanes lets the growth have a look, and brings lanes back that a resumed
// session has not got again or that could not be dialled. Only the connector can.
func (s *Session) growLanes(g *growth, now time.Time) {
	if s.dialer == nil || s.single {
		return
	}
	s.mu.Lock()
	have := len(s.lanes) - 1
	s.mu.Unlock()
	rtt := s.RTT()
	start := startLanes(&s.cfg, rtt)
	switch {
	case have < start:
		if s.carriesBlocks() {
			s.wantLanes(start)
		}
	case have < s.cfg.MaxLanes && rtt >= longLink:
		s.wantLanes(min(g.look(s.stats.bytesIn.Load()+s.stats.bytesOut.Load(), have, rtt, now), s.cfg.MaxLanes))
	}
}

// carriesBlocks reports whether there are block streams.
func (s *Session) carriesBlocks() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.streams {
		if _, ok := st.(*BlockStream); ok {
			return true
		}
	}
	return false
}
