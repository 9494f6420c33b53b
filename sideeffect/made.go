package sideeffect

import (
	"errors"
	"io/fs"
	"os"
	"sync"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// MakeDirs makes the directory dir below root with those above it; the zero Path is
// root itself. When it returns their names are durable, whoever made them: what is
// to lie in them can be called durable. Errors are those of the system.
func MakeDirs(root *os.Root, dir relpath.Path) error { return durableDirs.make(root, dir) }

// durableDirs are directories whose names this process knows to be durable.
var durableDirs = madeDirs{known: map[madeDir]struct{}{}, sync: dirSyncs.sync}

// mostDurable is how many are remembered; what is forgotten is synced once more.
const mostDurable = 1 << 16

// madeDirs remembers which directories need no sync of the one above.
type madeDirs struct {
	sync func(*os.File) error

	mu    sync.Mutex
	known map[madeDir]struct{}
}

// madeDir is a directory under a name. An inode number comes again, so the name and
// the place are part of it; one that is made here is synced in any case.
type madeDir struct {
	above, dir dirKey
	name       string
}

func (m *madeDirs) make(root *os.Root, dir relpath.Path) error {
	if dir.IsZero() {
		return nil
	}
	above, name := ".", dir.Dir()
	if err := m.make(root, name); err != nil {
		return err
	}
	if !name.IsZero() {
		above = name.String()
	}
	made := false
	fi, err := root.Stat(dir.String())
	if errors.Is(err, fs.ErrNotExist) {
		err = root.Mkdir(dir.String(), 0o777)
		if made = err == nil; made || errors.Is(err, fs.ErrExist) { // another run was faster
			fi, err = root.Stat(dir.String())
		}
	}
	if err == nil && !fi.IsDir() {
		err = fault.New("make directory", fault.Exists, "a file has the name of a directory that is to be made: move the file away, or use another name")
	}
	if err != nil {
		return fault.Wrap("make directory", dir.String(), err)
	}
	up, err := root.Stat(above)
	if err != nil {
		return fault.Wrap("make directory", dir.String(), err)
	}
	key, told := madeDir{name: dir.Base()}, false
	if k, ok := dirKeyOf(up); ok {
		key.above = k
		key.dir, told = dirKeyOf(fi)
	}
	if told && !made && m.has(key) {
		return nil
	}
	d, err := root.Open(above)
	if err != nil {
		return fault.Wrap("make directory", dir.String(), err)
	}
	if err := errors.Join(m.sync(d), d.Close()); err != nil {
		return fault.Wrap("sync directory", above, err)
	}
	if told {
		m.add(key)
	}
	return nil
}

func (m *madeDirs) has(key madeDir) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.known[key]
	return ok
}

func (m *madeDirs) add(key madeDir) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.known) >= mostDurable {
		clear(m.known)
	}
	m.known[key] = struct{}{}
}
