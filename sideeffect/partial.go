package sideeffect

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

// How long a resume point waits for the run before, which may have been given
// up only now and still be writing down how far it came.
const (
	lockPatience = 10 * time.Second
	lockPause    = 5 * time.Millisecond
)

// awaitLock locks f until it is closed, waiting for another holder to finish.
func awaitLock(ctx context.Context, f LayerFile) error {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for {
		err := f.Lock()
		if fault.KindOf(err) != fault.Overloaded {
			return err
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			return err
		}
	}
}

// loadPoint is the resume point beside a partial file, which is checked against it.
func loadPoint(ctx context.Context, dir Dir, partial string, check ResumeCheck) (ResumePoint, error) {
	f, err := openRegular(dir, partial, os.O_RDONLY)
	if err != nil {
		return ResumePoint{}, err
	}
	defer f.Close()
	if err := awaitLock(ctx, f); err != nil {
		return ResumePoint{}, err
	}
	s, err := readState(dir, partial)
	if err != nil {
		return ResumePoint{}, err
	}
	if err := s.checkLast(f); err != nil {
		return ResumePoint{}, err
	}
	if check == CheckAll {
		content := io.NewSectionReader(f, s.Start, s.Offset)
		root, err := RootOf(ctx, content, s.Offset, s.BlockSize, nil)
		if err != nil {
			return ResumePoint{}, err
		}
		if root != s.Root {
			return ResumePoint{}, damaged("the partial file is not what the state says")
		}
	}
	return s.ResumePoint, nil
}

// readState reads and parses the state file of a partial file.
func readState(dir Dir, partial string) (state, error) {
	f, err := openRegular(dir, stateName(partial), os.O_RDONLY)
	if err != nil {
		return state{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, MaxStateSize+1))
	if err != nil {
		return state{}, fault.Wrap("read resume state", partial, err)
	}
	return parseState(b)
}

// checkLast reads the last block before the durable offset again.
func (s state) checkLast(f io.ReaderAt) error {
	b := make([]byte, s.lastLen)
	off := s.Offset - s.lastLen
	if n, err := f.ReadAt(b, s.Start+off); n < len(b) {
		return damaged("the partial file is shorter than %d bytes: %w", s.Offset, err)
	}
	if xxh3.HashSeed(b, uint64(off)) != s.lastSum {
		return damaged("the last block of the partial file is not what the state says")
	}
	return nil
}

// writeState puts s beside the partial file: written aside, synced, renamed,
// directory synced. The data must be synced before.
func writeState(dir Dir, partial string, s state) error {
	const op = "write resume state"
	temp := stateName(partial) + newSuffix
	f, err := createNew(dir, temp, os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) { // left by a crash, or a link that somebody put there
		_ = dir.Remove(temp)
		f, err = createNew(dir, temp, os.O_WRONLY, 0o600)
	}
	if err != nil {
		return fault.Wrap(op, partial, err)
	}
	err = writeAll(f, s.encode(), 0)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = dir.Rename(temp, stateName(partial))
	}
	if err == nil {
		err = dir.Sync()
	}
	return fault.Wrap(op, partial, err)
}

// createNew makes a file of dir, and never opens one that is there, nor what a
// link leads to.
func createNew(dir Dir, name string, flag int, perm os.FileMode) (LayerFile, error) {
	return dir.OpenFile(name, flag|os.O_CREATE|os.O_EXCL|unix.O_NONBLOCK, perm) // which spares trying whether it can be polled
}

// openRegular opens a file of dir without waiting for anything, and refuses
// what is not regular.
func openRegular(dir Dir, name string, flag int) (LayerFile, error) {
	f, err := dir.OpenFile(name, flag|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil {
		err = mustBeRegular("open file", name, fi)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// writeAll writes p at off; a short write without an error is one.
func writeAll(f io.WriterAt, p []byte, off int64) error {
	for len(p) > 0 {
		part := p[:min(len(p), writePart)]
		n, err := f.WriteAt(part, off)
		if err == nil && n < len(part) {
			err = &fault.Error{Op: "write", Kind: fault.IO, Err: io.ErrShortWrite}
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// writePart is how much goes to a file at once. For a larger write Linux takes larger pieces of memory, which in a
// virtual machine are those that its host has taken back, and has to find again page by page.
const writePart = 256 << 10
