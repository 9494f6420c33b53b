package flow

import (
	"context"
	"time"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// keepalive watches every lane of the session until the session is over: a
// lane that has been silent for KeepaliveIdle is asked, one that does not
// answer for KeepaliveTimeout is dead, and so is one whose peer says this and that
// and has not read for both together, or hardly: a Write of this end would wait for ever, with
// whoever called it. One for each session.
func (s *Session) keepalive() {
	defer s.wg.Done()
	tick := time.NewTicker(max(min(s.cfg.KeepaliveIdle, s.cfg.KeepaliveTimeout)/6, time.Millisecond))
	defer tick.Stop()
	var g growth
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-tick.C:
			s.mu.Lock()
			lanes := append([]*lane(nil), s.lanes...)
			s.mu.Unlock()
			for _, l := range lanes {
				s.check(l)
			}
			s.growLanes(&g, now)
		}
	}
}

func (s *Session) check(l *lane) {
	l.drains()
	now := s.ticks()
	silent := time.Duration(now - l.heard.Load())
	pinged := l.pinged.Load()
	asked := max(pinged, l.moved.Load()) // as long as the PING waits behind what goes out slowly, or not at all
	if l.asks.Load() == pinged {
		asked = max(l.asked.Load(), l.drained) // it may wait in the system, too, behind what that has taken from us
	}
	var deaf time.Duration
	if since := l.stuck.Load(); since != 0 {
		deaf = time.Duration(now - since)
	}
	dead := func(op, format string, after time.Duration) {
		l.fail(&fault.Error{Op: "keepalive", Kind: fault.DeadPeer, Side: fault.Inferred, Subject: s.Peer().Address,
			Err: fault.New(op, fault.DeadPeer, format, after.Round(time.Millisecond))})
	}
	switch until := l.until.Load(); {
	case deaf > s.cfg.KeepaliveIdle+s.cfg.KeepaliveTimeout:
		dead("write", "the peer has read nothing for %v", deaf)
	case until != 0 && now > until:
		dead("write", "the peer reads next to nothing: one frame should have been out %v ago", time.Duration(now-until))
	case pinged != 0 && time.Duration(now-asked) > s.cfg.KeepaliveTimeout && silent > s.cfg.KeepaliveTimeout:
		dead("ping", "nothing heard for %v", silent)
	case pinged == 0 && silent > s.cfg.KeepaliveIdle:
		l.ping()
	}
}

// AwaitIdle waits until the session has no streams or is over. Either end may open
// one in the next moment.
func (s *Session) AwaitIdle(ctx context.Context) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.streams) > 0 && s.state != over && err == nil {
		err = s.wait(ctx)
	}
	return err
}

// goAway says that no more streams are taken. Session.mu is held.
func (s *Session) goAway() ([]byte, error) {
	return wire.AppendControl(nil, wire.TypeGoAway, 0, &wire.GoAway{Last: s.lastPeer, Kind: uint16(fault.Draining)})
}

// GoAway asks the peer to open nothing new, and refuses what it opens all the same. This end may go on
// opening streams, as for calls that run; Drain ends that too.
func (s *Session) GoAway() { _ = s.leave() }

// leave is GoAway. It does not wait for the connection, and so neither for a peer that does not read.
func (s *Session) leave() error {
	s.mu.Lock()
	s.leaving = true
	frame, err := s.goAway()
	s.broadcast()
	s.mu.Unlock()
	if err == nil {
		s.post(frame, false)
	}
	return err
}

// Drain asks the peer to open nothing new, opens nothing new itself, waits
// until the streams there are have ended, and closes the session. If ctx ends
// first the session is closed with streams on it and Drain returns an error. Closing takes
// a second at most, whatever the peer does.
func (s *Session) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	err := s.leave()
	s.mu.Lock()
	for len(s.streams) > 0 && s.state != over && err == nil {
		err = s.wait(ctx)
	}
	s.mu.Unlock()
	s.finish(fault.New("session", fault.Draining, "drained"), true)
	return err
}
