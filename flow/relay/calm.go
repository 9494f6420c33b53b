package relay

import (
	"sync"

	"golang.org/x/time/rate"
)

// What is refused is recorded, but an attempt costs a partner a few bytes and its record ten times as many: so of
// each partner's the first are recorded whole, then one a second, which says how many were not.
const (
	calmBurst = 100
	calmRate  = 1 // a second
)

// calm is who has been refused how often of late.
type calm struct {
	mu sync.Mutex
	of map[string]*voice // by partner
}

type voice struct {
	rate     *rate.Limiter
	unlogged int // since the last record
}

// speak reports whether a refusal of a partner's is recorded, and how many before it were not.
func (c *calm) speak(partner string) (unlogged int, yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.of[partner]
	if v == nil {
		if c.of == nil {
			c.of = map[string]*voice{}
		}
		v = &voice{rate: rate.NewLimiter(calmRate, calmBurst)}
		c.of[partner] = v
	}
	if !v.rate.Allow() {
		v.unlogged++
		return 0, false
	}
	unlogged, v.unlogged = v.unlogged, 0
	return unlogged, true
}
