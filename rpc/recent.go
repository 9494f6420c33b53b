package rpc

import "sync"

// recent remembers the last call ids, so that a request that comes twice, as
// after a retry by a proxy, runs its effects once. len(order) <= limit.
type recent struct {
	mu    sync.Mutex
	limit int
	seen  map[callID]struct{}
	order []callID
	next  int
}

func newRecent(limit int) *recent {
	return &recent{limit: limit, seen: make(map[callID]struct{}, limit)}
}

// first reports whether id is new, and remembers it.
func (r *recent) first(id callID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, again := r.seen[id]; again {
		return false
	}
	if len(r.order) < r.limit {
		r.order = append(r.order, id)
	} else {
		delete(r.seen, r.order[r.next])
		r.order[r.next] = id
		r.next = (r.next + 1) % r.limit
	}
	r.seen[id] = struct{}{}
	return true
}
