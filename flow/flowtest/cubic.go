package flowtest

import (
	"math"
	"time"
)

// Constants of RFC 9438; windows in bytes, time in seconds.
const (
	cubicC       = 0.4 // segments per second cubed
	cubicBeta    = 0.7
	renoAlpha    = 3 * (1 - cubicBeta) / (1 + cubicBeta) // segments per round trip, below the old maximum
	firstWindow  = 10 * segment                          // RFC 6928
	leastWindow  = 2 * segment
	mostPerRound = 1.5 // the window's growth in one round trip
)

// cubic is a congestion window as in RFC 9438, without HyStart.
type cubic struct {
	cwnd     float64
	ssthresh float64
	wMax     float64       // the window at the last loss
	k        float64       // seconds from epoch to wMax
	epoch    time.Duration // when this growth began; 0: with the next acknowledgement
	reno     float64       // what Reno would have by now
}

func newCubic(first int) cubic { return cubic{cwnd: float64(first), ssthresh: math.Inf(1)} }

func (c *cubic) size() int { return int(c.cwnd) }

// isLimiting reports whether the window, and not the application or the
// receiver, limited a sender with so many bytes in flight (RFC 7661).
func (c *cubic) isLimiting(flight int) bool {
	if c.cwnd < c.ssthresh {
		return 2*float64(flight) >= c.cwnd
	}
	return float64(flight)+pacedBurst >= c.cwnd
}

// grow is for n bytes acknowledged at t.
func (c *cubic) grow(n int, t, rtt time.Duration) {
	if c.cwnd < c.ssthresh {
		c.cwnd += float64(n)
		return
	}
	if c.epoch == 0 {
		c.epoch, c.reno, c.k = t, c.cwnd, 0
		if c.cwnd < c.wMax {
			c.k = math.Cbrt((c.wMax - c.cwnd) / segment / cubicC)
		} else {
			c.wMax = c.cwnd
		}
	}
	alpha := renoAlpha
	if c.reno >= c.wMax {
		alpha = 1
	}
	c.reno += alpha * segment * float64(n) / c.cwnd
	since := (t - c.epoch + rtt).Seconds() - c.k
	target := min(c.wMax+cubicC*segment*since*since*since, mostPerRound*c.cwnd)
	if target > c.cwnd {
		c.cwnd += (target - c.cwnd) * float64(n) / c.cwnd
	}
	c.cwnd = max(c.cwnd, c.reno)
}

// reduce is for a loss.
func (c *cubic) reduce() {
	if c.cwnd < c.wMax {
		c.wMax = c.cwnd * (1 + cubicBeta) / 2 // make room for others
	} else {
		c.wMax = c.cwnd
	}
	c.ssthresh = max(c.cwnd*cubicBeta, leastWindow)
	c.cwnd = c.ssthresh
	c.epoch = 0
}
