package flow

import (
	"context"
	"crypto/subtle"
	"net"
	"strconv"
	"sync"

	"github.com/pannier/pannier/flow/loopback"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// maxQueuedConns is how many sessions and gRPC connections may wait to be
// accepted; more are refused as Overloaded.
const maxQueuedConns = 256

// maxSessions is how many sessions an acceptor has at a time, those that wait to
// be resumed included, and maxPeerSessions how many of them one peer may have,
// so that nobody keeps others out by making sessions and leaving them; more
// are refused as Overloaded.
const (
	maxSessions     = 4096
	maxPeerSessions = maxSessions / 4
)

// An Acceptor is the listening half of a node: it takes connections from any
// number of listeners and sorts them into sessions.
type Acceptor struct {
	cfg      Config
	sessions chan *Session
	rpcs     chan handed
	ctx      context.Context // ends when the acceptor closes
	cancel   context.CancelFunc

	mu      sync.Mutex
	byID    map[ID]*Session
	shares  map[string]int // how many of them a peer has, by shareOf
	leaving bool           // GoAway was
	closed  bool
	wg      sync.WaitGroup // keepalive of sessions, handshakes
}

type handed struct {
	conn net.Conn
	s    *Session
}

// NewAcceptor makes an Acceptor; cfg applies to every session it makes.
func NewAcceptor(cfg Config) (*Acceptor, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	a := &Acceptor{
		cfg: cfg, byID: map[ID]*Session{}, shares: map[string]int{},
		sessions: make(chan *Session, maxQueuedConns), rpcs: make(chan handed, maxQueuedConns),
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a, nil
}

// Handle takes a connection whose preface has not been read, runs the
// handshake and gives it to its session. It returns when that is done; call it
// in a goroutine of its own. A connection that fails is closed.
func (a *Acceptor) Handle(conn net.Conn) {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		conn.Close()
		return
	}
	a.wg.Add(1)
	a.mu.Unlock()
	defer a.wg.Done()
	lift := deadline(a.ctx, conn, a.cfg.HandshakeTimeout)
	var h wire.Hello
	err := readHandshake(conn, wire.TypeHello, &h)
	if err == nil {
		err = a.admit(conn, &h, lift)
	}
	if err != nil {
		a.cfg.Logger.Info("connection refused", "address", conn.RemoteAddr(), "cause", err)
		a.answer(conn, &wire.HelloAck{Kind: uint16(fault.KindOf(err)), Text: fault.Text(err)})
		conn.Close()
		lift() // otherwise a.ctx would remember every connection that ever failed
	}
}

// admit gives an introduced connection to its session.
func (a *Acceptor) admit(conn net.Conn, h *wire.Hello, lift func()) error {
	if h.MinVersion > wire.Version || h.MaxVersion < wire.Version {
		return fault.New("handshake", fault.Unsupported, "this node speaks version %d, the peer %d to %d", wire.Version, h.MinVersion, h.MaxVersion)
	}
	if h.Purpose == wire.Control && ID(h.Session) == (ID{}) {
		return a.newSession(conn, h, lift)
	}
	s := a.Lookup(ID(h.Session), Token(h.Token))
	peer := peerOf(conn, h.Name, h.Features)
	switch {
	case s == nil:
		return fault.New("handshake", fault.Stale, "no such session here")
	case !peer.is(s.Peer()):
		return fault.New("handshake", fault.Unauthenticated, "the session belongs to another key or user")
	}
	switch h.Purpose {
	case wire.Control:
		return a.resume(conn, h, s, peer, lift)
	case wire.Bulk:
		if !s.reaches(a.ctx, h.Epoch) {
			return fault.New("handshake", fault.Stale, "epoch %d is over", h.Epoch)
		}
		if err := a.answer(conn, a.ack(s, h.Epoch)); err != nil {
			return err
		}
		lift()
		if !s.attachBulk(conn, h.Epoch) {
			conn.Close()
		}
		return nil
	default:
		return a.handRPC(conn, h, s, lift)
	}
}

func (a *Acceptor) newSession(conn net.Conn, h *wire.Hello, lift func()) error {
	s := newSession(a.cfg)
	s.home, s.single, s.small, s.near = a, h.Single, h.Single && !divides(conn), loopback.Joins(conn)
	s.id, s.token = random16(), random16()
	peer := peerOf(conn, h.Name, h.Features)
	s.peer = peer
	if a.cfg.Authorize != nil {
		if err := a.cfg.Authorize(peer); err != nil {
			s.cancel()
			return &fault.Error{Op: "authorize peer", Kind: fault.Permission, Subject: peer.Name, Err: err}
		}
	}
	s.share = shareOf(peer)
	if err := a.enroll(s); err != nil {
		s.cancel()
		return err
	}
	s.wg.Add(1) // before anybody can wait: this one stays until the session is over
	go s.keepalive()
	go func() { defer a.wg.Done(); <-s.Done(); s.wg.Wait() }()
	s.begin(1)
	if err := a.answer(conn, a.ack(s, 1)); err != nil {
		s.finish(err, false)
		conn.Close()
		lift()
		return nil
	}
	lift()
	if !s.attach(conn, 1, peer, h.Node, limitsOfHello(h)) { // it is over, or the peer has come back faster than we were here
		conn.Close()
		if s.Err() != nil {
			return nil
		}
	}
	select {
	case a.sessions <- s:
	default:
		s.finish(fault.New("accept session", fault.Overloaded, "too many new sessions wait"), true)
	}
	return nil
}

// enroll gives a new session its place. On success wg counts it.
func (a *Acceptor) enroll(s *Session) error {
	const op = "accept session"
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return errAcceptorClosed
	case a.leaving:
		return errLeaving
	case len(a.sessions) >= maxQueuedConns:
		return fault.New(op, fault.Overloaded, "%d new sessions wait", len(a.sessions))
	case len(a.byID) >= maxSessions:
		return fault.New(op, fault.Overloaded, "there are %d sessions", len(a.byID))
	case a.shares[s.share] >= maxPeerSessions:
		return fault.New(op, fault.Overloaded, "this peer has %d sessions; close those that are not needed", a.shares[s.share])
	}
	a.byID[s.id] = s
	a.shares[s.share]++
	a.wg.Add(1)
	return nil
}

