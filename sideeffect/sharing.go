package sideeffect

import (
	"sync"
	"sync/atomic"
)

// mostShared is the most of a Sharing's memory that one file has.
const mostShared = 2 // one of so many parts

// leastShared is how many bytes a source has at the least that shares.
const leastShared = 1 << 20

// A Sharing lets sources of one version of a file that are open at the same time share
// their reading, whoever has opened them: what one reads is kept in a window for those
// who come to it later. Who is ahead of the window waits a little for those behind: half of its
// time at most; who falls behind nevertheless reads by itself.
// Made by NewSharing.
type Sharing struct {
	most int
	room *pieces
	read atomic.Int64

	mu    sync.Mutex
	files map[sharedFile]*window // opened and not all closed
}

// sharedFile is what sources have in common that share.
type sharedFile struct {
	version Version
	offset  int64
}

// NewSharing is one whose windows have that much memory together, and at least 1 MiB. It takes
// memory only while sources share.
func NewSharing(memory int64) *Sharing {
	most := max(minSharedPieces*mostShared, memory/pieceSize)
	return &Sharing{most: int(most / mostShared), room: newPieces(most), files: map[sharedFile]*window{}}
}

// ReadBytes is how many bytes its sources have really read.
func (s *Sharing) ReadBytes() int64 { return s.read.Load() }

// Of is id with sources that share. others is how many more are about to be opened; they
// are expected for some seconds, so that the first does not run ahead of them. What has no
// version, or cannot be read again, is not shared, nor what is smaller than 1 MiB.
func (s *Sharing) Of(id Identity, others int) Identity { return sharing{id, s, others} }

type sharing struct {
	Identity
	shared *Sharing
	others int
}

func (i sharing) OpenSource(spec SourceSpec) (Source, error) {
	src, err := i.Identity.OpenSource(spec)
	if err != nil || src.Version().IsZero() || !src.Rewindable() || src.Size() < leastShared {
		return src, err
	}
	s, file := i.shared, sharedFile{src.Version(), spec.Offset}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.files[file]
	if w == nil {
		w = newWindow(s.most, s.room, true, true, &s.read)
		s.files[file] = w
		w.expect(i.others)
	}
	return &sharer{Source: src, m: w.join(src), shared: s, file: file}, nil
}

// expect adds members that are about to come, and one in whose place the next joins.
func (w *window) expect(others int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range min(others, mostExpected) + 1 {
		w.add(nil)
	}
}

const mostExpected = 1024

// sharer is a source of its own that takes what others have read.
type sharer struct {
	Source
	m      *member
	shared *Sharing
	file   sharedFile
}

func (s *sharer) ReadBlock(p []byte, off int64) (int, error) { return s.m.ReadBlock(p, off) }

// Prefetch is for the one that reads: what is kept needs no disk.
func (s *sharer) Prefetch(off, n int64) {
	if p, ok := s.Source.(Prefetcher); ok && s.m.leads() {
		p.Prefetch(off, n)
	}
}

// Interrupt ends the waiting for others.
func (s *sharer) Interrupt() {
	s.m.interrupt()
	if i, ok := s.Source.(Interrupter); ok {
		i.Interrupt()
	}
}

// Close leaves the others.
func (s *sharer) Close() error {
	s.m.interrupt()
	s.shared.mu.Lock()
	if s.m.w.leave(s.m) && s.shared.files[s.file] == s.m.w {
		delete(s.shared.files, s.file)
	}
	s.shared.mu.Unlock()
	return s.Source.Close()
}

// leads reports whether nobody is ahead.
func (m *member) leads() bool {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	for other := range m.w.members {
		if other.at > m.at {
			return false
		}
	}
	return true
}
