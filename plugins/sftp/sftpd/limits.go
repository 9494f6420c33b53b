package sftpd

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	maxAddresses = 10_000           // whose failures are remembered
	forgiven     = 30 * time.Second // after which one failure is forgotten
)

// limits counts connections, in all and of each address, and failed logins.
type limits struct {
	cfg *config

	mu        sync.Mutex
	all       int
	strangers int // not let in yet
	of        map[netip.Prefix]*address
}

// address is one that has connections, or failed lately.
type address struct {
	connections int
	failures    int
	last        time.Time // failure, or forgiveness
}

// prefix is whom a limit is for: an address, or what one customer has of IPv6.
func prefix(a net.Addr) netip.Prefix {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{}
	}
	ip := at.Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// enter counts a connection; false: there are too many.
func (l *limits) enter(p netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.of[p]
	if l.all >= l.cfg.connections || l.strangers >= l.cfg.logins || a != nil && a.connections >= l.cfg.perAddress {
		return false
	}
	if a == nil {
		a = l.remember(p)
	}
	a.connections++
	l.all++
	l.strangers++
	return true
}

// remember makes an entry, and forgets half of the others when there are many.
func (l *limits) remember(p netip.Prefix) *address {
	if len(l.of) >= maxAddresses {
		for q, a := range l.of {
			if a.connections == 0 && len(l.of) > maxAddresses/2 {
				delete(l.of, q)
			}
		}
	}
	a := &address{}
	l.of[p] = a
	return a
}

// known says that a connection is no stranger's any more, as it was let in or has ended.
func (l *limits) known() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.strangers--
}

// leave ends the counting of a connection.
func (l *limits) leave(p netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	a := l.of[p]
	if a.connections--; a.connections == 0 && a.forgive(time.Now()) == 0 {
		delete(l.of, p)
	}
}

// failed counts a failed login. The client's answer is due after that time at the
// earliest: 1 s, 2 s, 4 s, 8 s.
func (l *limits) failed(p netip.Prefix) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.of[p]
	n := a.forgive(time.Now())
	a.failures, a.last = n+1, time.Now()
	return time.Second << min(n, 3)
}

// forgive is how many failures count at that time.
func (a *address) forgive(now time.Time) int {
	return max(0, a.failures-int(now.Sub(a.last)/forgiven))
}
