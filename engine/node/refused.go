package node

import (
	"fmt"
	"reflect"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// A server that has refused a login is not asked again with the same user and password for a
// while, whoever wants it: many servers lock an account after a few attempts, and hundreds of
// requests may wait behind a wrong password.

const (
	refusedFirst = time.Minute
	refusedMost  = 15 * time.Minute
)

// refusal is the last login that a server has refused.
type refusal struct {
	who   plugins.Endpoint
	err   error
	again time.Time     // when another one is tried
	pause time.Duration // until then, from the refusal on
}

// heldBack is why there is no attempt to log in now; nil: there may be one. s.mu is held.
func (s *server) heldBack(to plugins.Endpoint, now time.Time) error {
	r := s.refused
	if r == nil || !now.Before(r.again) || !reflect.DeepEqual(r.who, to) {
		return nil
	}
	held := &fault.Error{Op: "log in", Kind: fault.Unauthenticated, Side: fault.Peer, Subject: s.Name,
		Err: fmt.Errorf("the server has refused this login, and is not asked again until %s, so that it does not lock the account: %w", r.again.UTC().Format(time.RFC3339), r.err)}
	held.Advice = "correct the credentials, which counts at once; if the server was changed instead, pannier partner test " + s.Name + " tries it"
	return held
}

// heard notes what a server has said to a login. s.mu is held.
func (s *server) heard(to plugins.Endpoint, err error, now time.Time) {
	if !plugins.RefusedLogin(err) {
		if err == nil {
			s.refused = nil
		}
		return
	}
	pause := refusedFirst
	if r := s.refused; r != nil && reflect.DeepEqual(r.who, to) {
		pause = min(2*r.pause, refusedMost)
	}
	s.refused = &refusal{who: to, err: err, again: now.Add(pause), pause: pause}
}
