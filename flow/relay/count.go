package relay

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// counter of a relay or a rule, all since it was made.
type counter struct {
	opened, refused, failed atomic.Int64
	toPeer, fromPeer        atomic.Int64 // of connections that are over, and of datagrams
	datagrams, dropped      atomic.Int64
}

// Stats is a snapshot of one relay of this node, or of what one rule of its
// policy has let in.
type Stats struct {
	Name     string   // of the relay; of a rule "PARTNER/RELAY"
	Bound    []string // where it listens now, at either end
	Trouble  error    // why it does not listen now; nil if it does or need not
	Session  bool     // of a relay: there is a session with its partner, and connected
	Allow    *Allow   // of a rule: which
	Open     int      // connections, and sources of datagrams, now
	Opened   int64    // and accepted by both ends
	Refused  int64    // by either end
	Failed   int64    // ended by an error, or by a limit
	ToPeer   int64    // bytes sent to the other end of the session
	FromPeer int64
	Sent     int64 // datagrams to the other end
	Dropped  int64 // datagrams dropped here: full queue, no stream that takes them, too large, over the rate, or too much for what came from the source
}

// ConnStats is a snapshot of one connection.
type ConnStats struct {
	ID       uint64 // unique in this Hub
	Relay    string
	Partner  string
	Role     Role
	From     string // the client, as the entry sees it
	To       string // what the exit has connected to
	Since    time.Time
	ToPeer   int64
	FromPeer int64
}

// Role is which end of a connection this node is.
type Role string

const (
	Entry Role = "entry" // it accepted
	Exit  Role = "exit"  // it connected
)

// Conns lists the connections that are open now, and the sources of datagrams, the oldest first.
func (h *Hub) Conns() []ConnStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]ConnStats, 0, len(h.conns)+len(h.sources))
	for c := range h.conns {
		all = append(all, c.stats())
	}
	for t := range h.sources {
		all = append(all, t.stats())
	}
	slices.SortFunc(all, func(a, b ConnStats) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Stats lists the node's relays, in order of their names, then the rules of its
// policy.
func (h *Hub) Stats() []Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	live := map[*usage][2]int64{}
	for c := range h.conns {
		to, from := c.st.Counts()
		live[c.use] = [2]int64{live[c.use][0] + to, live[c.use][1] + from}
	}
	var all []Stats
	for _, r := range h.relays {
		s := r.use.stats(r.Name, live)
		s.Bound, s.Trouble = slices.Clone(r.bound), r.trouble
		r.with.tell(&s, r.At)
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Stats) int { return cmp.Compare(a.Name, b.Name) })
	for _, r := range *h.policy.Load() {
		s := r.use.stats(r.Partner+"/"+r.Relay, live)
		s.Allow = &r.Allow
		all = append(all, s)
	}
	return all
}

func (u *usage) stats(name string, live map[*usage][2]int64) Stats {
	c := &u.counter
	return Stats{
		Name: name, Open: int(u.conns.Load()), Opened: c.opened.Load(), Refused: c.refused.Load(), Failed: c.failed.Load(),
		ToPeer: c.toPeer.Load() + live[u][0], FromPeer: c.fromPeer.Load() + live[u][1], Sent: c.datagrams.Load(), Dropped: c.dropped.Load(),
	}
}
