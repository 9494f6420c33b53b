package web

import (
	"sync"

	xrate "golang.org/x/time/rate"
)

// How many pages a second a caller gets, and how many at once before that: more than a
// person can read, and few beside what the node has to do. Streams are opened no faster.
const (
	pagesPerSecond = 10
	pagesAtOnce    = 50
	mostPaced      = 1000 // callers that are remembered
)

// paces are how fast callers ask for pages. The zero value is ready.
type paces struct {
	mu sync.Mutex
	of map[string]*xrate.Limiter
}

// lets reports whether a caller may have a page now.
func (p *paces) lets(caller string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.of[caller]
	if l == nil {
		if len(p.of) >= mostPaced || p.of == nil {
			p.of = map[string]*xrate.Limiter{}
		}
		l = xrate.NewLimiter(pagesPerSecond, pagesAtOnce)
		p.of[caller] = l
	}
	return l.Allow()
}
