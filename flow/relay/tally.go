package relay

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// tally is the books of one source of datagrams at one end, from its first datagram until it is
// forgotten: for the list of connections, and for its record.
type tally struct {
	hub       *Hub
	use       *usage
	ConnStats // but its bytes
	to, from  atomic.Int64
}

// tally begins the books of a source that has its place in use.
func (h *Hub) tally(use *usage, is ConnStats) *tally {
	is.Since = time.Now()
	t := &tally{hub: h, use: use, ConnStats: is}
	use.counter.opened.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastID++
	t.ID = h.lastID
	h.sources[t] = struct{}{}
	return t
}

// gave counts a datagram that is to go to the other end of the session: went or stayed is what has come of it. The counters
// only grow, so they wait for that.
func (t *tally) gave(bytes int) { t.to.Add(int64(bytes)) }

// went counts datagrams that have gone there.
func (t *tally) went(n, bytes int) {
	t.use.counter.toPeer.Add(int64(bytes))
	t.use.counter.datagrams.Add(int64(n))
}

// stayed counts datagrams that could not go there.
func (t *tally) stayed(n, bytes int) {
	t.to.Add(-int64(bytes))
	t.use.counter.dropped.Add(int64(n))
}

// took counts one that has come from there.
func (t *tally) took(n int) {
	t.from.Add(int64(n))
	t.use.counter.fromPeer.Add(int64(n))
}

func (t *tally) stats() ConnStats {
	s := t.ConnStats
	s.ToPeer, s.FromPeer = t.to.Load(), t.from.Load()
	return s
}

// end gives back the place and writes the record; err is why the source may not go on. Sources that nobody has
// answered may be forged, as many as somebody likes: of a partner's, not all have a record.
func (t *tally) end(err error) {
	h, s := t.hub, t.stats()
	h.mu.Lock()
	delete(h.sources, t)
	h.mu.Unlock()
	t.use.leave()
	if err != nil {
		t.use.counter.failed.Add(1)
	}
	more := []slog.Attr{slog.Int64("to_peer", s.ToPeer), slog.Int64("from_peer", s.FromPeer), slog.Duration("lasted", time.Since(s.Since))}
	if s.ToPeer > 0 && s.FromPeer > 0 {
		h.audit("relayed", s.Role, s.Relay, s.Partner, s.From, s.To, err, more...)
		return
	}
	h.calmly(s.Partner+" unanswered", "relayed", s.Role, s.Relay, s.Partner, s.From, s.To, err, more...)
}
