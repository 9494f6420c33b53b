package carrier

import (
	"net"
	"net/netip"
	"sync"
)

// budget bounds the connections whose peer is not known yet, in total and for each source.
type budget struct {
	max, perSource int
	random         func() float64 // from 0 up to 1

	mu      sync.Mutex
	pending int                  // 0 <= pending <= max; the sum over sources and the unattributed
	sources map[netip.Prefix]int // each from 1 to perSource
}

func newBudget(max, perSource int, random func() float64) *budget {
	return &budget{max: max, perSource: perSource, random: random, sources: make(map[netip.Prefix]int)}
}

// enter takes a place, or says that there is none. Above half of the places
// it refuses at random, with a probability that grows from 0 to 1: who floods
// is refused more often than who comes once (OpenSSH's MaxStartups).
func (b *budget) enter(source netip.Prefix) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	half := b.max / 2
	switch {
	case b.pending >= b.max:
		return false
	case source.IsValid() && b.sources[source] >= b.perSource:
		return false
	case b.pending > half && b.random()*float64(b.max-half) < float64(b.pending-half):
		return false
	}
	b.pending++
	if source.IsValid() {
		b.sources[source]++
	}
	return true
}

func (b *budget) leave(source netip.Prefix) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending--
	if !source.IsValid() {
		return
	}
	if b.sources[source]--; b.sources[source] == 0 {
		delete(b.sources, source)
	}
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
