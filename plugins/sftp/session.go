package sftp

import (
	"context"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// session is a login: one connection, which is made anew when it is lost, and more when
// several files are under way.
type session struct {
	*config
	base string
	caps plugins.Capabilities

	mu      sync.Mutex
	all     []*conn
	open    int           // connections there are, or are being made
	limit   int           // of open; falls when the server lets no more in
	changed chan struct{} // closed and replaced when one has been made, or could not be
	closed  bool
	refused error // the login: nobody tries again with this session

	life   context.Context // until Close
	end    context.CancelFunc
	making sync.WaitGroup
}

func newSession(c *config) *session {
	s := &session{config: c, limit: c.connections, changed: make(chan struct{})}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

func (s *session) Capabilities() plugins.Capabilities { return s.caps }

// path is the name at the server, checked.
func (s *session) path(name string) (string, error) {
	if err := plugins.CheckName(name); err != nil {
		return "", err
	}
	switch {
	case s.base == "/":
		return name, nil
	case name == "/":
		return s.base, nil
	}
	return s.base + name, nil
}

// take is a connection: the one that fewest use.
func (s *session) take(ctx context.Context) (*conn, error) {
	for {
		c, w, err := s.try()
		if c != nil || err != nil {
			return c, err
		}
		if w == nil {
			c, err := s.dial(ctx)
			if err = s.made(c, err); err != nil {
				return nil, err
			}
			continue
		}
		select {
		case <-w:
		case <-ctx.Done():
			return nil, failed(ctx, "connection", s.where, ctx.Err())
		}
	}
}

// try is a connection; or nothing with what to wait for; or nothing at all, when the caller
// is to make one. More are made beside it.
func (s *session) try() (*conn, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, fault.New("sftp", fault.Canceled, "the session is closed")
	}
	s.sweep()
	var best *conn
	for _, c := range s.all {
		if best == nil || c.users < best.users {
			best = c
		}
	}
	if best == nil {
		if s.refused != nil {
			return nil, nil, s.refused
		}
		if s.open > 0 {
			return nil, s.changed, nil
		}
		s.open++
		return nil, nil, nil
	}
	if best.users++; best.users > 1 && s.open < s.limit && s.refused == nil {
		s.open++
		s.making.Go(func() {
			c, err := s.dial(s.life)
			if s.made(c, err) != nil {
				s.mu.Lock()
				s.limit = max(s.open, 1)
				s.mu.Unlock()
			}
		})
	}
	return best, nil, nil
}

// sweep forgets connections that have ended. s.mu is held.
func (s *session) sweep() {
	n := len(s.all)
	s.all = slices.DeleteFunc(s.all, (*conn).dead)
	s.open -= n - len(s.all)
}

// made notes that a connection was made, or could not be. A login that was refused would be
// again: once for each transfer that waits, until the server locks the account.
func (s *session) made(c *conn, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.closed {
		err = fault.New("sftp", fault.Canceled, "the session is closed")
		c.kill(err)
	}
	if err != nil {
		s.open--
		if plugins.RefusedLogin(err) {
			s.refused = err
		}
	} else {
		s.all = append(s.all, c)
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return err
}

// give returns a connection. One that may have no more room than its login found ends with its last user.
func (s *session) give(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.users--; c.users == 0 && c.noRoom.Load() && !c.dead() {
		c.retired.Store(true)
		c.kill(fault.New("sftp", fault.NoSpace, "another login may have more room"))
	}
}

// with runs f with a connection.
func (s *session) with(ctx context.Context, f func(c *conn) error) error {
	c, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer s.give(c)
	return f(c)
}

// Close ends all connections, also those that are in use.
func (s *session) Close() error {
	s.mu.Lock()
	s.closed = true
	all := s.all
	s.all = nil
	s.mu.Unlock()
	s.end()
	for _, c := range all {
		c.kill(fault.New("sftp", fault.Canceled, "the session is closed"))
	}
	s.making.Wait()
	return nil
}

// learn asks a first connection what holds for all: where names begin, and what the server
// can.
func (s *session) learn(ctx context.Context, c *conn) error {
	k := &call{op: "REALPATH"}
	f, err := c.do(ctx, fxName, ask(fxRealpath, "."), k)
	if err != nil {
		return err
	}
	n, home := f.number(), f.text()
	if f.bad || n != 1 || !strings.HasPrefix(home, "/") || plugins.CheckName(path.Clean(home)) != nil {
		return c.broken(k, "%s is no directory", fault.Shown(home))
	}
	if strings.HasPrefix(s.config.base, "/") { // sftp://HOST//DIR is of the server's root
		home = "/"
	}
	s.base = path.Join(home, s.config.base)
	s.caps = plugins.Capabilities{Offsets: true, Write: true, Resume: true, Atomic: c.has(extRename) || c.has(extWhole), List: true, Rename: c.has(extRename) || !c.has(extWhole), Remove: true, Mkdir: true,
		Times: s.times && !c.has(extWhole), Verdict: c.has(extWhole)}
	if s.caps.Checksums, err = c.sums(ctx, s.base); err != nil {
		return err
	}
	note := func(without, text string) {
		if !c.has(without) {
			s.caps.Notes = append(s.caps.Notes, text)
		}
	}
	note(extRename, "the server has no "+extRename+": an older file of the name is not replaced, or with replace=delete not in one step")
	note(extSync, "the server has no "+extSync+": what it has confirmed may be lost when its host fails")
	if len(s.caps.Checksums) == 0 {
		s.caps.Notes = append(s.caps.Notes, "the server computes no checksums: what is written is compared by size")
	}
	return nil
}

// limits asks how large messages may be.
func (c *conn) limits(ctx context.Context) error {
	if !c.has(extLimits) {
		return nil
	}
	f, err := c.do(ctx, fxExtendedReply, ask(fxExtended, extLimits), &call{op: extLimits})
	if err != nil {
		if !c.dead() { // it is said and not done: what every server takes is well
			return nil
		}
		return err
	}
	f.long() // of any message
	read, write := f.long(), f.long()
	if f.bad {
		return nil
	}
	within := func(n uint64) int {
		if n == 0 || n > mostData {
			return mostData
		}
		return int(max(n, 1024))
	}
	c.read, c.write = within(read), within(write)
	return nil
}
