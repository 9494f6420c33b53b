package ftp

import (
	"context"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// session is a login: up to config.connections control connections, each with one thing
// to do at a time. Callers wait for one; that wait ends with their context.
type session struct {
	*config
	number uint64 // of the session; says in which order two are asked for connections
	feat   features
	base   string
	caps   plugins.Capabilities

	mu      sync.Mutex
	idle    []*conn
	all     map[*conn]bool
	open    int           // connections there are, or are being made
	writing int           // of open: those from Write to Commit, which may wait for a reader
	limit   int           // of open; falls when the server says that it is too many
	fell    time.Time     // when limit did
	pause   time.Duration // after that, until one more is tried
	changed chan struct{} // closed and replaced when a connection comes back
	closed  bool
	over    chan struct{}
	keeping sync.WaitGroup
	paces   atomic.Int32 // pace: what is known of pipelining
	full    atomic.Bool  // the server has said that there is no room, and has named no file since

	dirs  map[string]bool     // directories that were there; s.mu
	calls map[netip.Addr]bool // hosts that the server has connected to, for a copy; s.mu
}

var sessions atomic.Uint64

func newSession(c *config) *session {
	return &session{config: c, number: sessions.Add(1), all: map[*conn]bool{}, limit: c.connections,
		changed: make(chan struct{}), over: make(chan struct{})}
}

// grace is how long is waited for a reply that may well not come.
func (s *session) grace() time.Duration { return min(s.timeout, 3*time.Second) }

func (s *session) Capabilities() plugins.Capabilities { return s.caps }

// path is the name at the server, checked.
func (s *session) path(name string) (string, error) {
	if err := plugins.CheckName(name); err != nil {
		return "", err
	}
	if strings.HasSuffix(name, " ") { // pure-ftpd cuts it off, and the file would be another
		return "", fault.Wrap("ftp name", name, fault.New("check name", fault.Invalid, "it ends with a space, which servers cut off"))
	}
	switch {
	case s.base == "/":
		return name, nil
	case name == "/":
		return s.base, nil
	}
	return s.base + name, nil
}

func (s *session) shut() error {
	return fault.New("ftp", fault.Canceled, "the session is closed")
}

// take is an unused connection, or a new one.
func (s *session) take(ctx context.Context) (*conn, error) { return s.takeTo(ctx, false) }

// takeTo is take. Who writes may wait, with the connection, for somebody to read at this session,
// as when a file goes from one name to another through the node. So not all connections are for
// writers: where there are two or more, one is left for all others, who finish without them.
func (s *session) takeTo(ctx context.Context, write bool) (*conn, error) {
	for {
		c, w, err := s.try(write)
		if c != nil || err != nil {
			return c, err
		}
		if w == nil {
			if c, err = s.dial(ctx); err == nil {
				return s.made(c, write)
			}
			if others := s.failed(err, write); !others {
				return nil, err
			}
			continue
		}
		if err := s.wait(ctx, w, write); err != nil {
			return nil, err
		}
	}
}

// anew ends unused connections where the server has said that there is no room: how much a user may have, it
// may know from the login, and may be told to know better since.
func (s *session) anew() {
	if !s.full.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.idle {
		s.drop(c)
	}
	s.idle = nil
}

// wait waits until a connection comes back. Writers that wait themselves, and have every connection,
// are not waited for: what they wait for may be this.
func (s *session) wait(ctx context.Context, back <-chan struct{}, write bool) error {
	var stuck <-chan time.Time
	if !write {
		t := time.NewTicker(max(s.timeout/4, time.Millisecond))
		defer t.Stop()
		stuck = t.C
	}
	for {
		if n := s.stuck(); n > 0 && !write {
			e := &fault.Error{Op: "ftp connection", Kind: fault.Overloaded, Side: fault.Here, Subject: s.where,
				Err: fault.New("connection", fault.Overloaded, "on all connections, %d, files are being written that have got nothing for %v", n, max(s.timeout, starved))}
			return e.Advise("allow more connections here (connections), or at the server, or fewer transfers at a time")
		}
		select {
		case <-back:
			return nil
		case <-ctx.Done():
			return failed(ctx, "connection", s.where, ctx.Err())
		case <-stuck:
		}
	}
}

// single says whether there is no more than one connection.
func (s *session) single() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit == 1
}

// starved is for how long a writer has got no byte at the least, before it is taken for one that waits
// for others here: the limit of a rule, or a disk, may let it wait for half a minute, too.
const starved = 90 * time.Second

// stuck is how many connections there are, if all are of writers that get no bytes.
func (s *session) stuck() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing < s.open {
		return 0
	}
	before := time.Now().Add(-max(s.timeout, starved)).UnixNano()
	for c := range s.all {
		if fed := c.fed.Load(); !c.writes || fed == 0 || fed > before {
			return 0
		}
	}
	return len(s.all)
}

