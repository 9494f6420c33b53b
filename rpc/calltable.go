package rpc

import (
	"sync"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// callTable knows the calls of a client connection whose effects the server
// may start: call id to call. len <= limit.
type callTable struct {
	limit int
	mu    sync.Mutex
	calls map[callID]*call
	using map[*sideeffect.Descriptor]struct{} // by calls that are made
}

// defaultCalls is how many calls with side effects may run at a time, as
// flow.Config.MaxStreams.
const defaultCalls = 1024

func newCallTable(limit int) *callTable {
	if limit <= 0 {
		limit = defaultCalls
	}
	return &callTable{limit: limit, calls: map[callID]*call{}, using: map[*sideeffect.Descriptor]struct{}{}}
}

// use takes descriptors for a call, until unuse. One that another call has would be two transfers of one
// reader, or to one buffer, with one result.
func (t *callTable) use(effects []*sideeffect.Descriptor) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, d := range effects {
		if _, used := t.using[d]; used {
			return fault.New("attach side effects", fault.Invalid, "the Descriptor of side effect %d is at work in another call: each call needs its own until it is over", i)
		}
	}
	for _, d := range effects {
		t.using[d] = struct{}{}
	}
	return nil
}

// unuse gives descriptors back.
func (t *callTable) unuse(effects []*sideeffect.Descriptor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range effects {
		delete(t.using, d)
	}
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
