package rpctest

import (
	"errors"
	"io/fs"
	"os"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/relpath"
)

// Disk is the operating system's files with faults between: fail is asked before each
// operation, by name ("read", "write", "sync", "rename", "link", "sync directory"),
// and what it returns is the operation's error.
type Disk struct{ Fail func(op string) error }

// Dir implements sideeffect.Layer.
func (d Disk) Dir(root *os.Root, dir relpath.Path) (sideeffect.Dir, error) {
	at := "."
	if !dir.IsZero() {
		at = dir.String()
	}
	r, err := root.OpenRoot(at)
	if err != nil {
		return nil, err
	}
	return diskDir{r, d}, nil
}

type diskDir struct {
	*os.Root
	disk Disk
}

func (d diskDir) OpenFile(name string, flag int, perm fs.FileMode) (sideeffect.LayerFile, error) {
	f, err := d.Root.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return diskFile{f, d.disk}, nil
}

func (d diskDir) Rename(from, to string) error {
	if err := d.disk.Fail("rename"); err != nil {
		return err
	}
	return d.Root.Rename(from, to)
}

func (d diskDir) Link(from, to string) error {
	if err := d.disk.Fail("link"); err != nil {
		return err
	}
	return d.Root.Link(from, to)
}

func (d diskDir) Sync() error {
	if err := d.disk.Fail("sync directory"); err != nil {
		return err
	}
	f, err := d.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

type diskFile struct {
	*os.File
	disk Disk
}

func (f diskFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.disk.Fail("read"); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f diskFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.disk.Fail("write"); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f diskFile) Sync() error {
	if err := f.disk.Fail("sync"); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f diskFile) SyncData() error    { return f.Sync() }
func (diskFile) Allocate(int64) error { return nil }
func (diskFile) Lock() error          { return nil }
