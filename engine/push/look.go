package push

import (
	"container/heap"
	"slices"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
)

// look finds what has finished since the cursor and was not taken: the oldest, as many as
// fit, and whether there are more. It is done at a start, and after more has finished than
// could wait.
func (p *Pusher) look() (found []lifecycle.Record, more bool, _ error) {
	q := store.Query{States: []lifecycle.State{lifecycle.Done, lifecycle.InError}, Since: p.cursor.Time}
	var oldest newestFirst
	for r, err := range p.cfg.Find(p.ctx, q) {
		if err != nil {
			return nil, false, err
		}
		if _, taken := p.recent[name(&r)]; taken {
			continue
		}
		heap.Push(&oldest, r)
		if len(oldest) > mostWaiting/2 { // the other half is for what finishes meanwhile
			heap.Pop(&oldest)
			more = true
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	came := make(map[string]bool, len(p.waiting)) // while this was looking; who tells of more waits meanwhile
	for i := range p.waiting {
		came[name(&p.waiting[i])] = true
	}
	found = slices.DeleteFunc(oldest, func(r lifecycle.Record) bool { return came[name(&r)] })
	slices.SortStableFunc(found, func(a, b lifecycle.Record) int { return a.Changed.Compare(b.Changed) })
	return found, more, nil
}

// newestFirst is a heap whose first goes when there are too many.
type newestFirst []lifecycle.Record

func (h newestFirst) Len() int           { return len(h) }
func (h newestFirst) Less(i, j int) bool { return h[i].Changed.After(h[j].Changed) }
func (h newestFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *newestFirst) Push(x any)        { *h = append(*h, x.(lifecycle.Record)) }
func (h *newestFirst) Pop() any {
	old := *h
	r := old[len(old)-1]
	*h = old[:len(old)-1]
	return r
}
