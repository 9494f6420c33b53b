package flow

import "time"

// pipe is the window of bytes written to a lane and not yet taken off it by
// the peer's reader: acked <= written. It keeps queues short and caches warm.
//
// On a short link that of a bulk lane covers what the lane moves in a moment (restful), so that
// who waits for room, or for bytes, is woken seldom; a lane that becomes slow loses what lies
// beyond. Beyond a moment, and on the control lane, it grows by trial. At first it doubles every round trip for as
// long as writers wait for room and the lane becomes faster by it. Later a
// doubling is tried now and then and taken back if it does not pay, because a
// larger window only drives the bytes out of the caches.
//
// On a long link it follows the lane: a little more than the bandwidth-delay
// product, so that TCP always has something to send, and no more, because what
// has been given to a lane that slows down holds up all that follows on others.
type pipe struct {
	written, acked uint64
	asked          uint64 // written, when a PIPEACK was asked for last
	window, max    uint64
	start          uint64 // of window
	far            bool   // window has been set for a long link
	bulk           bool   // only blocks are on it: the window may cover a moment, and frames ask
	trip           int64  // bytes that moved in a round trip of a long link when somebody waited last

	rate float64 // bytes per second when somebody waited for room last; 0 = nobody has

	since   time.Time // of the present measurement
	base    uint64    // acked at since
	limited bool      // somebody has waited for room since then
	before  float64   // bytes per second before the last growth; 0 = no trial is on
	settled bool      // the first measurement after a growth is over
	rest    int       // measurements to sit out after a growth that did not pay
	vain    int       // start: measurements in a row that brought nothing; startOver ends it
}

const (
	minEpoch   = 4 * time.Millisecond // shortest time over which a rate is measured
	growthPays = 1.25                 // a doubled window must make the lane that much faster
	growthRest = 200                  // measurements between two vain attempts
	startOver  = 3
	restful    = 500 * time.Microsecond // whose bytes a bulk lane, or a stream of blocks, may have under way on any link
	nearby     = 100 * time.Microsecond // of a round trip: two processes of one host answering, no distance
)

const (
	followGain = 1.25
	followRoom = 256 * KiB // a block more, which also carries TCP through its slow start
)

// hopeful is the rate that windows are made for before anything is known, in
// bytes per second. On a long link a small start costs many round trips.
const hopeful = 25e6

// expected is how much a connection with this round trip may well hold.
func expected(rtt time.Duration) int {
	return int(hopeful * max(rtt-nearby, 0).Seconds())
}

func newPipe(c *Config) pipe {
	return pipe{window: uint64(c.PipeWindow), start: uint64(c.PipeWindow), max: uint64(c.MaxPipeWindow)}
}

// flight is how many bytes are under way.
func (p *pipe) flight() uint64 { return p.written - p.acked }

func (p *pipe) room() bool {
	if p.flight() < p.window {
		return true
	}
	p.limited = true
	return false
}

// askGrain is how many bytes a lane sends at least until it asks for the next PIPEACK, if
// its window is not smaller still.
const askGrain = 128 * KiB

// asks reports whether the frame that was booked last, of a bulk lane, asks for a PIPEACK: so that one is under
// way before the window is full, and few wake this end.
func (p *pipe) asks() bool {
	if !p.bulk || p.written-p.asked < min(max(p.window/4, askGrain), p.window/2) {
		return false
	}
	p.asked = p.written
	return true
}

// ack moves the window; false means that the peer acknowledges what was never sent.
func (p *pipe) ack(total uint64, rtt time.Duration, now time.Time) bool {
	if total > p.written {
		return false
	}
	if total <= p.acked {
		return true
	}
	p.acked = total
	if elapsed := now.Sub(p.since); elapsed >= max(rtt, minEpoch) {
		if !p.since.IsZero() && elapsed < time.Second+4*rtt {
			p.judge(float64(total-p.base)/elapsed.Seconds(), rtt)
		} else if p.limited { // too slow to be judged
			p.rate = float64(total-p.base) / max(elapsed, time.Second).Seconds()
		}
		p.since, p.base, p.limited = now, total, false
	}
	return true
}

// judge acts on one measured rate, in bytes per second.
func (p *pipe) judge(rate float64, rtt time.Duration) {
	if p.limited {
		p.rate = rate
	}
	switch {
	case rtt >= longLink:
		p.follow(rate * rtt.Seconds())
		return
	case p.far: // the first measurement of the round trip met a busy machine
		p.window, p.far, p.trip = p.start, false, 0
		return
	}
	moment, window := rate*restful.Seconds(), float64(p.window)
	fits := p.limited && 2*p.window <= p.max
	grow := fits && window < 2*rate*(rtt-nearby).Seconds()
	switch {
	case p.bulk && fits && window < moment:
		p.window *= 2
	case p.bulk && p.limited && p.window > p.start && window > 4*max(moment, rate*rtt.Seconds()):
		p.window /= 2
	case p.vain < startOver && grow:
		if rate < growthPays*p.before {
			p.vain++
		} else {
			p.vain, p.before = 0, rate
		}
		p.window *= 2
	case p.vain < startOver:
	case p.before > 0 && !p.settled:
		p.settled = true // part of this measurement was made with the old window
	case p.before > 0 && rate < growthPays*p.before:
		p.window, p.before, p.rest = p.window/2, 0, growthRest
	case p.rest > 0:
		p.before = 0
		p.rest--
	case grow:
		p.window, p.before, p.settled = 2*p.window, rate, false
	default:
		p.before = 0
	}
}

// follow sets the window of a long link to what a round trip moves, and more.
func (p *pipe) follow(moved float64) {
	p.far = true
	if p.limited {
		p.trip = int64(moved)
		p.window = min(max(uint64(followGain*moved)+followRoom, p.window/4*3), 2*p.window, p.max)
	}
}
