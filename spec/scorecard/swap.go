package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// swap is a race: a link below a root leads now to a folder inside, now to one
// outside, while files are read and written through it.
type swap struct {
	dir                  string
	root                 *os.Root
	tries, good, escapes int
}

// run races for a while, or until it has lost.
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
	for ctx.Err() == nil && s.escapes == 0 {
		s.read()
		s.write()
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
func (s *swap) read() {
	s.tries++
	b, err := s.source()
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
