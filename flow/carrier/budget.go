package carrier

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"
)

// overdue is how long a stranger may take when others want its place: a
// handshake needs one or two round trips, and a quarter of a second is a long one.
const overdue = 250 * time.Millisecond

// overdueAtHome is the same among the places of one source, where who comes and
// who waits may be many honest peers behind one address. Longer, because all of
// them would be too slow if each made way for the next before its round trip was over.
const overdueAtHome = time.Second

// maxProved is how many sources are remembered for having proved a key.
const maxProved = 4096

// budget bounds the connections whose peer is not known yet, in total and for each source.
//
// When places are short, they go to who is likely to make something of them: a
// stranger whose handshake is overdue gives way to a newcomer, and a quarter
// more places are there for sources that have proved an allowed key before.
// A source that has all the places it may have changes only those among
// themselves that have taken very long: so whoever shares an address with a flood, known or
// not, gets in after some attempts, at the rate of perSource places each overdueAtHome.
type budget struct {
	max, perSource int
	random         func() float64 // from 0 up to 1

	mu      sync.Mutex
	pending int                  // 0 <= pending <= max + max/4; the sum over sources and the unattributed
	sources map[netip.Prefix]int // each from 1 to perSource
	places  list.List            // of *place, oldest first; pending of them
	proved  map[netip.Prefix]bool
}

// place is what one connection has of a budget until it leaves.
type place struct {
	source netip.Prefix
	since  time.Time
	yield  func()        // closes the connection
	at     *list.Element // among the places
	known  bool          // gives way to its own source only
	left   bool
}

func newBudget(max, perSource int, random func() float64) *budget {
	return &budget{max: max, perSource: perSource, random: random, sources: map[netip.Prefix]int{}, proved: map[netip.Prefix]bool{}}
}

// enter takes a place, or says nil: there is none. Above half of the places
// strangers are turned away at random, with a probability that grows from 0 to
// 1: who floods is refused more often than who comes once (OpenSSH's
// MaxStartups). It may close another connection with its yield.
func (b *budget) enter(source netip.Prefix, now time.Time, yield func()) *place {
	p, displaced := b.take(source, now, yield)
	if displaced != nil {
		displaced.yield()
	}
	return p
}

func (b *budget) take(source netip.Prefix, now time.Time, yield func()) (p, displaced *place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p = &place{source: source, since: now, yield: yield, known: source.IsValid() && b.proved[source]}
	switch {
	case source.IsValid() && b.sources[source] >= b.perSource:
		displaced = b.oldest(now.Add(-overdueAtHome), func(q *place) bool { return q.source == source })
		if displaced == nil {
			return nil, nil
		}
	case p.known:
		if b.pending >= b.max+b.max/4 {
			return nil, nil
		}
	case b.crowded():
		displaced = b.oldest(now.Add(-overdue), func(q *place) bool { return !q.known })
		if displaced == nil {
			return nil, nil
		}
	}
	if displaced != nil {
		b.remove(displaced)
	}
	p.at = b.places.PushBack(p)
	b.pending++
	if source.IsValid() {
		b.sources[source]++
	}
	return p, displaced
}

// crowded: there is no place for a stranger, or chance says so. mu is held.
func (b *budget) crowded() bool {
	half := b.max / 2
	return b.pending >= b.max || b.pending > half && b.random()*float64(b.max-half) < float64(b.pending-half)
}

// oldest is the first to have come, until then, of the places that may give way;
// nil if there is none. mu is held.
func (b *budget) oldest(until time.Time, may func(*place) bool) *place {
	for e := b.places.Front(); e != nil; e = e.Next() {
		switch p := e.Value.(*place); {
		case p.since.After(until):
			return nil
		case may(p):
			return p
		}
	}
	return nil
}

// leave gives a place back, once.
func (b *budget) leave(p *place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove(p)
}

// remove is leave with mu held.
func (b *budget) remove(p *place) {
	if p.left {
		return
	}
	p.left = true
	b.places.Remove(p.at)
	b.pending--
	if !p.source.IsValid() {
		return
	}
	if b.sources[p.source]--; b.sources[p.source] == 0 {
		delete(b.sources, p.source)
	}
}

// prove remembers that a peer of this source has proved an allowed key. Beyond
// maxProved any other is forgotten.
func (b *budget) prove(source netip.Prefix) {
	if !source.IsValid() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.proved[source] && len(b.proved) >= maxProved {
		for other := range b.proved {
			delete(b.proved, other)
			break
		}
	}
	b.proved[source] = true
}

// sourceOf is what one party can be assumed to have: an IPv4 address, an IPv6
// network of 64 bits. Unix sockets and pipes have no source; they are bounded in total.
func sourceOf(a net.Addr) netip.Prefix {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	source, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return source
}
