package sideeffect

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/pannier/pannier/spec/fault"
)

const (
	sharedUnit     = 256 << 10 // bytes per cached piece
	minSharedUnits = 2
)

// A SharedIdentity is one identity read once for several sinks; made by Shared.
type SharedIdentity struct {
	of    Identity
	units int // most pieces in each cache
	read  atomic.Int64

	mu     sync.Mutex
	groups map[SourceSpec]*sharedGroup // opened and not all closed
}

// Shared lets sources opened from it at the same time share their reading: a
// piece is read once by the first who needs it, and kept in a cache of about
// cacheBytes (at least 512 KiB) for the others. Who falls behind the cache
// reads again by itself and holds nobody up. When id cannot be read again (a
// Reader), the cache is the window instead: the first waits until the last has
// caught up, and a source opened after pieces left the cache fails.
func Shared(id Identity, cacheBytes int64) *SharedIdentity {
	return &SharedIdentity{
		of:     id,
		units:  int(max(minSharedUnits, cacheBytes/sharedUnit)),
		groups: make(map[SourceSpec]*sharedGroup),
	}
}

// ReadBytes is the number of bytes really read from the identity so far.
func (s *SharedIdentity) ReadBytes() int64 { return s.read.Load() }

func (s *SharedIdentity) String() string { return "shared " + s.of.String() }

// OpenSink is fault.Invalid: only sources are shared.
func (s *SharedIdentity) OpenSink(SinkSpec) (Sink, error) {
	return nil, fault.NewLocal("open sink", fault.Invalid, "a shared identity is only for sources")
}

// OpenSource joins the sources that read from the same offset, or is the first.
func (s *SharedIdentity) OpenSource(spec SourceSpec) (Source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[spec]
	if g == nil {
		src, err := s.of.OpenSource(spec)
		if err != nil {
			return nil, err
		}
		g = &sharedGroup{shared: s, spec: spec, src: src, units: make(map[int64]*unit), members: make(map[*sharedSource]bool)}
		g.freed.L = &g.mu
		s.groups[spec] = g
	}
	m := &sharedSource{group: g, left: make(chan struct{})}
	g.mu.Lock()
	g.members[m] = true
	g.mu.Unlock()
	return m, nil
}

// leave takes m out, and closes the source after the last one.
func (s *SharedIdentity) leave(m *sharedSource) error {
	s.mu.Lock()
	g := m.group
	g.mu.Lock()
	delete(g.members, m)
	last := len(g.members) == 0
	g.freed.Broadcast()
	g.mu.Unlock()
	if last {
		delete(s.groups, g.spec)
	}
	s.mu.Unlock()
	if last {
		return g.src.Close()
	}
	return nil
}

// sharedGroup is the sources that read the same bytes.
//
//	a unit is in units from the moment somebody starts to read it
//	len(units) <= shared.units, and every unit in it is below next
type sharedGroup struct {
	shared *SharedIdentity
	spec   SourceSpec
	src    Source

	mu      sync.Mutex // never held while reading
	freed   sync.Cond  // a member moved on, left or was interrupted; a unit was read
	units   map[int64]*unit
	oldest  int64 // no unit below it is cached
	next    int64 // first unit nobody has started to read
	members map[*sharedSource]bool
}

// unit is one piece; data, n and err are set before ready is closed.
type unit struct {
	ready chan struct{}
	data  []byte
	err   error // io.EOF when it is the last
}

func (u *unit) isReady() bool {
	select {
	case <-u.ready:
		return true
	default:
		return false
	}
}

// get is the unit m needs: a cached one, one m reads now, or nil when m is
// behind the cache, or has started so far ahead (a resumed transfer) that the
// others should not lose the cache to it.
func (g *sharedGroup) get(m *sharedSource, index int64) (*unit, error) {
	g.mu.Lock()
	for {
		if u := g.units[index]; u != nil {
			g.mu.Unlock()
			return u, u.wait(m)
		}
		if index != g.next || m.isInterrupted() {
			g.mu.Unlock()
			return nil, m.interruption()
		}
		if g.makeRoom() {
			break
		}
		g.freed.Wait()
	}
	u := &unit{ready: make(chan struct{})}
	g.units[index] = u
	if len(g.units) == 1 {
		g.oldest = index
	}
	g.next = index + 1
	g.mu.Unlock()
	g.fill(u, index)
	return u, nil
}