// try is an unused connection; or nothing with what to wait for; or nothing at all, when
// the caller is to make one.
func (s *session) try(write bool) (*conn, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, s.shut()
	}
	s.grow()
	if write && s.writing >= max(s.limit-1, 1) {
		return nil, s.changed, nil
	}
	for len(s.idle) > 0 {
		c := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		if c.alive() {
			s.lend(c, write)
			return c, nil, nil
		}
		s.drop(c)
	}
	if s.open < s.limit {
		if s.open++; write {
			s.writing++
		}
		return nil, nil, nil
	}
	return nil, s.changed, nil
}

// lend notes what a connection is for that is taken. s.mu is held.
func (s *session) lend(c *conn, write bool) {
	if c.writes = write; write {
		s.writing++
		c.fed.Store(time.Now().UnixNano())
	}
}

// back is the end of lend. s.mu is held.
func (s *session) back(c *conn) {
	if c.writes {
		c.writes = false
		s.writing--
	}
	c.fed.Store(0)
}

const (
	leastPause = time.Minute
	mostPause  = 15 * time.Minute
)

// grow tries one connection more, a while after the server had said that so many are too many: it
// may have been others who had them, or a server that was about to go down. s.mu is held.
func (s *session) grow() {
	if s.open < s.limit || s.limit >= s.connections || time.Since(s.fell) < s.pause {
		return
	}
	s.limit++
	s.fell, s.pause = time.Now(), min(2*s.pause, mostPause)
}

// made notes a connection that was made.
func (s *session) made(c *conn, write bool) (*conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.kill()
		return nil, s.shut()
	}
	s.all[c] = true
	if s.limit == s.connections { // as many are let in again as there may be
		s.pause = 0
	}
	if c.writes = write; write {
		c.fed.Store(time.Now().UnixNano())
	}
	return c, nil
}

// failed notes that none could be made. True: it was one too many for the server, and the
// caller waits for one of the others.
func (s *session) failed(err error, write bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open--; write {
		s.writing--
	}
	s.signal()
	if k := fault.KindOf(err); (k != fault.Overloaded && k != fault.Draining) || s.open == 0 {
		return false
	}
	s.limit, s.fell, s.pause = s.open, time.Now(), max(s.pause, leastPause)
	return true
}

// drop forgets a connection. s.mu is held.
func (s *session) drop(c *conn) {
	c.kill()
	s.back(c)
	if s.all[c] {
		delete(s.all, c)
		s.open--
	}
	s.signal()
}

func (s *session) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// give returns a connection.
func (s *session) give(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.dead.Load() || s.closed {
		s.drop(c)
		return
	}
	s.back(c)
	c.idle = time.Now()
	s.idle = append(s.idle, c)
	s.signal()
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

// keep asks unused connections for a sign of life until the session is closed.
func (s *session) keep() {
	defer s.keeping.Done()
	t := time.NewTicker(s.keepalive)
	defer t.Stop()
	for {
		select {
		case <-s.over:
			return
		case <-t.C:
		}
		for _, c := range s.old(time.Now().Add(-s.keepalive)) {
			_, _ = c.command(context.Background(), "NOOP") // a dead one is dropped
			s.give(c)
		}
	}
}

// old takes the connections that were not used since.
func (s *session) old(since time.Time) (old []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rest []*conn
	for _, c := range s.idle {
		if c.idle.Before(since) {
			old = append(old, c)
		} else {
			rest = append(rest, c)
		}
	}
	s.idle = rest
	return old
}

// Close ends all connections, also those that are in use.
func (s *session) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.over)
		for _, c := range s.idle {
			_ = c.raw.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = c.c.Write([]byte("QUIT\r\n"))
		}
		for c := range s.all {
			c.kill()
		}
		s.idle = nil
		s.signal()
	}
	s.mu.Unlock()
	s.keeping.Wait()
	return nil
}

// size asks for the size of a file.
func (c *conn) size(ctx context.Context, path string) (int64, error) {
	r, err := c.command(ctx, "SIZE "+path)
	if err != nil {
		return 0, err
	}
	return c.sizeOf(path, r)
}

// sizeOf is the size that a reply to SIZE says.
func (c *conn) sizeOf(path string, r reply) (int64, error) {
	if !r.good() {
		return 0, c.refused("SIZE", path, r)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(r.text()), 10, 64)
	if err != nil || n < 0 {
		return 0, c.said(fault.Protocol, "SIZE", path, "this is no size: %s", fault.Shown(r.text()))
	}
	return n, nil
}

// modified asks for the time of a file; zero if the server does not say.
func (c *conn) modified(ctx context.Context, path string) (time.Time, error) {
	r, err := c.command(ctx, "MDTM "+path)
	if err != nil {
		return time.Time{}, err
	}
	return timeOf(r), nil
}

// timeOf is what a reply to MDTM says; zero if that is no time.
func timeOf(r reply) (t time.Time) {
	if r.code == 213 {
		t, _ = parseTime(strings.TrimSpace(r.text()))
	}
	return t
}

