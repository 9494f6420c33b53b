package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// swap is a race: a link below a root leads now to a folder inside, now to one
// outside, while files are read and written through it.
type swap struct {
	dir      string
	careless bool // the negative control: look, then open

	root                 *os.Root
	tries, good, escapes int
}

// run races for a while; a careless one stops as soon as it has lost.
func (s *swap) run(ctx context.Context, d time.Duration) error {
	inside, outside := filepath.Join(s.dir, "root"), filepath.Join(s.dir, "outside")
	err := errors.Join(os.MkdirAll(filepath.Join(inside, "real"), 0o700), os.Mkdir(outside, 0o700),
		os.WriteFile(filepath.Join(inside, "real", "f"), []byte("public"), 0o600),
		os.WriteFile(filepath.Join(outside, "f"), []byte("secret"), 0o600),
		os.Symlink("real", filepath.Join(inside, "d")))
	if err != nil {
		return fault.Wrap("prepare swaps", "", err)
	}
	if s.root, err = os.OpenRoot(inside); err != nil {
		return fault.Wrap("prepare swaps", "", err)
	}
	defer s.root.Close()
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { swapLinks(ctx, inside, outside) })
	for ctx.Err() == nil && !(s.careless && s.escapes > 0) {
		s.read(inside)
		if !s.careless {
			s.write()
		}
	}
	cancel()
	wg.Wait()
	return s.inspect(outside)
}

// swapLinks changes where the link leads, as fast as it can.
func swapLinks(ctx context.Context, inside, outside string) {
	next := filepath.Join(inside, "next")
	for i := 0; ctx.Err() == nil; i++ {
		_ = os.Symlink([]string{"real", outside}[i%2], next)
		_ = os.Rename(next, filepath.Join(inside, "d"))
	}
}

// read opens the file as a source and looks at what it is.
func (s *swap) read(inside string) {
	s.tries++
	open := s.source
	if s.careless {
		open = func() ([]byte, error) { return lookThenOpen(inside, "d/f") }
	}
	b, err := open()
	switch {
	case err == nil && string(b) == "public":
		s.good++
	case err == nil:
		s.escapes++
	}
}

func (s *swap) source() ([]byte, error) {
	src, err := sideeffect.File(s.root, "d/f").OpenSource(sideeffect.SourceSpec{})
	if err != nil {
		return nil, err
	}
	defer src.Close()
	b := make([]byte, 6)
	_, err = src.ReadBlock(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b, err
}

// write makes a file through the link.
func (s *swap) write() {
	s.tries++
	sink, err := sideeffect.File(s.root, "d/g").OpenSink(sideeffect.SinkSpec{NoSync: true})
	if err != nil {
		return
	}
	if sink.WriteBlock([]byte("x"), 0) == nil && sink.Commit() == nil {
		s.good++
	}
	sink.Close()
}

// lookThenOpen is what does not work: the link may change between the two.
func lookThenOpen(root, name string) ([]byte, error) {
	path, err := filepath.EvalSymlinks(filepath.Join(root, name))
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(path, root+string(filepath.Separator)) {
		return nil, fault.New("open", fault.Permission, "%s is outside", path)
	}
	return os.ReadFile(filepath.Join(root, name))
}

// inspect counts what was made or changed outside.
func (s *swap) inspect(outside string) error {
	entries, err := os.ReadDir(outside)
	if err != nil {
		return fault.Wrap("inspect", "", err)
	}
	b, err := os.ReadFile(filepath.Join(outside, "f"))
	if len(entries) != 1 || string(b) != "secret" {
		s.escapes++
	}
	return fault.Wrap("inspect", "", err)
}
