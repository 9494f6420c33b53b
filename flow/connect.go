package flow

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/pannier/pannier/flow/loopback"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// Connect makes a session by dialling. The session dials again by itself when
// its connections are lost, until cfg.ResumeTimeout has passed.
func Connect(ctx context.Context, d Dialer, cfg Config) (*Session, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := newSession(cfg)
	s.dialer, s.single = d, d.Single()
	conn, ack, rtt, err := s.introduce(ctx, wire.Control, 1)
	if err != nil {
		s.cancel()
		return nil, err
	}
	s.small, s.near = s.single && !divides(conn), loopback.Joins(conn)
	s.id, s.token = ID(ack.Session), Token(ack.Token)
	s.measured(rtt)
	peer := peerOf(conn, ack.Name, ack.Features)
	if cfg.Authorize != nil {
		if err := cfg.Authorize(peer); err != nil {
			conn.Close()
			s.cancel()
			return nil, &fault.Error{Op: "authorize peer", Kind: fault.Permission, Subject: peer.Address, Err: err, Session: true}
		}
	}
	s.attach(conn, 1, peer, ack.Node, limitsOf(ack))
	s.wg.Add(1)
	go s.keepalive()
	return s, nil
}

func limitsOf(a *wire.HelloAck) peerLimits {
	return peerLimits{window: int64(a.Window), frame: int(a.MaxFrame), streams: int(a.MaxStreams)}
}

// introduce dials one connection and runs its handshake.
func (s *Session) introduce(ctx context.Context, purpose wire.Purpose, epoch uint32) (net.Conn, *wire.HelloAck, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.HandshakeTimeout)
	defer cancel()
	conn, err := s.dialer.Dial(ctx)
	if err != nil {
		return nil, nil, 0, fault.Wrap("dial", "", err)
	}
	lift := deadline(ctx, conn, s.cfg.HandshakeTimeout)
	ack, rtt, err := hello(conn, &wire.Hello{
		MinVersion: wire.Version, MaxVersion: wire.Version, Purpose: purpose, Single: s.single,
		Session: s.id, Token: s.token, Epoch: epoch, Node: s.cfg.node,
		Name: s.cfg.Name, Features: s.cfg.Features,
		MaxFrame: wire.MaxFrame, Window: uint64(s.cfg.Window), MaxStreams: uint32(s.cfg.MaxStreams),
	})
	lift()
	if ctx.Err() != nil && (err == nil || errors.Is(err, fault.Lost)) { // it was this end that closed it
		err = fault.Wrap("handshake", "", context.Cause(ctx))
	}
	if err != nil {
		conn.Close()
		return nil, nil, 0, err
	}
	return conn, ack, rtt, nil
}

const (
	backoffFirst = 50 * time.Millisecond
	backoffMost  = 5 * time.Second
)

// pause is how long to wait before the next attempt: not at all at first, and longer each time as
// long as no epoch is of use. So an end that welcomes every connection and closes it is not dialled all the time.
func (s *Session) pause() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.backoff
	s.backoff = min(max(2*p, backoffFirst), backoffMost)
	if p == 0 {
		return 0
	}
	return p/2 + rand.N(p)
}

// redial makes the connections of the next epoch, with growing pauses, until
// it works, the session ends or ResumeTimeout has passed. Where there can be one
// connection only it begins when that of the epoch before is closed.
func (s *Session) redial(epoch uint32, before []*lane, cause error) {
	defer s.wg.Done()
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.ResumeTimeout)
	defer cancel()
	for _, l := range before {
		if s.single {
			select {
			case <-l.shut:
			case <-ctx.Done():
			}
		}
	}
	for {
		select {
		case <-ctx.Done():
			s.finish(&fault.Error{Op: "resume session", Kind: fault.Lost, Side: fault.Inferred, Subject: s.id.String(), Err: cause, Session: true}, false)
			return
		case <-time.After(s.pause()):
		}
		epoch++ // also after a failure: the acceptor may have seen that HELLO
		conn, ack, rtt, err := s.introduce(ctx, wire.Control, epoch)
		if err == nil {
			s.measured(rtt)
			peer := peerOf(conn, ack.Name, ack.Features)
			if err := s.sameAs(peer); err != nil {
				conn.Close()
				s.finish(err, false)
				return
			}
			if !s.attach(conn, epoch, peer, ack.Node, limitsOf(ack)) {
				conn.Close()
			}
			return
		}
		var e *fault.Error
		if errors.As(err, &e) && e.Session && e.Side == fault.Peer && e.Kind != fault.Corrupt { // it read a damaged HELLO
			s.finish(err, false)
			return
		}
	}
}