func (s *session) Stat(ctx context.Context, name string) (a plugins.Attr, err error) {
	path, err := s.path(name)
	if err != nil {
		return a, err
	}
	err = s.with(ctx, func(c *conn) error {
		a, err = c.stat(ctx, path)
		a.Name = name
		return err
	})
	return a, err
}

func (c *conn) stat(ctx context.Context, path string) (plugins.Attr, error) {
	if c.s.feat.has("MLST") {
		r, err := c.must(ctx, "MLST", path)
		if err != nil {
			return plugins.Attr{}, err
		}
		for _, l := range r.lines[min(1, len(r.lines)-1):] {
			if e, ok := parseFacts(strings.TrimPrefix(l, " ")); ok {
				return e.Attr, nil
			}
		}
		return plugins.Attr{}, c.said(fault.Protocol, "MLST", path, "the reply has no facts: %s", fault.Shown(r.text()))
	}
	n, err := c.size(ctx, path)
	if err == nil {
		t, err := c.modified(ctx, path)
		return plugins.Attr{Size: n, Modified: t}, err
	}
	if c.dead.Load() {
		return plugins.Attr{}, err
	}
	r, err2 := c.command(ctx, "CWD "+path) // names are sent absolute, so it changes nothing
	if err2 != nil {
		return plugins.Attr{}, err2
	}
	if !r.good() {
		return plugins.Attr{}, err
	}
	return plugins.Attr{Size: -1, Dir: true}, nil
}

// Rename renames; most servers replace a file of the name.
func (s *session) Rename(ctx context.Context, from, to string) error {
	a, err := s.path(from)
	if err != nil {
		return err
	}
	b, err := s.path(to)
	if err != nil {
		return err
	}
	return s.with(ctx, func(c *conn) error { return c.rename(ctx, a, b) })
}

func (c *conn) rename(ctx context.Context, from, to string) error {
	r, err := c.command(ctx, "RNFR "+from)
	if err != nil {
		return err
	}
	if r.code != 350 {
		return c.refused("RNFR", from, r)
	}
	_, err = c.must(ctx, "RNTO", to)
	return err
}

// Remove deletes a file, or a directory that is empty.
func (s *session) Remove(ctx context.Context, name string) error {
	path, err := s.path(name)
	if err != nil {
		return err
	}
	return s.with(ctx, func(c *conn) error {
		_, err := c.must(ctx, "DELE", path)
		if err == nil || c.dead.Load() {
			return err
		}
		if a, err2 := c.stat(ctx, path); err2 != nil || !a.Dir {
			return err
		}
		_, err = c.must(ctx, "RMD", path)
		return err
	})
}

// mostDirs is how many directories a session remembers.
const mostDirs = 10000

// there says whether a directory was there a while ago.
func (s *session) there(dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dirs[dir]
}

// reached says whether the server has connected to the host before, when it was told to.
func (s *session) reached(host netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[host]
}

// reaches notes whether it has.
func (s *session) reaches(host netip.Addr, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.calls) >= mostDirs || s.calls == nil {
		s.calls = map[netip.Addr]bool{}
	}
	s.calls[host] = yes
}

// placed notes what a server says to CWD. A directory that is not there is an error, which
// not all servers name when a file is to be stored there: names are sent absolute, so CWD
// changes nothing.
func (c *conn) placed(dir string, r reply) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if r.code == 550 {
		delete(c.s.dirs, dir)
		return c.refused("CWD", dir, r)
	}
	if len(c.s.dirs) >= mostDirs || c.s.dirs == nil {
		c.s.dirs = map[string]bool{}
	}
	c.s.dirs[dir] = r.good()
	return nil
}

// unplaced is why a file or directory could not be made: err, or that its directory is not there.
func (c *conn) unplaced(ctx context.Context, file string, err error) error {
	if k := fault.KindOf(err); k != fault.Permission || c.dead.Load() {
		return err
	}
	dir := path.Dir(file)
	r, lost := c.command(ctx, "CWD "+dir)
	if lost != nil {
		return err
	}
	if none := c.placed(dir, r); fault.KindOf(none) == fault.NotFound {
		return none
	}
	return err
}

// Mkdir makes a directory.
func (s *session) Mkdir(ctx context.Context, name string) error {
	path, err := s.path(name)
	if err != nil {
		return err
	}
	return s.with(ctx, func(c *conn) (err error) {
		for range 2 { // somebody else may have made the one that it is in, meanwhile
			if _, err = c.must(ctx, "MKD", path); err == nil || c.dead.Load() {
				return err
			}
			if a, err2 := c.stat(ctx, path); err2 == nil && a.Dir {
				return nil
			}
			if err = c.unplaced(ctx, path, err); fault.KindOf(err) != fault.Permission {
				return err
			}
		}
		return err
	})
}
