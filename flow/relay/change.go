package relay

import (
	"reflect"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

// SetPolicy replaces Config.Policy for what is asked from now on. Entries that are
// the same go on with their counters and limits. Connections that were let in go on;
// listeners of partners whose entry is gone or another one are closed, and asked for anew
// if they still may be. Invalid: a pattern that is none; then nothing changes.
func (h *Hub) SetPolicy(policy []Allow) error {
	now, err := newRules(policy)
	if err != nil {
		return err
	}
	h.mu.Lock()
	old := *h.policy.Load()
	kept := map[*rule]bool{}
	for _, r := range now {
		for _, o := range old {
			if !kept[o] && reflect.DeepEqual(o.Allow, r.Allow) {
				r.use, kept[o] = o.use, true
				break
			}
		}
	}
	h.policy.Store(&now)
	var over []*guest
	for _, g := range h.guests {
		if use, err := h.permitListen(g.partner, g.relay, g.at); err != nil || use != g.use {
			over = append(over, g)
		}
	}
	h.mu.Unlock()
	for _, g := range over {
		g.stop()
	}
	return nil
}

// Detach ends what there is of a partner on a session, because who is at its other
// end is that partner no more. The session itself goes on.
func (h *Hub) Detach(name string, s *flow.Session) {
	p := h.partner(name)
	p.drop(s)
	h.mu.Lock()
	h.of[s] = "" // what comes about on it finds this when it comes to the books
	var guests []*guest
	for k, g := range h.guests {
		if k.session == s {
			guests = append(guests, g)
		}
	}
	var streams []*flow.ByteStream
	for st := range h.asides {
		if st.Session() == s {
			streams = append(streams, st)
		}
	}
	h.mu.Unlock()
	for _, g := range guests {
		g.stop()
	}
	for _, c := range h.open() {
		if c.st.Session() == s {
			c.end(errNoPartner)
		}
	}
	for _, st := range streams {
		st.Reset(errNoPartner)
	}
}

var errNoPartner = fault.New("relay", fault.Unauthenticated, "the other end is no partner of this node any more")

// follow keeps a stream that is no connection in the books until done is called, and resets it if it is too late
// for that.
func (h *Hub) follow(partner string, st *flow.ByteStream) (done func()) {
	h.mu.Lock()
	h.asides[st] = struct{}{}
	err := h.still(partner, st.Session())
	h.mu.Unlock()
	if err != nil {
		st.Reset(err)
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.asides, st)
	}
}
