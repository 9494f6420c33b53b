package carrier

import (
	"net/netip"
	"sync"
	"time"
)

// A stranger is the error of a peer that shows a key which is not allowed.
type stranger struct {
	error
	key string
}

func (s stranger) Unwrap() error { return s.error }

// How often refused strangers are worth a warning: once in a while for each source,
// and for so many sources in that time.
const (
	strangerEvery = time.Minute
	maxStrangers  = 256
)

// strangers remembers of which sources was told.
type strangers struct {
	mu   sync.Mutex
	last map[netip.Prefix]told
}

type told struct {
	at   time.Time
	more int // that were not told of since
}

// tell reports whether this one is worth a warning, and how many of its source were
// not since the last.
func (s *strangers) tell(source netip.Prefix, now time.Time) (more int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, known := s.last[source]
	if known && now.Sub(before.at) < strangerEvery {
		before.more++
		s.last[source] = before
		return 0, false
	}
	if len(s.last) >= maxStrangers && !known {
		for other, t := range s.last {
			if now.Sub(t.at) >= strangerEvery {
				delete(s.last, other)
			}
		}
		if len(s.last) >= maxStrangers {
			return 0, false
		}
	}
	if s.last == nil {
		s.last = map[netip.Prefix]told{}
	}
	s.last[source] = told{at: now}
	return before.more, true
}
