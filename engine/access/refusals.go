package access

import (
	"sync"
	"time"
)

// Refusals bounds what is told of those who are refused, so that who floods fills no disk: so
// many a second, and how many were left out comes with the next.
type Refusals struct {
	most int

	mu     sync.Mutex
	second time.Time
	told   int
	more   int
}

// NewRefusals tells of at most so many a second.
func NewRefusals(most int) *Refusals { return &Refusals{most: most} }

// Tell reports whether one is told, and how many before it were not.
func (r *Refusals) Tell(now time.Time) (more int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.second) >= time.Second {
		r.second, r.told = now, 0
	}
	if r.told++; r.told > r.most {
		r.more++
		return 0, false
	}
	more, r.more = r.more, 0
	return more, true
}
