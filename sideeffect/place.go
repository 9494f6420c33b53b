package sideeffect

import (
	"io/fs"
	"os"
	"slices"
	"sync"
)

// place is a file that sinks of this process write into in place, for as long as one of them is open. Whoever has
// made it removes it when it gives up, but not from under others, nor what others have committed.
type place struct {
	file      fs.FileInfo
	sinks     int
	committed bool // somebody's content is in it for good
}

// places are all of this process.
type places struct {
	mu   sync.Mutex
	open []*place
}

var inPlaces places

// enter books one sink more for a file. Whoever looks afterwards whether the file still has its name knows that
// no other sink takes that away.
func (p *places) enter(file fs.FileInfo) *place {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.open, func(at *place) bool { return os.SameFile(at.file, file) })
	if i < 0 {
		i = len(p.open)
		p.open = append(p.open, &place{file: file})
	}
	p.open[i].sinks++
	return p.open[i]
}

func (p *places) leave(at *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at.sinks--; at.sinks == 0 {
		p.open = slices.DeleteFunc(p.open, func(other *place) bool { return other == at })
	}
}

// commit is told that content is in the file for good.
func (p *places) commit(at *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at.committed = true
}

// unmake has a file removed, if nobody else has anything in it.
func (p *places) unmake(at *place, remove func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at.sinks > 1 || at.committed {
		return nil
	}
	return remove()
}
