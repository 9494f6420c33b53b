package flow

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// ID names a session; Token proves that a connection belongs to it. Both are
// random; the token is a secret of the two ends.
type (
	ID    [16]byte
	Token [16]byte
)

func (id ID) String() string { return hex.EncodeToString(id[:4]) }

// A Dialer makes the connections of a session.
type Dialer interface {
	// Dial makes one more connection, ready for the handshake.
	Dial(ctx context.Context) (net.Conn, error)
	// Single reports that only one connection can exist at a time: a FIFO
	// pair, a command's stdin and stdout, an in-memory pipe.
	Single() bool
}

// state of a session. Legal moves:
//
//	up --connection fails--> lost --new connections--> up
//	up, lost --Close, CLOSE, protocol error, ResumeTimeout--> over
type state uint8

const (
	up    state = iota + 1 // lanes of the current epoch work
	lost_                  // no lanes; the connector dials, the acceptor waits
	over                   // err says why; nothing leaves this state
)

// Session is one relation of two nodes. All methods may be called at the same
// time. Close it when done: its goroutines end, and Close waits for them.
type Session struct {
	cfg     Config
	dialer  Dialer    // nil on the accepting side
	home    *Acceptor // nil on the dialling side
	id      ID
	token   Token
	single  bool
	small   bool   // blocks are, because others wait behind each
	near    bool   // both ends are on this host, by their addresses
	share   string // accepting side: whose share of the acceptor's sessions it takes
	created time.Time

	ctx    context.Context // ends with the session
	cancel context.CancelFunc
	thrown context.Context // ends with CloseWithError
	throw  context.CancelFunc
	wg     sync.WaitGroup // every goroutine of the session
	rtt    atomic.Int64   // shortest round trip seen, ns
	queues queueing
	late   lateBudget
	calm   governor
	stats  counters

	telling atomic.Bool                 // finish tells the peer: what comes now is read and dropped
	closed  atomic.Pointer[fault.Error] // the peer's CLOSE, whichever lane it has come on

	mu       sync.Mutex
	state    state
	err      error // why over; nil until then
	peer     Peer
	node     [16]byte // the peer's process
	limits   peerLimits
	epoch    uint32
	begun    uint32        // acceptor: the latest epoch that HELLO_ACK has promised; begun >= epoch
	since    time.Time     // when epoch began
	spoiled  int           // damaged epochs in a row that brought nothing; maxSpoiled ends it
	backoff  time.Duration // connector: before the next attempt to connect again; 0: an epoch was of use since
	control  *lane         // of the current epoch, nil unless up
	lanes    []*lane
	turns    *turns
	synced   bool // the peer's RESUME of this epoch has been booked
	dialing  bool // a bulk lane is being made
	noLaneAt time.Time

	streams   map[uint32]stream
	lastOwn   uint32 // highest id this side has opened
	lastPeer  uint32 // highest id the peer has opened
	ownOpen   int
	peerOpen  int
	rpcs      int           // acceptor: connections and byte streams for gRPC; at most maxRPC
	granted   int           // granted and not consumed over all streams
	parting   int           // of it: kept for byte streams that are over here
	leaving   bool          // the peer is to open nothing new
	draining  bool          // nor does this end, and the session ends when it is idle; implies leaving
	peerDrain bool          // the peer has said that it is leaving
	changed   chan struct{} // closed and replaced when any of this changes
	linked    chan struct{} // the same for whether state is up

	incoming chan *Incoming // opened by the peer, not yet accepted; capacity maxPending
}

// maxPending is how many streams the peer may open before they are accepted: as
// many as it may have open by default, because an accept loop that waits for a
// processor is no reason to refuse.
const maxPending = 1024

// peerLimits is what the peer announced.
type peerLimits struct {
	window  int64
	frame   int
	streams int
}

// stream is what a session needs of either kind of stream. The methods are
// called with Session.mu held and must not call back.
type stream interface {
	// lost: the connections are gone. It reports whether the stream waits for
	// new ones; otherwise it has ended.
	lost() bool
	// end: the stream is over with this error.
	end(err error)
	// own reports whether this side opened it.
	own() bool
}