// shareOf is the peer that a session counts against: who it proved to be, or
// else the host it comes from.
func shareOf(p Peer) string {
	switch {
	case p.Key != "":
		return p.Key
	case p.UID >= 0:
		return "uid:" + strconv.Itoa(p.UID)
	}
	if host, _, err := net.SplitHostPort(p.Address); err == nil {
		return host
	}
	return p.Address
}

func limitsOfHello(h *wire.Hello) peerLimits {
	return peerLimits{window: int64(h.Window), frame: int(h.MaxFrame), streams: int(h.MaxStreams)}
}

func (a *Acceptor) resume(conn net.Conn, h *wire.Hello, s *Session, peer Peer, lift func()) error {
	if !s.awaits(h.Epoch) {
		return fault.New("resume session", fault.Stale, "epoch %d has been", h.Epoch)
	}
	s.begin(h.Epoch)
	if err := a.answer(conn, a.ack(s, h.Epoch)); err != nil {
		return err
	}
	lift()
	if !s.attach(conn, h.Epoch, peer, h.Node, limitsOfHello(h)) {
		conn.Close()
	}
	return nil
}

func (a *Acceptor) handRPC(conn net.Conn, h *wire.Hello, s *Session, lift func()) error {
	if len(a.rpcs) >= maxQueuedConns {
		return fault.New("accept rpc connection", fault.Overloaded, "too many wait")
	}
	if err := s.takeRPC(); err != nil {
		return err
	}
	if err := a.answer(conn, a.ack(s, h.Epoch)); err != nil {
		s.leaveRPC()
		return err
	}
	lift()
	c := newRPCConn(conn, s)
	if a.offerRPC(c, s) != nil {
		c.Close()
	}
	return nil
}

