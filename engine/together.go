package engine

import (
	"sync"

	"github.com/pannier/pannier/engine/lifecycle"
)

// Sources that are read once for the requests that send them at the same time.

// DefaultShared is how many bytes of sources are kept for requests that share their reading.
const DefaultShared = 128 << 20

// mostHints is how many requests that have not begun are known to have been submitted with others.
const mostHints = 10_000

// together is how many requests of the same source were submitted at once, by the id of each
// that has not read it yet. It is a hint, so that the first waits a moment for the others: what is
// lost of it costs reading the source again.
type together struct {
	mu  sync.Mutex
	all map[lifecycle.ID]int
}

func (t *together) note(id lifecycle.ID, n int) {
	if n < 2 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil || len(t.all) >= mostHints {
		t.all = map[lifecycle.ID]int{}
	}
	t.all[id] = n
}

// others is how many more than this request are about to read the source; it is told once.
func (t *together) others(id lifecycle.ID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.all[id]
	delete(t.all, id)
	return max(n-1, 0)
}

// SharedBytes is how many bytes of sources this node has really read to send them, but
// those of files below 1 MiB.
func (e *Engine) SharedBytes() int64 { return e.shared.ReadBytes() }
