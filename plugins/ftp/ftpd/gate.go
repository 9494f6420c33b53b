package ftpd

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// gate counts clients and wrong passwords, by address.
type gate struct {
	most, each, failures int

	mu        sync.Mutex
	from      map[netip.Addr]int
	all       int
	strangers *list.List // *ticket of those who have not logged in, the first first
	wrong     map[netip.Addr]*wrong
}

// ticket is a client's place.
type ticket struct {
	gate  *gate
	key   netip.Addr
	leave func() // has a stranger leave
	at    *list.Element
	gone  bool
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
	return &gate{most: most, each: each, failures: failures, from: map[netip.Addr]int{}, strangers: list.New(), wrong: map[netip.Addr]*wrong{}}
}

// source is what counts as one address: who has an IPv6 address mostly has 2^64.
func source(a netip.Addr) netip.Addr {
	if a = a.Unmap().WithZone(""); a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// enter gives a client a place. If all are taken, whoever has been here longest without
// logging in makes room; if all have, there is none. "" is yes.
func (g *gate) enter(a netip.Addr, leave func()) (*ticket, string) {
	t := &ticket{gate: g, key: source(a), leave: leave}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.from[t.key] >= g.each {
		return nil, "There are too many connections from your address."
	}
	if g.all >= g.most {
		first := g.strangers.Front()
		if first == nil {
			return nil, "There are too many connections."
		}
		old := first.Value.(*ticket)
		old.release()
		old.leave()
	}
	g.all++
	g.from[t.key]++
	t.at = g.strangers.PushBack(t)
	return t, ""
}

// known says that the client has logged in, and need not make room. Not ok: it had to.
func (t *ticket) known() bool {
	t.gate.mu.Lock()
	defer t.gate.mu.Unlock()
	if t.gone {
		return false
	}
	t.forget()
	return true
}

// exit gives the place back.
func (t *ticket) exit() {
	t.gate.mu.Lock()
	defer t.gate.mu.Unlock()
	t.release()
}

// release gives the place back, once. The mutex is held.
func (t *ticket) release() {
	if t.gone {
		return
	}
	t.gone = true
	t.forget()
	t.gate.all--
	if t.gate.from[t.key]--; t.gate.from[t.key] == 0 {
		delete(t.gate.from, t.key)
	}
}

func (t *ticket) forget() {
	if t.at != nil {
		t.gate.strangers.Remove(t.at)
		t.at = nil
	}
}

// try says whether an address may try a password: no, while it has too many wrong ones,
// those that are being tried among them. After yes, tried follows.
func (g *gate) try(a netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	key, now := source(a), time.Now()
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
	key := source(a)
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
	var oldest netip.Addr
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
