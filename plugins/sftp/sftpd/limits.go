package sftpd

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pannier/pannier/plugins/places"
)

const (
	maxAddresses = 10_000           // whose failures are remembered
	forgiven     = 30 * time.Second // after which one failure is forgotten
)

// places are those of the clients.
func (c *config) places() *places.Places {
	return places.New(places.Limits{All: c.connections, Each: c.perAddress, Strangers: c.logins})
}

// source is whom a limit is for.
func source(a net.Addr) netip.Prefix {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{}
	}
	return places.Source(at.Addr())
}

// failures counts the failed logins of each address.
type failures struct {
	mu sync.Mutex
	of map[netip.Prefix]failed
}

// failed is of one address.
type failed struct {
	count int
	last  time.Time // failure
}

// failed counts a failed login. The client's answer is due after that time at the
// earliest: 1 s, 2 s, 4 s, 8 s.
func (f *failures) failed(from netip.Prefix) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	n := f.of[from].left(now)
	if _, known := f.of[from]; !known && len(f.of) >= maxAddresses {
		f.shorten(now)
	}
	if f.of == nil {
		f.of = map[netip.Prefix]failed{}
	}
	f.of[from] = failed{n + 1, now}
	return time.Second << min(n, 3)
}

// shorten forgets those that are forgiven, and of the others as many as are more than half.
func (f *failures) shorten(now time.Time) {
	for from, one := range f.of {
		if one.left(now) == 0 {
			delete(f.of, from)
		}
	}
	for from := range f.of {
		if len(f.of) <= maxAddresses/2 {
			return
		}
		delete(f.of, from)
	}
}

// left is how many failures count at that time.
func (a failed) left(now time.Time) int {
	return max(0, a.count-int(now.Sub(a.last)/forgiven))
}
