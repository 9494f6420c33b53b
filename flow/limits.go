package flow

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// lateBudget bounds what a peer may still send on streams that are over here.
// A stream adds what it had granted and not received when it ended; frames that
// were under way then use it up. More than that is a peer that does not listen.
type lateBudget struct{ left atomic.Int64 }

func (b *lateBudget) add(n int64) { b.left.Add(max(n, 0)) }

func (b *lateBudget) take(n int64) error {
	if b.left.Add(-n) >= 0 {
		return nil
	}
	return broken("late frame", "%d bytes on streams that are over and had not granted them", n)
}

// nuisance is something a peer may do, but not all the time.
type nuisance int

const (
	opens   nuisance = iota // streams opened and taken back before they were accepted
	aborts                  // streams reset by their opener after that: effects that fail at a busy server
	pings                   // PINGs
	useless                 // CREDIT that raises nothing, empty DATA
	nuisances
)

// allowance of each nuisance: a token bucket.
var allowance = [nuisances]struct{ perSecond, burst float64 }{
	opens:   {200, 1000},
	aborts:  {2000, 10000},
	pings:   {20, 100},
	useless: {50, 500},
}

// governor keeps the buckets of one session.
type governor struct {
	mu   sync.Mutex
	left [nuisances]float64
	at   [nuisances]time.Time
}

func (g *governor) take(n nuisance, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := allowance[n]
	if g.at[n].IsZero() {
		g.left[n] = a.burst
	} else {
		g.left[n] = min(a.burst, g.left[n]+a.perSecond*now.Sub(g.at[n]).Seconds())
	}
	g.at[n] = now
	if g.left[n] < 1 {
		return &fault.Error{Op: "read", Kind: fault.Overloaded, Session: true,
			Err: fault.New("limit", fault.Overloaded, "over %v a second of one nuisance (%d)", a.perSecond, n)}
	}
	g.left[n]--
	return nil
}

// broken is a violation of the protocol, which ends the session.
func broken(op, format string, args ...any) error {
	e := fault.New(op, fault.Protocol, format, args...)
	e.Session = true
	return e
}

// counters of a session, all since it was made.
type counters struct {
	losses, damaged                    atomic.Int64
	opened, accepted, refused          atomic.Int64
	blocksIn, blocksOut, lateBlocks    atomic.Int64
	bytesIn, bytesOut, wireIn, wireOut atomic.Int64
}

// SessionStats is a snapshot of a session's counters and sizes.
type SessionStats struct {
	Epoch      int           // how many times the session has been connected
	Lanes      int           // connections now, without gRPC's
	Streams    int           // open now
	Granted    int           // bytes the peer may send and this side has not consumed
	RTT        time.Duration // shortest seen
	Opened     int64         // streams opened here
	Accepted   int64         // streams accepted from the peer
	Refused    int64         // streams refused here
	BytesIn    int64         // content of blocks received
	BytesOut   int64         // content of blocks sent
	WireIn     int64         // the same as it travelled
	WireOut    int64
	LateBlocks int64 // dropped because their stream was over
	Damaged    int64 // connections given up because a frame had changed on its way
}

// Stats returns the session's counters.
func (s *Session) Stats() SessionStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return SessionStats{
		Epoch: int(s.epoch), Lanes: len(s.lanes), Streams: len(s.streams), Granted: s.granted, RTT: s.RTT(),
		Opened: s.stats.opened.Load(), Accepted: s.stats.accepted.Load(), Refused: s.stats.refused.Load(),
		BytesIn: s.stats.bytesIn.Load(), BytesOut: s.stats.bytesOut.Load(),
		WireIn: s.stats.wireIn.Load(), WireOut: s.stats.wireOut.Load(), LateBlocks: s.stats.lateBlocks.Load(), Damaged: s.stats.damaged.Load(),
	}
}
