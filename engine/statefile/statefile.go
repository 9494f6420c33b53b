// Package statefile keeps small files of a node's state directory: each is replaced
// as a whole, so that a crash leaves the old content or the new.
package statefile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pannier/pannier/spec/fault"
)

// most is how many bytes a file may have.
const most = 32 << 20

// Read is the content of a file, nil if there is none. Permission: others may write it.
func Read(path string) ([]byte, error) {
	const op = "read state"
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(op, path, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, fault.Wrap(op, path, err)
	}
	if mode := fi.Mode().Perm(); mode&0o022 != 0 {
		return nil, fault.New(op, fault.Permission, "others may write %s, which has mode %04o: chmod 0600 it", path, mode)
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(data) > most {
		err = fault.New(op, fault.TooLong, "%s has more than %d bytes", path, most)
	}
	return data, fault.Wrap(op, path, err)
}

// Write replaces a file. When it returns nil the content is on the disk; with an error
// the old one may be, or the new. The file is its owner's alone.
func Write(path string, data []byte) error {
	const op = "write state"
	if len(data) > most { // nobody could read it again
		return fault.New(op, fault.TooLong, "%s would have %d bytes, more than %d", path, len(data), most)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".state-*")
	if err != nil {
		return fault.Wrap(op, path, err)
	}
	defer os.Remove(f.Name()) // gone already after the rename
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return fault.Wrap(op, path, err)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
