package sideeffect

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/pannier/pannier/spec/fault"
)

const minSharedPieces = 2

// A SharedIdentity is one identity read once for several sinks; made by Shared.
type SharedIdentity struct {
	of   Identity
	most int // pieces in each cache
	read atomic.Int64

	mu     sync.Mutex
	groups map[int64]*sharedGroup // by offset: not all closed
}

// sharedGroup is the sources that read the same bytes.
type sharedGroup struct {
	offset int64
	opened chan struct{} // closed when the first has opened, or could not
	window *window       // these once opened is closed
	src    Source
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
		most:   int(max(minSharedPieces, cacheBytes/pieceSize)),
		groups: make(map[int64]*sharedGroup),
	}
}

// ReadBytes is the number of bytes really read from the identity so far.
func (s *SharedIdentity) ReadBytes() int64 { return s.read.Load() }

func (s *SharedIdentity) String() string { return "shared " + s.of.String() }

// OpenSink is fault.Invalid: only sources are shared.
func (s *SharedIdentity) OpenSink(SinkSpec) (Sink, error) {
	return nil, fault.NewLocal("open sink", fault.Invalid, "a shared identity is only for sources")
}

// OpenSource joins the sources that read from the same offset, or is the first. The others wait for
// that one, each for as long as its own opening may take.
func (s *SharedIdentity) OpenSource(spec SourceSpec) (Source, error) {
	var ended <-chan struct{}
	if spec.Opening != nil {
		ended = spec.Opening.Done()
	}
	for {
		g, first := s.group(spec.Offset)
		if first {
			return s.open(g, spec)
		}
		select {
		case <-g.opened:
		case <-ended:
			return nil, fault.NewLocal("open source", fault.Canceled, "%v: the opening has ended: %w", s, context.Cause(spec.Opening))
		}
		if src := s.join(g); src != nil {
			return src, nil
		}
	}
}

// group is that of an offset. first: it is new, and the caller opens it.
func (s *SharedIdentity) group(offset int64) (g *sharedGroup, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g = s.groups[offset]; g == nil {
		g, first = &sharedGroup{offset: offset, opened: make(chan struct{})}, true
		s.groups[offset] = g
	}
	return g, first
}

// open opens a group for its first member. Who waits for it tries it by itself if that fails.
func (s *SharedIdentity) open(g *sharedGroup, spec SourceSpec) (Source, error) {
	defer func() { // also when it panics
		s.mu.Lock()
		defer s.mu.Unlock()
		if g.window == nil {
			delete(s.groups, g.offset)
		}
		close(g.opened)
	}()
	src, err := s.of.OpenSource(spec)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Each piece that is copied from while it leaves the window needs room, too.
	room := newPieces(int64(s.most) * 2)
	g.window, g.src = newWindow(s.most, room, src.Rewindable(), false, &s.read), src
	return &sharedSource{shared: s, group: g, member: g.window.join(src)}, nil
}

// join is another member of a group; nil: there is none to join any more.
func (s *SharedIdentity) join(g *sharedGroup) Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.groups[g.offset] != g {
		return nil
	}
	return &sharedSource{shared: s, group: g, member: g.window.join(g.src)}
}

// sharedSource is one member's view.
type sharedSource struct {
	*member
	shared *SharedIdentity
	group  *sharedGroup
	gone   bool
}

func (m *sharedSource) Size() int64      { return m.src.Size() }
func (m *sharedSource) Rewindable() bool { return m.src.Rewindable() }
func (m *sharedSource) Version() Version { return m.src.Version() }
func (m *sharedSource) Check() error     { return m.src.Check() }

// Close leaves the group, and closes the source after the last one. It must not be called
// during ReadBlock.
func (m *sharedSource) Close() error {
	if m.gone {
		return nil
	}
	m.gone = true
	m.interrupt()
	m.shared.mu.Lock()
	last := m.w.leave(m.member)
	if last {
		delete(m.shared.groups, m.group.offset)
	}
	m.shared.mu.Unlock()
	if last {
		return m.src.Close()
	}
	return nil
}

// Interrupt ends the waiting of this member, and, when it is the last one that was
// not interrupted, the reading of the source.
func (m *sharedSource) Interrupt() {
	if i, ok := m.src.(Interrupter); m.interrupt() && ok {
		i.Interrupt()
	}
}
