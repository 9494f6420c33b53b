package sideeffect

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// A Layer is the operations on files that sinks are made of, so that tests can
// put faults between them and record their order. FileOn uses one; File uses
// the operating system.
type Layer interface {
	// Dir opens the directory dir below root; the zero Path is root itself.
	// root stays the caller's.
	Dir(root *os.Root, dir relpath.Path) (Dir, error)
}

// A ReadLayer is a Layer that sources are read through, too.
type ReadLayer interface {
	// Reads is what the content of f is read from.
	Reads(f *os.File) io.ReaderAt
}

// A Dir is an open directory. Names are single elements, and stay below the
// root the Dir was opened under even when directories are moved meanwhile.
type Dir interface {
	OpenFile(name string, flag int, perm fs.FileMode) (LayerFile, error)
	Lstat(name string) (fs.FileInfo, error)
	Rename(from, to string) error
	Link(from, to string) error // fails with fs.ErrExist when to exists
	Remove(name string) error
	Sync() error
	Close() error
}

// A LayerFile is an open file of a Dir.
type LayerFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (fs.FileInfo, error)
	Chmod(fs.FileMode) error
	Truncate(size int64) error
	Sync() error            // fsync
	SyncData() error        // fdatasync
	Allocate(n int64) error // reserves room for n bytes, size unchanged; nil where the file system cannot
	Lock() error            // exclusive until Close; fault.Overloaded when another has it
}

// osLayer is the operating system.
type osLayer struct{}

func (osLayer) Dir(root *os.Root, dir relpath.Path) (Dir, error) {
	at := "."
	if !dir.IsZero() {
		at = dir.String()
	}
	r, err := root.OpenRoot(at)
	if err != nil {
		return nil, err
	}
	return osDir{r}, nil
}

type osDir struct{ *os.Root }

func (d osDir) OpenFile(name string, flag int, perm fs.FileMode) (LayerFile, error) {
	f, err := d.Root.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d osDir) Sync() error {
	f, err := d.Root.OpenFile(".", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return errors.Join(dirSyncs.sync(f), f.Close())
}

type osFile struct{ *os.File }

func (f osFile) Lock() error {
	err := f.control("flock", func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fault.New("lock file", fault.Overloaded, "another transfer is writing to it; try again when that is over")
	}
	return err
}

// control runs call on the descriptor, again when a signal interrupts it.
func (f osFile) control(op string, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		for inner = call(int(fd)); inner == unix.EINTR; {
			inner = call(int(fd))
		}
	})
	if err == nil && inner != nil {
		err = &fs.PathError{Op: op, Path: f.Name(), Err: inner}
	}
	return err
}
