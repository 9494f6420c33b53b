// Package notefile keeps what a part of a node remembers beside the store: a bbolt file
// of its own.
package notefile

import (
	"errors"
	"io"
	"os"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/pannier/pannier/spec/fault"
)

// File is one of them. All methods may be called at the same time.
type File struct {
	*bbolt.DB
	of string // whose notes they are, as messages call it
}

// Open opens the file at path, which is made if there is none, with those buckets. Exists:
// another process has it. Corrupt: it is damaged, and bbolt would fall over it.
func Open(path, of string, buckets ...[]byte) (File, error) {
	op := "open the notes of " + of
	if err := sound(path); err != nil {
		if fault.KindOf(err) == fault.Corrupt {
			err = fault.New(op, fault.Corrupt, "%w. Put back a copy of a backup, or remove the file: spec/backup.md says what is forgotten then", err)
		}
		return File{}, fault.Wrap(op, path, err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: patience, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		err = inUse()
	}
	if err != nil {
		return File{}, fault.Wrap(op, path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return File{}, errors.Join(fault.Wrap(op, path, err), db.Close())
	}
	return File{db, of}, nil
}

// patience is how long another process may have the file.
const patience = time.Second

// sound looks at a file that may not be there yet.
func sound(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	free, err := Lock(f, patience)
	switch {
	case err != nil:
		return err
	case !free:
		return inUse()
	}
	return Sound(f)
}

func inUse() error { return fault.New("lock", fault.Exists, "another process has it") }

// Backup writes the file as it is at one moment.
func (f File) Backup(w io.Writer) error {
	return fault.Wrap("back up", f.Path(), Still(f.DB, w))
}

// Close ends the use. Nothing may be called after it.
func (f File) Close() error { return fault.Wrap("close the notes of "+f.of, "", f.DB.Close()) }
