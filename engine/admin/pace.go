package admin

import (
	"context"
	"path"
	"time"

	"golang.org/x/time/rate"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// What a token may ask of a node beside which files move. Users of this host have no limits here: they
// could take the machine without.

// How many calls that stay, that look through much, or that are all calls of a token there may be
// at a time, in HTTP and gRPC together.
const (
	mostWatches = 32
	mostWaits   = 128
	mostCalls   = 256
)

// mostOf are such calls by method.
var mostOf = map[string]int{
	adminpb.Admin_List_FullMethodName:        8,
	adminpb.Admin_Browse_FullMethodName:      4,
	adminpb.Admin_Check_FullMethodName:       1,
	adminpb.Admin_Backup_FullMethodName:      1,
	adminpb.Admin_TestFolder_FullMethodName:  2, // looks through a directory, as do the next two
	adminpb.Admin_ScanFolder_FullMethodName:  2,
	adminpb.Admin_ListRules_FullMethodName:   32, // may wait for file systems that do not answer
	adminpb.Admin_TestRule_FullMethodName:    8,
	adminpb.Admin_TestPartner_FullMethodName: 8,
	adminpb.Admin_Timeline_FullMethodName:    32,
}

// How many records a second a token's calls look at, and how many before that at once. A core looks at some
// hundred thousand a second.
const (
	looksPerSecond = 50_000
	looksAtOnce    = 500_000
	looksOfCall    = 20              // what a call costs that looks at one
	mostPatience   = 2 * time.Second // calls that would have to wait longer before they begin are refused
)

// place is what a token's calls are counted by.
type place struct{ token, what string }

// enter takes a call's place among those of the caller's token, which leave gives back, and waits until
// it is its turn. Overloaded: the token has asked too much.
func (s *Server) enter(ctx context.Context, method string) (leave func(), err error) {
	leaveAll, err := s.hold(ctx, "any method", mostCalls)
	if err != nil {
		return nil, err
	}
	leave = leaveAll
	if most := mostOf[method]; most > 0 {
		leaveOne, err := s.hold(ctx, path.Base(method), most)
		if err != nil {
			leaveAll()
			return nil, err
		}
		leave = func() { leaveOne(); leaveAll() }
	}
	if err := s.turn(ctx); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// hold takes a place among the calls of the caller's token, which leave gives back.
func (s *Server) hold(ctx context.Context, what string, most int) (leave func(), err error) {
	c := access.CallerOf(ctx)
	if c.ID == "" {
		return func() {}, nil
	}
	at := place{c.ID, what}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[at] >= most {
		return nil, fault.New("call", fault.Overloaded, "%s has %d calls of %s at a time: end one", c.Name, most, what)
	}
	s.held[at]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held[at]--; s.held[at] == 0 {
			delete(s.held, at)
		}
	}, nil
}

// pace is that of a token, nil for who has none.
func (s *Server) pace(ctx context.Context) *rate.Limiter {
	id := access.CallerOf(ctx).ID
	if id == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.paces[id]
	if l == nil {
		for other, l := range s.paces { // who may look at as much as a new one needs none
			if l.Tokens() >= looksAtOnce {
				delete(s.paces, other)
			}
		}
		l = rate.NewLimiter(looksPerSecond, looksAtOnce)
		s.paces[id] = l
	}
	return l
}

// turn waits until a call may begin.
func (s *Server) turn(ctx context.Context) error {
	l := s.pace(ctx)
	if l == nil {
		return nil
	}
	r := l.ReserveN(time.Now(), looksOfCall)
	wait := r.Delay()
	if wait > mostPatience {
		r.Cancel()
		return fault.New("call", fault.Overloaded, "%s has asked for too much: again in %s", access.CallerOf(ctx).Name, wait.Round(time.Second))
	}
	if wait == 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fault.Wrap("call", "", context.Cause(ctx))
	}
}

// looked lets what has looked at records go on when the caller's token may look at more: see
// store.Query.Looked.
func (s *Server) looked(ctx context.Context) func(n int) error {
	l := s.pace(ctx)
	return func(n int) error {
		if l == nil {
			return nil
		}
		err := l.WaitN(ctx, min(n, looksAtOnce))
		if err != nil && ctx.Err() == nil { // it would not come to its end in time
			err = context.DeadlineExceeded
		} else if err != nil {
			err = context.Cause(ctx)
		}
		return fault.Wrap("look through requests", "", err)
	}
}
