package rpc

import (
	"sync"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

// callTable knows the calls of a client connection whose effects the server
// may start: call id to call. len <= limit.
type callTable struct {
	limit int
	mu    sync.Mutex
	calls map[callID]*call
}

// defaultCalls is how many calls with side effects may run at a time, as
// flow.Config.MaxStreams.
const defaultCalls = 1024

func newCallTable(limit int) *callTable {
	if limit <= 0 {
		limit = defaultCalls
	}
	return &callTable{limit: limit, calls: map[callID]*call{}}
}

func (t *callTable) add(c *call) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.calls) >= t.limit {
		return fault.New("start call", fault.Overloaded, "%d calls with side effects are running on this connection", len(t.calls))
	}
	t.calls[c.id] = c
	return nil
}

func (t *callTable) remove(c *call) {
	t.mu.Lock()
	delete(t.calls, c.id)
	t.mu.Unlock()
}

// take gives a stream of kind streamKind to the effect it is for, or refuses it. A repeated or
// unknown one is never served: a request that a proxy repeats must not read or
// write a second time.
func (t *callTable) take(in *flow.Incoming) {
	o, err := parseOpening(in.Meta)
	if err != nil {
		in.Refuse(err)
		return
	}
	t.mu.Lock()
	c := t.calls[o.call]
	t.mu.Unlock()
	if c == nil {
		in.Refuse(fault.New("start side effect", fault.Stale, "no such call is running"))
		return
	}
	if err := c.begin(in, o); err != nil {
		in.Refuse(err)
	}
}
