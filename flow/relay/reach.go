package relay

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

// quest is how a partner is looked for that there is no session with. Guarded by
// partner.mu.
type quest struct {
	waiting int       // who waits for a session
	running bool      // somebody calls Config.Reach, or will
	failed  int       // calls in a row that brought no session
	next    time.Time // of the next call, not before
	err     error     // of the last one
}

// Between two calls of Config.Reach that bring nothing lies a random time from 0 to
// a limit that doubles from leastReach to mostReach.
const (
	leastReach = 500 * time.Millisecond
	mostReach  = 30 * time.Second
	reachTime  = 30 * time.Second // of one call
)

func reachPause(failed int) time.Duration {
	return rand.N(min(leastReach<<min(failed, 10), mostReach)) + 1
}

// seek has the partner looked for until nobody waits any more.
func (p *partner) seek() {
	if p.hub.cfg.Reach == nil {
		return
	}
	p.mu.Lock()
	start := !p.quest.running
	p.quest.running = true
	p.mu.Unlock()
	if start && !p.hub.spawn(p.keepReaching) {
		p.mu.Lock()
		p.quest.running = false
		p.mu.Unlock()
	}
}

func (p *partner) keepReaching() {
	for p.wanted() {
		ctx, cancel := context.WithTimeout(p.hub.ctx, reachTime)
		err := p.hub.cfg.Reach(ctx, p.name)
		cancel()
		p.reached(err)
	}
}

// wanted waits until it is time for the next call, and is false, at once, when none
// is needed any more.
func (p *partner) wanted() bool {
	for {
		p.mu.Lock()
		q := &p.quest
		pause := time.Until(q.next)
		if q.waiting == 0 || p.newest() != nil || p.hub.ctx.Err() != nil {
			q.running = false
			p.mu.Unlock()
			return false
		}
		changed := p.changed
		redials := p.redials()
		p.mu.Unlock()
		if redials { // a call would ask over that session, and end it
			pause = mostReach
		}
		if pause <= 0 {
			return true
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-changed:
		case <-p.hub.ctx.Done():
		}
		t.Stop()
	}
}

// redials reports whether a session that has lost its connections is dialled again from here. p.mu is held.
func (p *partner) redials() bool {
	return slices.ContainsFunc(p.all, func(s *flow.Session) bool {
		now, _ := s.Connected()
		return !now && s.Dials() && !s.Draining()
	})
}

// Anew has partners that are waited for called at once, and not after the pause that failed calls have brought: what
// was in the way may be gone, as with another address.
func (h *Hub) Anew() {
	h.mu.Lock()
	all := slices.Collect(maps.Values(h.partners))
	h.mu.Unlock()
	for _, p := range all {
		p.change(func() { p.quest.failed, p.quest.next = 0, time.Time{} })
	}
}

// reached notes what a call has brought. The first failure in a row has a record.
func (p *partner) reached(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && p.newest() == nil {
		err = fault.New("relay", fault.Unsupported, "what answers as %s takes no relays, or is gone again", fault.Shown(p.name)).Advise("look whether it is of an older version")
	}
	if p.quest.err = err; err == nil {
		p.quest.failed, p.quest.next = 0, time.Time{}
		return
	}
	if p.quest.failed == 0 {
		p.hub.cfg.Logger.LogAttrs(p.hub.ctx, slog.LevelWarn, "relays have no session with partner", slog.String("partner", p.name), slog.String("cause", err.Error()))
	}
	p.quest.next = time.Now().Add(reachPause(p.quest.failed))
	p.quest.failed++
}

// noSession is why there was none in time.
func noSession(partner string, err error) error {
	if err != nil {
		return fault.New("relay", fault.Lost, "there is no session with %s: %w", fault.Shown(partner), err)
	}
	return fault.New("relay", fault.Lost, "there is no session with %s", fault.Shown(partner))
}

// tell completes the snapshot of a relay of the partner's.
func (p *partner) tell(s *Stats, at Place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Session = p.newest() != nil
	if at == There && !s.Session {
		s.Trouble = noSession(p.name, p.quest.err)
	}
}
