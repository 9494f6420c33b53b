package sideeffect

import (
	"io"
	"os"

	"github.com/pannier/pannier/spec/fault"
)

// fileSource reads a regular file with pread, never by mapping it: a truncated
// mapping is a SIGBUS.
type fileSource struct {
	file   *os.File
	reads  io.ReaderAt // its content: file, or what a layer puts before it
	name   string
	offset int64 // in the file, of the transfer's first byte
	size   int64 // of the transfer
	opened Version
	owned  bool // Close closes file
}

func newFileSource(f *os.File, name string, offset int64) (*fileSource, error) {
	const op = "open source"
	fi, err := f.Stat()
	if err != nil {
		return nil, fault.Wrap(op, name, err)
	}
	if err := mustBeRegular(op, name, fi); err != nil {
		return nil, err
	}
	if offset < 0 || offset > fi.Size() {
		e := fault.NewLocal(op, fault.Invalid, "offset %d is outside the file of %d bytes", offset, fi.Size()).Advise("set Offset to 0..%d", fi.Size())
		e.Subject = name
		return nil, e
	}
	return &fileSource{file: f, reads: f, name: name, offset: offset, size: fi.Size() - offset, opened: versionOf(fi)}, nil
}

func (s *fileSource) Size() int64      { return s.size }
func (s *fileSource) Rewindable() bool { return true }
func (s *fileSource) Version() Version { return s.opened }

func (s *fileSource) ReadBlock(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fault.NewLocal("read source", fault.Invalid, "offset %d", off)
	}
	if off >= s.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.size-off)]
	n, err := s.reads.ReadAt(p, s.offset+off)
	switch {
	case n == len(p) && off+int64(n) == s.size:
		return n, io.EOF
	case n == len(p):
		return n, nil
	case err == io.EOF:
		return n, s.changed("it ended %d bytes early", s.size-off-int64(n))
	}
	return n, fault.Wrap("read source", s.name, err)
}

// Prefetch implements Prefetcher.
func (s *fileSource) Prefetch(off, n int64) {
	if n = min(n, s.size-off); n > 0 {
		willNeed(s.file, s.offset+off, n)
	}
}

func (s *fileSource) Check() error {
	fi, err := s.file.Stat()
	if err != nil {
		return fault.Wrap("check source", s.name, err)
	}
	now := versionOf(fi)
	switch {
	case now.size != s.opened.size:
		return s.changed("its size went from %d to %d bytes", s.opened.size, now.size)
	case now.mtime != s.opened.mtime:
		return s.changed("it was written to while it was read")
	case now != s.opened:
		return s.changed("its inode was changed while it was read (mode, owner, links or content)")
	}
	return nil
}

func (s *fileSource) changed(format string, args ...any) error {
	e := fault.New("read source", fault.SourceChanged, format, args...)
	e.Subject = s.name
	return e
}

func (s *fileSource) Close() error {
	if !s.owned {
		return nil
	}
	s.owned = false
	return fault.Wrap("close source", s.name, s.file.Close())
}