// offerRPC hands a connection or byte stream to AcceptRPC. It closes nothing,
// because it is called with Session.mu held.
func (a *Acceptor) offerRPC(conn net.Conn, s *Session) error {
	select {
	case a.rpcs <- handed{conn, s}:
		return nil
	default:
		return fault.New("accept rpc connection", fault.Overloaded, "%d wait", maxQueuedConns)
	}
}

func (a *Acceptor) ack(s *Session, epoch uint32) *wire.HelloAck {
	return &wire.HelloAck{
		Version: wire.Version, Session: s.id, Token: s.token, Node: a.cfg.node, Epoch: epoch,
		Name: a.cfg.Name, Features: a.cfg.Features,
		MaxFrame: wire.MaxFrame, Window: uint64(a.cfg.Window), MaxStreams: uint32(a.cfg.MaxStreams),
	}
}

func (a *Acceptor) answer(conn net.Conn, ack *wire.HelloAck) error {
	b, err := introduction(wire.TypeHelloAck, ack)
	if err != nil {
		return err
	}
	_, err = conn.Write(b)
	return err
}

// Lookup finds a session by its id and secret; nil if there is none.
func (a *Acceptor) Lookup(id ID, token Token) *Session {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.byID[id]; s != nil && subtle.ConstantTimeCompare(s.token[:], token[:]) == 1 {
		return s
	}
	return nil
}

func (a *Acceptor) forget(s *Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byID[s.id] == nil {
		return
	}
	delete(a.byID, s.id)
	if a.shares[s.share]--; a.shares[s.share] == 0 {
		delete(a.shares, s.share)
	}
}

// Accept waits for the next new session.
func (a *Acceptor) Accept(ctx context.Context) (*Session, error) {
	select {
	case s := <-a.sessions:
		return s, nil
	case <-a.ctx.Done():
		return nil, errAcceptorClosed
	case <-ctx.Done():
		return nil, fault.Wrap("accept session", "", context.Cause(ctx))
	}
}

// AcceptRPC waits for the next connection meant for gRPC: an *RPCConn, or a *ByteStream
// of a session that has one connection only. Close it.
func (a *Acceptor) AcceptRPC(ctx context.Context) (net.Conn, *Session, error) {
	select {
	case h := <-a.rpcs:
		return h.conn, h.s, nil
	case <-a.ctx.Done():
		return nil, nil, errAcceptorClosed
	case <-ctx.Done():
		return nil, nil, fault.Wrap("accept rpc connection", "", context.Cause(ctx))
	}
}

var errAcceptorClosed = fault.New("accept", fault.Draining, "the acceptor is closed")

var errLeaving = fault.New("accept", fault.Draining, "this node is going away")

// GoAway refuses new sessions and asks every peer to open nothing new on those there are;
// this end may go on opening streams.
func (a *Acceptor) GoAway() {
	a.mu.Lock()
	a.leaving = true
	a.mu.Unlock()
	for _, s := range a.all() {
		s.GoAway()
	}
}

// Drain asks every peer to open nothing new and waits until no session has
// streams left, or ctx is done.
func (a *Acceptor) Drain(ctx context.Context) error {
	var wg sync.WaitGroup
	all := a.all()
	errs := make([]error, len(all))
	for i, s := range all {
		wg.Go(func() { errs[i] = s.Drain(ctx) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *Acceptor) all() []*Session {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]*Session, 0, len(a.byID))
	for _, s := range a.byID {
		all = append(all, s)
	}
	return all
}

// Close ends every session and waits for their goroutines.
func (a *Acceptor) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	a.cancel()
	a.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range a.all() { // at once, as each takes a second where the peer does not read
		wg.Go(func() { s.finish(fault.New("session", fault.Draining, "the node is closing"), true) })
	}
	wg.Wait()
	a.wg.Wait()
	for {
		select {
		case h := <-a.rpcs:
			h.conn.Close()
		case <-a.sessions:
		default:
			return nil
		}
	}
}
