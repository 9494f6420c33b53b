package ftpd

import (
	"net/netip"
	"sync"
	"time"

	"github.com/pannier/pannier/plugins/places"
)

// gate counts clients and wrong passwords, by address.
type gate struct {
	*places.Places
	failures int

	mu    sync.Mutex
	wrong map[netip.Prefix]*wrong
}

// wrong counts the wrong passwords of an address.
type wrong struct {
	count   int // with those that are being tried
	running int
	since   time.Time
}

// window is how long a wrong password counts, and remembered the most addresses that are.
const (
	window     = 10 * time.Minute
	remembered = 4096
)

func newGate(most, each, failures int) *gate {
	return &gate{Places: places.New(places.Limits{All: most, Each: each, Strangers: most}), failures: failures, wrong: map[netip.Prefix]*wrong{}}
}

// try says whether an address may try a password: no, while it has too many wrong ones,
// those that are being tried among them. After yes, tried follows.
func (g *gate) try(a netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	key, now := places.Source(a), time.Now()
	w := g.wrong[key]
	if w == nil || w.running == 0 && now.Sub(w.since) >= window {
		if w == nil && len(g.wrong) >= remembered {
			g.shorten()
		}
		w = &wrong{since: now}
		g.wrong[key] = w
	}
	if w.count >= g.failures {
		return false
	}
	w.count++
	w.running++
	return true
}

// tried says how it went.
func (g *gate) tried(a netip.Addr, right bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := places.Source(a)
	w := g.wrong[key]
	if w == nil {
		return
	}
	w.running--
	if right {
		w.count--
	}
	if w.count == 0 {
		delete(g.wrong, key)
	}
}

// shorten forgets the addresses whose time is over, or the oldest one.
func (g *gate) shorten() {
	var oldest netip.Prefix
	var since time.Time
	for key, w := range g.wrong {
		switch {
		case w.running > 0:
		case time.Since(w.since) >= window:
			delete(g.wrong, key)
		case !oldest.IsValid() || w.since.Before(since):
			oldest, since = key, w.since
		}
	}
	if len(g.wrong) >= remembered {
		delete(g.wrong, oldest)
	}
}
