// Package places gives the clients of a listener their places, and has those who have not logged in make room.
package places

import (
	"container/list"
	"errors"
	"net/netip"
	"sync"
)

// Limits are how many clients there may be at a time.
type Limits struct {
	All       int // in all
	Each      int // from one Source
	Strangers int // that have not logged in
}

// Why there is no place.
var (
	ErrEach = errors.New("there are too many connections from this address")
	ErrAll  = errors.New("there are too many connections")
)

// Source is what counts as one address: who has an IPv6 address mostly has 2^64.
func Source(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// Places are those of a listener.
type Places struct {
	limits Limits

	mu        sync.Mutex
	all       int
	from      map[netip.Prefix]*crowd
	strangers *list.List // *Place, the first first
}

// crowd is who is here from one Source.
type crowd struct{ all, strangers int }

// Place is a client's.
type Place struct {
	of    *Places
	from  netip.Prefix
	leave func()
	at    *list.Element // nil: no stranger
	gone  bool
}

// New makes the places of a listener.
func New(l Limits) *Places {
	return &Places{limits: l, from: map[netip.Prefix]*crowd{}, strangers: list.New()}
}

// Enter gives a client a place; it is a stranger then. If all are taken, a stranger makes room, whose leave is called: of the
// source with the most of them whoever has been here longest. So who comes often from few addresses displaces
// himself. ErrEach, ErrAll: there is none.
func (p *Places) Enter(from netip.Prefix, leave func()) (*Place, error) {
	c, displaced, err := p.enter(&Place{of: p, from: from, leave: leave})
	if displaced != nil {
		displaced.leave()
	}
	return c, err
}

func (p *Places) enter(c *Place) (_ *Place, displaced *Place, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if has := p.from[c.from]; has != nil && has.all >= p.limits.Each {
		return nil, nil, ErrEach
	}
	if p.all >= p.limits.All || p.strangers.Len() >= p.limits.Strangers {
		if displaced = p.longest(); displaced == nil {
			return nil, nil, ErrAll
		}
		displaced.release()
	}
	has := p.from[c.from]
	if has == nil {
		has = &crowd{}
		p.from[c.from] = has
	}
	p.all++
	has.all++
	has.strangers++
	c.at = p.strangers.PushBack(c)
	return c, displaced, nil
}

// longest is the stranger who makes room; nil: there are none. p.mu is held.
func (p *Places) longest() (c *Place) {
	most := 0
	for e := p.strangers.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*Place); p.from[s.from].strangers > most {
			c, most = s, p.from[s.from].strangers
		}
	}
	return c
}

// Known says that the client has logged in, and need not make room. false: it had to.
func (c *Place) Known() bool {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if c.gone {
		return false
	}
	c.known()
	return true
}

// Exit gives the place back.
func (c *Place) Exit() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.release()
}

// release gives the place back, once. The mutex is held.
func (c *Place) release() {
	if c.gone {
		return
	}
	c.gone = true
	c.known()
	c.of.all--
	has := c.of.from[c.from]
	if has.all--; has.all == 0 {
		delete(c.of.from, c.from)
	}
}

// known has the client be no stranger. The mutex is held.
func (c *Place) known() {
	if c.at != nil {
		c.of.strangers.Remove(c.at)
		c.at = nil
		c.of.from[c.from].strangers--
	}
}