// wantLanes makes sure that bulk has lanes of its own, now or soon. Until
// then blocks travel on the control lane. The acceptor asks the connector.
func (s *Session) wantLanes(n int) {
	s.mu.Lock()
	have := len(s.lanes) - 1
	if s.single || s.state != up || have >= n || s.dialing || time.Since(s.noLaneAt) < time.Second {
		s.mu.Unlock()
		return
	}
	l, epoch := s.control, s.epoch
	if s.dialer == nil {
		s.noLaneAt = time.Now() // ask at most once a second
		s.mu.Unlock()
		l.post(wire.AppendLanes(nil, uint64(n)), false)
		return
	}
	s.dialing = true
	s.wg.Add(1)
	s.mu.Unlock()
	go s.dialLanes(epoch, n-have)
}

// dialLanes dials n lanes at once: each takes two round trips.
func (s *Session) dialLanes(epoch uint32, n int) {
	defer s.wg.Done()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = s.dialLane(epoch) })
	}
	wg.Wait()
	s.mu.Lock()
	s.dialing = false
	if err := errors.Join(errs...); err != nil {
		s.noLaneAt = time.Now()
		s.log("no bulk lane", "cause", err)
	}
	s.mu.Unlock()
}

func (s *Session) dialLane(epoch uint32) error {
	conn, err := s.further(s.ctx, wire.Bulk, epoch)
	if err == nil && !s.attachBulk(conn, epoch) {
		s.turnAway(conn)
	}
	return err
}

// further makes one more connection beside the control lane.
func (s *Session) further(ctx context.Context, purpose wire.Purpose, epoch uint32) (net.Conn, error) {
	conn, _, _, err := s.introduce(ctx, purpose, epoch)
	if err != nil {
		return nil, err
	}
	if err := s.sameAs(peerOf(conn, "", nil)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// sameAs refuses a connection that leads to somebody else than the session's peer.
func (s *Session) sameAs(peer Peer) error {
	if have := s.Peer(); !peer.is(have) {
		return fault.New("handshake", fault.Unauthenticated, "the peer has key %q and user %d, the session's has %q and %d", peer.Key, peer.UID, have.Key, have.UID)
	}
	return nil
}

// turnAway closes a lane that came too late. If the session is over, the peer
// has to hear that here too, or it takes the end of this lane for a loss.
func (s *Session) turnAway(conn net.Conn) {
	defer conn.Close()
	if err := s.Err(); err != nil {
		if frame, ferr := closeFrame(err); ferr == nil {
			conn.SetWriteDeadline(time.Now().Add(farewellTime))
			wire.Seal(frame, handshakeFrames)
			conn.Write(frame)
		}
	}
}

// OpenRPC gives gRPC its connection: one of its own where the carrier can
// have several, otherwise a byte stream of this session. Dialling side only.
func (s *Session) OpenRPC(ctx context.Context) (net.Conn, error) {
	if s.dialer == nil {
		return nil, fault.New("open rpc connection", fault.Invalid, "only the side that dialled the session opens it")
	}
	if s.single {
		return s.OpenBytes(ctx, Open{Kind: kindRPC})
	}
	s.mu.Lock()
	for s.state == lost_ {
		if err := s.wait(ctx); err != nil {
			s.mu.Unlock()
			return nil, err
		}
	}
	epoch, err := s.epoch, s.err
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return s.further(ctx, wire.RPC, epoch)
}
