package sideeffect

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/pannier/pannier/spec/relpath"
)

// faulty is the operating system with a journal, and with an operation that
// fails: the nth one called op gives err (for write: after short bytes).
type faulty struct {
	osLayer
	mu      sync.Mutex
	journal []string
	count   map[string]int
	op      string
	nth     int
	from    bool // the nth and every later one
	err     error
	short   int
}

func (l *faulty) note(op, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count == nil {
		l.count = make(map[string]int)
	}
	l.count[op]++
	entry := op
	if name != "" {
		entry += " " + kindOfName(name)
	}
	if n := len(l.journal); n == 0 || l.journal[n-1] != entry {
		l.journal = append(l.journal, entry)
	}
	if op == l.op && (l.count[op] == l.nth || l.from && l.count[op] > l.nth) {
		return l.err
	}
	return nil
}

func (l *faulty) String() string { return strings.Join(l.journal, ", ") }

// kindOfName makes names comparable: temp, partial, state, or the name.
func kindOfName(name string) string {
	_, rest, ok := strings.Cut(name, tempMark)
	switch {
	case !ok:
		return name
	case strings.HasSuffix(rest, newSuffix):
		return "state.new"
	case strings.HasSuffix(rest, stateSuffix):
		return "state"
	case rest[0] == 'r':
		return "partial"
	}
	return "temp"
}

func (l *faulty) Dir(root *os.Root, dir relpath.Path) (Dir, error) {
	d, err := l.osLayer.Dir(root, dir)
	if err != nil {
		return nil, err
	}
	return faultyDir{d, l}, nil
}

type faultyDir struct {
	Dir
	l *faulty
}

func (d faultyDir) OpenFile(name string, flag int, perm fs.FileMode) (LayerFile, error) {
	op := "open"
	if flag&os.O_CREATE != 0 {
		op = "create"
	}
	if err := d.l.note(op, name); err != nil {
		return nil, err
	}
	f, err := d.Dir.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return faultyFile{f, d.l, name}, nil
}

func (d faultyDir) Rename(from, to string) error {
	if err := d.l.note("rename", fmt.Sprintf("%s to %s", kindOfName(from), kindOfName(to))); err != nil {
		return err
	}
	return d.Dir.Rename(from, to)
}

func (d faultyDir) Link(from, to string) error {
	if err := d.l.note("link", fmt.Sprintf("%s to %s", kindOfName(from), to)); err != nil {
		return err
	}
	return d.Dir.Link(from, to)
}

func (d faultyDir) Remove(name string) error {
	if err := d.l.note("remove", name); err != nil {
		return err
	}
	return d.Dir.Remove(name)
}

func (d faultyDir) Sync() error {
	if err := d.l.note("syncdir", ""); err != nil {
		return err
	}
	return d.Dir.Sync()
}

type faultyFile struct {
	LayerFile
	l    *faulty
	name string
}

func (f faultyFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.l.note("write", f.name); err != nil {
		n, _ := f.LayerFile.WriteAt(p[:min(f.l.short, len(p))], off)
		return n, err
	}
	if f.l.op == "shortwrite" {
		return f.LayerFile.WriteAt(p[:len(p)/2], off)
	}
	return f.LayerFile.WriteAt(p, off)
}

func (f faultyFile) Sync() error {
	if err := f.l.note("sync", f.name); err != nil {
		return err
	}
	return f.LayerFile.Sync()
}

func (f faultyFile) SyncData() error {
	if err := f.l.note("syncdata", f.name); err != nil {
		return err
	}
	return f.LayerFile.SyncData()
}

func (f faultyFile) Allocate(n int64) error {
	if err := f.l.note("allocate", f.name); err != nil {
		return err
	}
	return f.LayerFile.Allocate(n)
}
