package rpc

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/pannier/pannier/flow"
)

// recent remembers the calls with side effects that were admitted, so that one
// that comes twice, as after a retry by a proxy, runs once. Every caller has a
// memory of its own, which nobody else's calls shorten, and only admitted
// calls are in it. An id is kept while its call runs and for keep after that;
// of the calls that are over, a caller has the last limit.
type recent struct {
	keep  time.Duration
	limit int

	mu    sync.Mutex
	by    map[caller]*memory
	swept time.Time // when all memories were last looked through
}

// caller is whose memory a call is in: its session's, which is a secret of two
// ends; without one, that of the key or else the host it comes from.
type caller struct {
	session flow.ID
	peer    string
}

// memory is the call ids of one caller.
//
//	len(seen) = calls that run + len(over); len(over) <= limit
type memory struct {
	seen map[callID]struct{}
	over []ending // oldest first
}

// ending is when a call was over.
type ending struct {
	id callID
	at time.Time
}

func newRecent(keep time.Duration, limit int) *recent {
	return &recent{keep: keep, limit: limit, by: map[caller]*memory{}}
}

// admit remembers a call that begins; false if it came before.
func (r *recent) admit(c caller, id callID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now)
	m := r.by[c]
	if m == nil {
		m = &memory{seen: map[callID]struct{}{}}
		r.by[c] = m
	}
	m.trim(now.Add(-r.keep), r.limit)
	if _, again := m.seen[id]; again {
		return false
	}
	m.seen[id] = struct{}{}
	return true
}

// end notes that an admitted call is over, from when on its id may expire.
func (r *recent) end(c caller, id callID, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.by[c] // it has the running call, so it is there
	m.over = append(m.over, ending{id, now})
	m.trim(now.Add(-r.keep), r.limit)
}

// sweep drops what has expired of callers that make no more calls.
func (r *recent) sweep(now time.Time) {
	if now.Sub(r.swept) < r.keep {
		return
	}
	r.swept = now
	for c, m := range r.by {
		if m.trim(now.Add(-r.keep), r.limit); len(m.seen) == 0 {
			delete(r.by, c)
		}
	}
}

// trim forgets calls that were over before since, and what is over limit.
func (m *memory) trim(since time.Time, limit int) {
	for len(m.over) > 0 && (len(m.over) > limit || m.over[0].at.Before(since)) {
		delete(m.seen, m.over[0].id)
		m.over = m.over[1:]
	}
}

// callerOf is whose call it is; session is the call's, nil if it has none.
func callerOf(ctx context.Context, session *flow.Session) caller {
	if session != nil {
		return caller{session: session.ID()}
	}
	key, _ := identify(ctx)
	if key != "" {
		return caller{peer: key}
	}
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return caller{}
	}
	host, _, err := net.SplitHostPort(p.Addr.String())
	if err != nil {
		host = p.Addr.String()
	}
	return caller{peer: host}
}
