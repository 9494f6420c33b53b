package flow

import (
	"sync/atomic"
	"time"
)

// queueing is what frames that wait make of a long link's control lane. Session.RTT is the shortest round trip, that of an
// empty link: a window has to cover one behind what waits, and no frame may take a good part of the short one.
type queueing struct {
	trip    atomic.Int64 // ns, as the last PING found it
	at      atomic.Int64 // ticks when that was answered
	carries atomic.Int64 // bytes that the lane takes from this end in the shortest round trip, while some wait; 0: not known
	asked   int64        // ticks when windows asked last; guarded by Session.mu
}

// tripLasts is how long a measured round trip is taken for the present one, and how often windows ask. A peer bears
// 20 PINGs a second.
const tripLasts = time.Second / 4

// answered is told of a PING's round trip.
func (q *queueing) answered(trip, now int64) {
	q.trip.Store(trip)
	q.at.Store(now)
}

// loadedTrip is the round trip behind what waits now, and 0 where that is not known: then it is asked for. On short
// links nobody needs it, as a lane's window there is no larger than a stream's. mu is held.
func (s *Session) loadedTrip() time.Duration {
	if s.RTT() < longLink || s.control == nil {
		return 0
	}
	q, now := &s.queues, s.ticks()
	if at := q.at.Load(); at > q.asked && q.asked > 0 && now-at < int64(tripLasts) { // not the first one, on an empty link
		return time.Duration(q.trip.Load())
	}
	if q.asked == 0 || now-q.asked >= int64(tripLasts) {
		q.asked = now
		s.control.ping()
	}
	return 0
}
