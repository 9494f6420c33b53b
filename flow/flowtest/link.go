// Package flowtest is links between two ends of a session as bad as needed, in
// memory: with round-trip time, bottleneck, queue, loss and the TCP that
// suffers from them, and with faults on demand.
//
// What is emulated: each direction of a link is one FIFO queue in front of one
// bottleneck, shared by all connections. Each direction of a connection is a
// TCP sender with CUBIC (RFC 9438), selective acknowledgements and one
// reduction per round trip, and a receiver with a bounded buffer. Not emulated:
// the size of acknowledgements, retransmission timeouts (a lost segment is noticed one
// round trip after it left, also when it was the last), and headers.
//
// A link has no goroutines, only a timer that fires at most once in a
// millisecond. It works in real time and inside testing/synctest.
package flowtest

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"
)

// LinkConfig is what a link is like. The zero value is a perfect one.
type LinkConfig struct {
	RTT        time.Duration // round-trip time without queueing
	Rate       int64         // bits per second in each direction, shared by all connections; 0: unlimited
	Queue      int           // bytes in front of the bottleneck of each direction; default: RTT x Rate, at least 256 KiB
	Loss       float64       // probability that a segment of 1460 bytes is lost, 0 to 0.5
	Seed       uint64        // of the losses; the n-th connection loses the same segments in every run
	SendBuffer int           // bytes a connection takes before Write waits; default 4 MiB
	RecvBuffer int           // bytes a connection holds for a reader; default 6 MiB
	// FirstWindow is how many bytes a connection may have in flight before the
	// first acknowledgement; default ten segments (RFC 6928). Large values take
	// TCP's slow start out of what is measured.
	FirstWindow int
	Single      bool // Single() is true and one connection can be open at a time
}

// Direction tells the two directions of a link.
type Direction int

const (
	FromDialer   Direction = iota // bytes the dialing end writes
	FromAcceptor                  // bytes the accepting end writes
)

const (
	segment = 1460             // bytes: Ethernet's 1500 without IPv4 and TCP headers
	tick    = time.Millisecond // the timer is never set to less
	backlog = 128              // connections dialed and not yet accepted; more are refused
	maxLoss = 0.5
)

// Link is a network between dialers and one acceptor. It implements
// net.Listener and flow.Dialer. All its methods may be called concurrently.
type Link struct {
	cfg   LinkConfig
	start time.Time

	mu       sync.Mutex // never held while waiting
	accepted sync.Cond  // of mu: arrived or closed has changed
	clock    clock
	events   eventHeap
	eventSeq uint64 // events made so far: the order of equal times
	timer    *time.Timer
	timerAt  time.Duration // link time the timer is set to; 0: not set

	busy     [2]time.Duration // until when the bottleneck of a direction is taken
	live     map[*pair]bool
	arrived  []*pair // dialed and not yet accepted
	closed   bool
	refusing bool
	stalled  bool
	slice    int
	corrupt  Corruption
	cutAfter [2]int64 // bytes still to be delivered before a cut; -1: no cut
	counts   Counts
}

// clock is time on the link: it stands still while the link is stalled.
type clock struct {
	lost  time.Duration // spent in earlier stalls
	since time.Duration // when the present stall began, on the real clock
}

// NewLink makes a link. Close it.
func NewLink(cfg LinkConfig) *Link {
	if cfg.Queue <= 0 {
		cfg.Queue = max(256<<10, int(cfg.RTT.Seconds()*float64(cfg.Rate)/8))
	}
	if cfg.SendBuffer <= 0 {
		cfg.SendBuffer = 4 << 20
	}
	if cfg.RecvBuffer <= 0 {
		cfg.RecvBuffer = 6 << 20
	}
	if cfg.FirstWindow <= 0 {
		cfg.FirstWindow = firstWindow
	}
	cfg.Loss = min(max(cfg.Loss, 0), maxLoss)
	l := &Link{cfg: cfg, start: time.Now(), live: make(map[*pair]bool), cutAfter: [2]int64{-1, -1}}
	l.accepted.L = &l.mu
	return l
}

// Single is LinkConfig.Single.
func (l *Link) Single() bool { return l.cfg.Single }

// Addr is a name for the link.
func (l *Link) Addr() net.Addr { return addr("link") }

type addr string

func (addr) Network() string  { return "flowtest" }
func (a addr) String() string { return string(a) }

// Dial connects, which takes one RTT. Errors: ECONNREFUSED after Refuse and
// Close, EBUSY on a Single link that is taken, or ctx's.
func (l *Link) Dial(ctx context.Context) (net.Conn, error) {
	p, err := l.syn()
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "flowtest", Err: err}
	}
	select {
	case <-p.connected:
		if err := p.refusal(); err != nil {
			return nil, err
		}
		return p.ends[FromDialer], nil
	case <-ctx.Done():
		_ = p.ends[FromDialer].Close()
		return nil, &net.OpError{Op: "dial", Net: "flowtest", Err: ctx.Err()}
	}
}

func (l *Link) syn() (*pair, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.advance()
	switch {
	case l.closed || l.refusing:
		return nil, syscall.ECONNREFUSED
	case l.cfg.Single && l.taken():
		return nil, syscall.EBUSY
	}
	p := newPair(l, int(l.counts.Dialed))
	l.counts.Dialed++
	l.live[p] = true
	l.at(now+l.cfg.RTT/2, func(time.Duration) { l.arrive(p) })
	l.at(now+l.cfg.RTT, func(time.Duration) { p.connect() })
	l.advance()
	return p, nil
}

// taken reports whether a connection is open at both ends.
func (l *Link) taken() bool {
	for p := range l.live {
		if !p.ends[FromDialer].closed && !p.ends[FromAcceptor].closed {
			return true
		}
	}
	return false
}

// arrive puts a connection before Accept.
func (l *Link) arrive(p *pair) {
	if len(l.arrived) == backlog {
		p.reset(syscall.ECONNREFUSED)
		return
	}
	l.arrived = append(l.arrived, p)
	l.accepted.Signal()
}

// Accept waits for the next connection. After Close it fails with net.ErrClosed.
func (l *Link) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.arrived) == 0 && !l.closed {
		l.accepted.Wait()
	}
	if l.closed {
		return nil, &net.OpError{Op: "accept", Net: "flowtest", Err: net.ErrClosed}
	}
	p := l.arrived[0]
	l.arrived = l.arrived[1:]
	return p.ends[FromAcceptor], nil
}

// Close resets all connections and makes Dial and Accept fail.
func (l *Link) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.cut()
	l.events = nil
	if l.timer != nil {
		l.timer.Stop()
	}
	l.accepted.Broadcast()
	return nil
}