// fill reads a unit for all who wait for it.
func (g *sharedGroup) fill(u *unit, index int64) {
	data := make([]byte, sharedUnit)
	n, err := g.src.ReadBlock(data, index*sharedUnit)
	u.data, u.err = data[:n], err
	g.shared.read.Add(int64(n))
	close(u.ready)
	g.mu.Lock()
	g.freed.Broadcast()
	g.mu.Unlock()
}

// makeRoom makes room for one unit, if it may: never by taking away one that
// is being read, nor, from a source that cannot be read again, one that
// somebody still needs. g.mu is held.
func (g *sharedGroup) makeRoom() bool {
	if len(g.units) < g.shared.units {
		return true
	}
	for g.units[g.oldest] == nil {
		g.oldest++
	}
	if !g.units[g.oldest].isReady() {
		return false
	}
	if !g.src.Rewindable() && g.slowest() <= g.oldest {
		return false
	}
	delete(g.units, g.oldest)
	g.oldest++
	return true
}

// slowest is the lowest unit a member still needs. g.mu is held.
func (g *sharedGroup) slowest() int64 {
	low := g.next
	for m := range g.members {
		if !m.isInterrupted() {
			low = min(low, m.at)
		}
	}
	return low
}

// allInterrupted tells whether nobody wants the source's bytes any more.
func (g *sharedGroup) allInterrupted() bool {
	for m := range g.members {
		if !m.isInterrupted() {
			return false
		}
	}
	return true
}

// sharedSource is one member's view.
type sharedSource struct {
	group *sharedGroup
	at    int64 // unit it needs; under group.mu
	once  sync.Once
	left  chan struct{} // closed by Interrupt and Close
	gone  bool
}

func (m *sharedSource) Size() int64      { return m.group.src.Size() }
func (m *sharedSource) Rewindable() bool { return m.group.src.Rewindable() }
func (m *sharedSource) Version() Version { return m.group.src.Version() }
func (m *sharedSource) Check() error     { return m.group.src.Check() }

// Close leaves the group. It must not be called during ReadBlock.
func (m *sharedSource) Close() error {
	if m.gone {
		return nil
	}
	m.gone = true
	m.once.Do(func() { close(m.left) })
	return m.group.shared.leave(m)
}

// Interrupt ends the waiting of this member, and, when it is the last one that was
// not interrupted, the reading of the source.
func (m *sharedSource) Interrupt() {
	m.once.Do(func() { close(m.left) })
	g := m.group
	g.mu.Lock()
	all := g.allInterrupted()
	g.freed.Broadcast()
	g.mu.Unlock()
	if i, ok := g.src.(Interrupter); ok && all {
		i.Interrupt()
	}
}

func (m *sharedSource) isInterrupted() bool {
	select {
	case <-m.left:
		return true
	default:
		return false
	}
}

func (m *sharedSource) interruption() error {
	if m.isInterrupted() {
		return fault.New("read shared source", fault.Canceled, "the reading was interrupted")
	}
	return nil
}

// wait waits until the unit was read, or m is interrupted.
func (u *unit) wait(m *sharedSource) error {
	select {
	case <-u.ready:
		return nil
	case <-m.left:
		return m.interruption()
	}
}

func (m *sharedSource) ReadBlock(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fault.NewLocal("read shared source", fault.Invalid, "offset %d", off)
	}
	done := 0
	for done < len(p) {
		n, err := m.readSome(p[done:], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// readSome reads from one unit, at most to its end.
func (m *sharedSource) readSome(p []byte, off int64) (int, error) {
	index, in := off/sharedUnit, int(off%sharedUnit)
	m.moveTo(index)
	u, err := m.group.get(m, index)
	if err != nil {
		return 0, err
	}
	if u == nil {
		return m.readAlone(p[:min(len(p), sharedUnit-in)], off)
	}
	if in > len(u.data) || in == len(u.data) && u.err != nil {
		if u.err != nil {
			return 0, u.err
		}
		return 0, io.EOF
	}
	n := copy(p, u.data[in:])
	if in+n == len(u.data) {
		return n, u.err
	}
	return n, nil
}

// readAlone is for a member that is not where the cache is.
func (m *sharedSource) readAlone(p []byte, off int64) (int, error) {
	if !m.group.src.Rewindable() {
		return 0, fault.NewLocal("read shared source", fault.Unsupported,
			"byte %d has left the cache and cannot be read again: open all sources before one is a cache ahead", off)
	}
	n, err := m.group.src.ReadBlock(p, off)
	m.group.shared.read.Add(int64(n))
	return n, err
}

func (m *sharedSource) moveTo(index int64) {
	g := m.group
	g.mu.Lock()
	if m.at != index {
		m.at = index
		g.freed.Broadcast()
	}
	g.mu.Unlock()
}