func newSession(cfg Config) *Session {
	s := &Session{
		cfg: cfg, created: time.Now(), streams: map[uint32]stream{},
		changed: make(chan struct{}), linked: make(chan struct{}), incoming: make(chan *Incoming, maxPending),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.thrown, s.throw = context.WithCancel(context.Background())
	return s
}

// ticks is how long the session lives, in ns, and more than 0: a clock of its own, that whoever
// sets the machine's does not change.
func (s *Session) ticks() int64 { return max(1, int64(time.Since(s.created))) }

// ID is the session's name, the same at both ends.
func (s *Session) ID() ID { return s.id }

// Token is the session's secret.
func (s *Session) Token() Token { return s.token }

// Peer is who the other end is.
func (s *Session) Peer() Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peer
}

// unknownRTT stands for the round trip until the first has been measured, which
// the handshake does at the connector and a PING at the acceptor.
const unknownRTT = time.Millisecond

// Single reports that the session's carrier has one connection at a time.
func (s *Session) Single() bool { return s.single }

// RTT is the shortest round trip measured.
func (s *Session) RTT() time.Duration {
	if d := time.Duration(s.rtt.Load()); d > 0 {
		return d
	}
	return unknownRTT
}

// Done is closed when the session is over.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// Err says why the session is over; nil before.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Draining reports whether either end wants no new streams.
func (s *Session) Draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaving || s.peerDrain || s.state == over
}

// Connected reports whether the session has connections now; changed is closed when that is not so any more.
func (s *Session) Connected() (now bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == up, s.linked
}

// Dials reports whether this end has dialled the session, and dials again when it has lost its connections.
func (s *Session) Dials() bool { return s.dialer != nil }

// Close ends the session and every stream on it, tells the peer if it can,
// and waits for the session's goroutines.
func (s *Session) Close() error {
	s.finish(fault.New("session", fault.Canceled, "closed here"), true)
	s.wg.Wait()
	return nil
}

// CloseWithError is Close with a reason, which is the session's error at both ends. It closes the
// connections for gRPC that the peer has made, too, which outlive Close until their calls are over.
func (s *Session) CloseWithError(err error) error {
	s.finish(err, true)
	s.throw()
	s.wg.Wait()
	return nil
}

// broadcast wakes everybody who waits for a change. Callers hold mu.
func (s *Session) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// relink wakes those whom Connected has told what is over. Callers hold mu.
func (s *Session) relink() {
	close(s.linked)
	s.linked = make(chan struct{})
}

// wait waits with mu unlocked for the next change; mu is held before and after.
func (s *Session) wait(ctx context.Context) error {
	c := s.changed
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return fault.Wrap("wait for session", s.id.String(), context.Cause(ctx))
	}
}

// attach makes the lanes of a new epoch out of its control connection.
func (s *Session) attach(conn net.Conn, epoch uint32, peer Peer, node [16]byte, lim peerLimits) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == over || epoch <= s.epoch && s.epoch != 0 {
		return false
	}
	s.loseLocked(fault.New("session", fault.Lost, "replaced by a newer connection"))
	resumed := epoch > 1 // also where this end has not come to the first
	s.state, s.epoch, s.peer, s.node, s.limits = up, epoch, peer, node, lim
	s.since = time.Now()
	s.turns = &turns{}
	s.control = newLane(s, s.turns, conn, wire.Control, epoch)
	s.lanes = []*lane{s.control}
	s.synced = !resumed
	s.turns.add(s.control)
	if resumed {
		s.postResume()
		s.log("session resumed", "epoch", epoch)
	} else {
		s.log("session made", "address", peer.Address)
	}
	if frame, err := s.goAway(); s.leaving && err == nil { // the peer may not have heard it
		s.control.enqueue(frame)
	}
	s.control.start()
	s.control.ping()
	s.relink()
	s.broadcast()
	return true
}

