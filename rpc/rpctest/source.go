package rpctest

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/pannier/pannier/sideeffect"
)

// Content is n bytes, the same for the same arguments: random, or text that
// compresses well.
func Content(n int, random bool) []byte {
	b := make([]byte, n)
	if random {
		var seed [32]byte
		seed[0], seed[1], seed[2], seed[3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
		rand.NewChaCha8(seed).Read(b)
		return b
	}
	for done := copy(b, "pannier carries files beside calls; "); done < n; {
		done += copy(b[done:], b[:done])
	}
	return b
}

// shelf is a folder for what one case reads and writes.
type shelf struct {
	root *os.Root
	dir  string
}

// newShelf makes a folder that ends with the test, below dir, or where the test
// keeps its temporary files if that is empty.
func newShelf(t testing.TB, dir string) *shelf {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	dir, err := os.MkdirTemp(dir, "shelf")
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		root.Close()
		os.RemoveAll(dir)
	})
	return &shelf{root: root, dir: dir}
}

func (s *shelf) path(name string) string { return filepath.Join(s.dir, name) }

func (s *shelf) put(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(s.path(name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// open opens a file until the test or case ends.
func (s *shelf) open(t testing.TB, name string, flag int) *os.File {
	t.Helper()
	f, err := s.root.OpenFile(name, flag, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// names are the entries of the folder.
func (s *shelf) names(t testing.TB) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// source is the identity that a case reads. done ends its use.
func (s *shelf) source(t testing.TB, k SourceKind, content []byte) (id sideeffect.Identity, done func()) {
	t.Helper()
	nothing := func() {}
	switch k {
	case FromMemory:
		return sideeffect.Memory(content), nothing
	case FromBuffer:
		return sideeffect.Buffer(bytes.NewBuffer(content)), nothing
	case FromReader:
		return sideeffect.Reader(bytes.NewReader(content), int64(len(content))), nothing
	case FromStream:
		return sideeffect.Reader(io.MultiReader(bytes.NewReader(content)), -1), nothing
	}
	s.put(t, "source", content)
	if k == FromFile {
		return sideeffect.File(s.root, "source"), nothing
	}
	if k == FromFD {
		f := s.open(t, "source", os.O_RDONLY)
		return sideeffect.FD(f), func() { f.Close() }
	}
	id, mount := s.handle(t, "source")
	return id, func() { mount.Close() }
}

// handle is a file by its handle.
func (s *shelf) handle(t testing.TB, name string) (sideeffect.Identity, *os.File) {
	t.Helper()
	h, err := sideeffect.HandleOf(s.path(name))
	if err != nil {
		t.Fatal(err)
	}
	mount := s.open(t, ".", os.O_RDONLY)
	return sideeffect.Handle(mount, h), mount
}

// opensHandles reports whether files can be opened by handle here: it needs a
// privilege and a file system that has handles.
func (s *shelf) opensHandles(t testing.TB) bool {
	t.Helper()
	s.put(t, "probe", nil)
	defer os.Remove(s.path("probe"))
	h, err := sideeffect.HandleOf(s.path("probe"))
	if err != nil {
		return false
	}
	mount := s.open(t, ".", os.O_RDONLY)
	defer mount.Close()
	src, err := sideeffect.Handle(mount, h).OpenSource(sideeffect.SourceSpec{})
	if err != nil {
		return false
	}
	src.Close()
	return true
}
