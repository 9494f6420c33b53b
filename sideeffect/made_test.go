package sideeffect

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/pannier/pannier/spec/fault"
)

// TestMakeDirs: each name of the way is synced before it is called durable, also
// when another has made it, and once only.
func TestMakeDirs(t *testing.T) {
	root, dir := newRoot(t)
	var synced []string
	var refuse error
	m := madeDirs{known: map[madeDir]struct{}{}, sync: func(d *os.File) error {
		synced = append(synced, filepath.Base(d.Name()))
		return refuse
	}}
	top := filepath.Base(dir)
	wantSyncs := func(path string, want ...string) {
		t.Helper()
		synced = nil
		noError(t, m.make(root, mustParse(t, path)))
		for i := range synced {
			if synced[i] == "." {
				synced[i] = top
			}
		}
		for i := range want {
			if want[i] == "." {
				want[i] = top
			}
		}
		if !slices.Equal(synced, want) {
			t.Errorf("%s: synced %q, want %q", path, synced, want)
		}
	}
	noError(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755)) // by another run, which has not come to its sync
	wantSyncs("a/b/c", ".", "a", "b")
	wantSyncs("a/b/c")
	wantSyncs("a/b")
	wantSyncs("a/d", "a")
	noError(t, os.Remove(filepath.Join(dir, "a/d")))
	wantSyncs("a/d", "a") // another directory, perhaps of the same inode number
	noError(t, os.Rename(filepath.Join(dir, "a/d"), filepath.Join(dir, "a/e")))
	wantSyncs("a/e", "a") // by another name
	refuse = errors.New("the disk says no")
	if err := m.make(root, mustParse(t, "f")); !errors.Is(err, refuse) {
		t.Error(err)
	}
	refuse = nil
	wantSyncs("f", ".") // what has failed is not durable
	write(t, dir, "file", []byte("x"))
	wantKind(t, m.make(root, mustParse(t, "file")), fault.Exists)
	if err := m.make(root, mustParse(t, "file/below")); err == nil {
		t.Error("a directory below a file")
	}
}

// TestMakeDirsWaits: who finds a directory that another run has made, and has not
// synced yet, does not go on before a sync.
func TestMakeDirsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, _ := newRoot(t)
		var mu sync.Mutex
		begun := 0
		disk := make(chan struct{})
		m := madeDirs{known: map[madeDir]struct{}{}, sync: func(*os.File) error {
			mu.Lock()
			begun++
			mu.Unlock()
			<-disk
			return nil
		}}
		over := make(chan error, 2)
		for i := range 2 {
			go func() { over <- m.make(root, mustParse(t, "new")) }()
			synctest.Wait()
			if len(over) > 0 || begun != i+1 {
				t.Errorf("%d are over, %d syncs have begun", len(over), begun)
			}
		}
		close(disk)
		noError(t, <-over)
		noError(t, <-over)
	})
}
