package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
)

// migrations lead from the format that is their index to the next one. Each is
// tried on a copy of the file, and the copy takes its place when all have succeeded.
//
//	1 -> 2: DONE records are found by partner
//	2 -> 3: commits go to a log first
var migrations = [format]func(*bbolt.Tx) error{
	1: addPartners,
	2: addLog,
}

// migrate brings an older file to the present format. The file as it was stays
// beside it, named .format-N, or with a further number. A crash leaves either the old or the new one.
// Exists: another process has it, or is at the same.
func migrate(path string) error {
	const op = "migrate store"
	old, err := formatOf(path)
	if err != nil || old == 0 || old >= format {
		return nil // not to be read, new, present or newer: Open looks at it, and says what is wrong
	}
	held, err := seize(path)
	if err != nil {
		return fault.Wrap(op, path, err)
	}
	defer held.Close()
	kept, fresh := fmt.Sprintf("%s.format-%d", path, old), path+".migrating"
	if err := copyFile(held, fresh); err != nil {
		return fault.Wrap(op, path, err)
	}
	db, err := bbolt.Open(fresh, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true})
	if err == nil {
		err = db.Update(func(tx *bbolt.Tx) error {
			for f := old; f < format; f++ {
				if err := migrations[f](tx); err != nil {
					return err
				}
			}
			return tx.Bucket(buckets[inMeta]).Put(formatKey, binary.BigEndian.AppendUint32(nil, format))
		})
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		return errors.Join(fault.Wrap(op, path, err), os.Remove(fresh))
	}
	if err := keep(path, kept); err != nil {
		return fault.Wrap(op, path, err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fault.Wrap(op, path, err)
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fault.Wrap(op, path, err)
	}
	return errors.Join(fault.Wrap(op, path, d.Sync()), d.Close())
}

// keep gives a file the name kept, too, or, where another file has that, one that is free: a store
// may have been put back as it was, and be written to, before it is migrated again.
func keep(path, kept string) error {
	for n, name := 1, kept; ; n++ {
		err := os.Link(path, name)
		if !errors.Is(err, os.ErrExist) {
			return err
		}
		is, err := os.Stat(path)
		if err != nil {
			return err
		}
		if there, err := os.Stat(name); err == nil && os.SameFile(is, there) { // of a migration that did not come to its end
			return nil
		}
		name = fmt.Sprintf("%s.%d", kept, n)
	}
}

// Formats are that of a store that nobody has open, 0 where there is none yet, and this version's.
// Exists: a process has it open. Corrupt: it is no store.
func Formats(path string) (is, now uint32, err error) {
	is, err = formatOf(path)
	return is, format, err
}

// formatOf reads the format of a file that nobody has open; 0: there is no file,
// or nothing is in it yet.
func formatOf(path string) (f uint32, err error) {
	const op = "look at store"
	switch fi, err := os.Stat(path); {
	case errors.Is(err, os.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, fault.Wrap(op, path, err)
	case fi.Size() == 0:
		return 0, nil
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, berrors.ErrTimeout) {
		return 0, inUse(path)
	}
	if err != nil && fault.KindOf(err) == fault.Internal { // package bbolt says no kinds
		err = fault.New(op, fault.Corrupt, "%w", err)
	}
	if err != nil {
		return 0, fault.Wrap(op, path, err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		if meta := tx.Bucket(buckets[inMeta]); meta != nil {
			if b := meta.Get(formatKey); len(b) == 4 {
				f = binary.BigEndian.Uint32(b)
			}
		}
		return nil
	})
	return f, errors.Join(err, db.Close())
}

// seize takes a file that nobody may have meanwhile: whoever writes to it, and whoever would migrate it, too.
// It is let go of when the result is closed. Exists: somebody has it, or has just migrated it.
func seize(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err = lock(f, path); err == nil && !named(f, path) {
		err = inUse(path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// named reports whether it is f that has the name.
func named(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// copyFile makes a synced copy, in place of what another migration has left.
func copyFile(from *os.File, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, from)
	return errors.Join(err, out.Sync(), out.Close())
}

// addPartners makes the bucket in which DONE records are found by partner.
func addPartners(tx *bbolt.Tx) error {
	if _, err := tx.CreateBucketIfNotExists(buckets[inPartners]); err != nil {
		return err
	}
	return tx.Bucket(buckets[inDone]).ForEach(func(k, v []byte) error {
		r, err := recordAt(k, v)
		if err != nil {
			return err
		}
		if r.State != lifecycle.Done {
			return damaged("a record that is not done among those that are")
		}
		return tx.Bucket(buckets[inPartners]).Put(partnerKey(&r, k), nil)
	})
}

// partnerPrefix is where the DONE records of a partner begin.
func partnerPrefix(name string) []byte { return append([]byte{byte(len(name))}, name...) }

// partnerKey is the place of a DONE record among those of its partner, in the order of time.
func partnerKey(r *lifecycle.Record, ref []byte) []byte {
	return append(partnerPrefix(r.Spec.Partner), endedKey(r, ref)...)
}