// reaches reports whether epoch is the one whose lanes work. It waits for one that
// has begun: the connector, which already has its HELLO_ACK, may be faster with a
// bulk lane than this end with the control lane.
func (s *Session) reaches(ctx context.Context, epoch uint32) bool {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.HandshakeTimeout/2) // which leaves time for an answer
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.state != over && s.epoch < epoch && s.begun == epoch {
		if s.wait(ctx) != nil {
			return false
		}
	}
	return s.state == up && s.epoch == epoch
}

// begin is told that epoch is about to be promised to the connector.
func (s *Session) begin(epoch uint32) {
	s.mu.Lock()
	s.begun = max(s.begun, epoch)
	s.mu.Unlock()
}

// awaits reports whether epoch may come next: any later one. The connector
// counts attempts, because it cannot know how far a failed one came.
func (s *Session) awaits(epoch uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state != over && epoch > s.epoch
}

// attachBulk adds a bulk lane to the current epoch.
func (s *Session) attachBulk(conn net.Conn, epoch uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	bulk := len(s.lanes) - 1
	if s.state != up || epoch != s.epoch || bulk >= 8 {
		return false
	}
	l := newLane(s, s.turns, conn, wire.Bulk, epoch)
	s.lanes = append(s.lanes, l)
	l.start()
	s.turns.add(l)
	s.broadcast()
	return true
}

// lose is the report of a lane that it failed. The first one of an epoch
// counts; the error's Session and Kind say whether the session can go on.
func (s *Session) lose(l *lane, err error) {
	if c := l.cause.Load(); c != nil {
		err = *c // fail closed it, whatever the reader or a writer noticed of that
	}
	if c := s.closed.Load(); c != nil {
		err = c // so what has ended here is no loss
	}
	s.mu.Lock()
	if s.state == over && s.epoch == l.epoch {
		s.mu.Unlock()
		return // finish may still have something to tell the peer on it, and closes it
	}
	defer l.close() // after finish, for the same reason
	if s.state != up || s.epoch != l.epoch {
		s.mu.Unlock()
		return
	}
	if err := s.spoil(err); err != nil {
		s.mu.Unlock()
		s.finish(err, true)
		return
	}
	var e *fault.Error
	if errors.As(err, &e) && e.Session || s.cfg.ResumeTimeout < 0 || s.draining && len(s.streams) == 0 {
		s.mu.Unlock()
		s.finish(err, e == nil || e.Side != fault.Peer)
		return
	}
	s.loseLocked(err)
	s.mu.Unlock()
}

// maxSpoiled is how many epochs in a row may end with a damaged frame before they
// have brought anything: the connections are of no use then. Those that bring
// something may go on for ever, as after any other loss.
const maxSpoiled = 8

// spoil counts damaged epochs; an error of its own means that it was one too
// many. mu is held, the epoch that err ends is the present one.
func (s *Session) spoil(err error) error {
	var e *fault.Error
	if !errors.As(err, &e) || e.Kind != fault.Corrupt || e.Session {
		return nil
	}
	s.stats.damaged.Add(1)
	if s.gained() {
		s.spoiled = 0
		return nil
	}
	if s.spoiled++; s.spoiled < maxSpoiled {
		return nil
	}
	return &fault.Error{Op: "session", Kind: fault.Corrupt, Subject: s.id.String(), Session: true,
		Err: fault.New("resume session", fault.Corrupt, "%d times in a row nothing but damage: %w", s.spoiled, err)}
}

// gained reports whether the present epoch was of use: content went through
// in either direction, or it has outlived the keepalive. mu is held.
func (s *Session) gained() bool {
	if time.Since(s.since) > s.cfg.KeepaliveIdle+s.cfg.KeepaliveTimeout {
		return true
	}
	s.turns.mu.Lock()
	defer s.turns.mu.Unlock()
	return slices.ContainsFunc(s.lanes, func(l *lane) bool { return l.taken.Load() > 0 || l.pipe.acked > 0 })
}

