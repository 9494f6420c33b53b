// Package calm bounds what is told of those who are refused. An attempt costs a partner a few bytes, and its
// record here ten times as many: so of each partner's the first are told one by one, then one a
// second, which says how many were not.
package calm

import (
	"sync"

	"golang.org/x/time/rate"
)

const (
	burst     = 100
	perSecond = 1
)

// Calm is who has been refused how often of late. Its zero value is ready.
type Calm struct {
	mu sync.Mutex
	of map[string]*voice // by partner
}

type voice struct {
	rate   *rate.Limiter
	untold int // since the last that was told
}

// Speak reports whether a refusal of a partner's is told, and how many before it were not. The partner is
// one whose name is proved: there are as many as the configuration has.
func (c *Calm) Speak(partner string) (untold int, yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.of[partner]
	if v == nil {
		if c.of == nil {
			c.of = map[string]*voice{}
		}
		v = &voice{rate: rate.NewLimiter(perSecond, burst)}
		c.of[partner] = v
	}
	if !v.rate.Allow() {
		v.untold++
		return 0, false
	}
	untold, v.untold = v.untold, 0
	return untold, true
}
