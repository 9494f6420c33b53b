package notefile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"go.etcd.io/bbolt"

	"github.com/dustin/go-humanize"
	"github.com/pannier/pannier/spec/fault"
)

// spare is what has to be free beyond a copy of so many bytes: the node goes on noting meanwhile.
func spare(size int64) int64 { return min(64<<20, 1<<20+4*size) }

// Still writes a database as it is at one moment. It is copied first, to a file beside it that has no
// name any more, and sent from there: as long as a transaction reads, the file cannot be mapped anew, and
// whoever writes waits for that. NoSpace: there is no room for the copy.
func Still(db *bbolt.DB, w io.Writer) error { return still(db, w, freeSpace) }

func still(db *bbolt.DB, w io.Writer, free func(dir string) (int64, error)) error {
	const op = "copy for a backup"
	dir := filepath.Dir(db.Path())
	f, err := os.CreateTemp(dir, ".backup-*")
	if err != nil {
		return fault.Wrap(op, dir, err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return fault.Wrap(op, dir, err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		if has, err := free(dir); err != nil {
			return err
		} else if has < tx.Size()+spare(tx.Size()) {
			return noRoom(dir, tx.Size(), has)
		}
		_, err := tx.WriteTo(f)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			return noRoom(dir, tx.Size(), 0)
		}
		return err
	})
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		_, err = io.Copy(w, f)
	}
	return fault.Wrap(op, db.Path(), err)
}

func noRoom(dir string, size, has int64) error {
	return fault.New("copy", fault.NoSpace, "a backup needs %s for a copy in %s, and %s to go on with, and %s are free: make room there",
		humanize.IBytes(uint64(size)), dir, humanize.IBytes(uint64(spare(size))), humanize.IBytes(uint64(has)))
}

// freeSpace is what this process may still write in a directory, in bytes.
func freeSpace(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fault.Wrap("ask for free space", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