// loseLocked ends the current epoch and arranges for the next one.
func (s *Session) loseLocked(err error) {
	if s.state != up {
		return
	}
	s.state = lost_
	if s.gained() {
		s.backoff = 0
	}
	before := s.lanes
	s.endEpoch()
	for id, st := range s.streams {
		if !st.lost() {
			s.forget(id, st)
		}
	}
	s.flushIncoming(err)
	s.log("session lost its connections", "cause", err)
	s.stats.losses.Add(1)
	s.wg.Add(1)
	if s.dialer != nil {
		go s.redial(s.epoch, before, err)
	} else {
		go s.await(s.epoch, err)
	}
	s.relink()
	s.broadcast()
}

func (s *Session) endEpoch() {
	if s.turns != nil {
		s.turns.end()
	}
	for _, l := range s.lanes {
		l.close()
	}
	s.lanes, s.control = nil, nil
}

// await gives the connector its time to come back.
func (s *Session) await(epoch uint32, cause error) {
	defer s.wg.Done()
	t := time.NewTimer(s.cfg.ResumeTimeout)
	defer t.Stop()
	for {
		s.mu.Lock()
		if s.state != lost_ || s.epoch != epoch {
			s.mu.Unlock()
			return
		}
		c := s.changed
		s.mu.Unlock()
		select {
		case <-c:
		case <-t.C:
			s.finish(&fault.Error{Op: "resume session", Kind: fault.Lost, Side: fault.Inferred, Subject: s.id.String(), Err: cause, Session: true}, false)
			return
		}
	}
}

// finish ends the session for good; the first error counts.
func (s *Session) finish(err error, tell bool) {
	s.mu.Lock()
	if s.state == over {
		s.mu.Unlock()
		return
	}
	wasUp := s.state == up
	s.state, s.err = over, sessionError(err)
	if wasUp {
		s.relink()
	}
	t, lanes := s.turns, slices.Clone(s.lanes)
	s.telling.Store(tell)
	s.mu.Unlock()
	if tell && wasUp {
		var e *fault.Error
		violation := errors.As(err, &e) && e.Session
		farewell(t, lanes, err, !violation && !s.single)
	}
	s.mu.Lock()
	s.endEpoch()
	for id, st := range s.streams {
		st.end(s.err)
		s.forget(id, st)
	}
	s.flushIncoming(s.err)
	s.cfg.Pool.release(s.granted)
	s.granted = 0
	s.cancel()
	s.broadcast()
	s.log("session over", "cause", err)
	s.mu.Unlock()
	if s.home != nil {
		s.home.forget(s)
	}
}

func sessionError(err error) error {
	var e *fault.Error
	if errors.As(err, &e) && e.Session {
		return err
	}
	over := &fault.Error{Op: "session", Kind: fault.KindOf(err), Err: err, Session: true}
	if e != nil {
		over.Side = e.Side
	}
	return over
}

// forget takes a stream out of the books. Callers hold mu.
func (s *Session) forget(id uint32, st stream) {
	if s.streams[id] != st {
		return
	}
	delete(s.streams, id)
	if st.own() {
		s.ownOpen--
	} else {
		s.peerOpen--
	}
	if b, ok := st.(*ByteStream); ok && b.rpc {
		s.rpcs--
	}
	s.broadcast()
}

// post sends control frames on the control lane of the current epoch; between
// epochs they are dropped, because RESUME says everything anew.
func (s *Session) post(frames []byte, direct bool) {
	s.mu.Lock()
	l := s.control
	s.mu.Unlock()
	if l != nil {
		l.post(frames, direct)
	}
}

// log writes a record. Callers hold mu, because peer changes with each epoch.
func (s *Session) log(msg string, args ...any) {
	s.cfg.Logger.LogAttrs(context.Background(), slog.LevelInfo, msg,
		slog.String("session", s.id.String()), slog.String("peer", s.peer.Name), slog.Group("", args...))
}

// measured books a round trip.
func (s *Session) measured(d time.Duration) {
	d = max(d, time.Microsecond)
	for {
		old := s.rtt.Load()
		if old > 0 && int64(d) >= old || s.rtt.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}
