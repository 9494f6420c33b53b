package boltstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/notefile"
	"github.com/pannier/pannier/spec/fault"
)

// verify reads a file that nobody writes, and finds what bbolt would fall over.
// The error is fault.Corrupt, or of reading.
func verify(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := lock(f, path); err != nil {
		return err
	}
	return restorable(notefile.Sound(f))
}

// restorable says what to do about a damaged file.
func restorable(err error) error {
	if fault.KindOf(err) != fault.Corrupt {
		return err
	}
	return fault.New("verify store", fault.Corrupt, "%w. Restore it from a backup", err)
}

// broken says what is wrong with a file.
func broken(format string, args ...any) error {
	return restorable(fault.New("verify store", fault.Corrupt, "the file is damaged: %s", fmt.Sprintf(format, args...)))
}

// lock waits until nobody has the file. It is let go of when f is closed.
func lock(f *os.File, path string) error {
	free, err := notefile.Lock(f, lockWait)
	if err == nil && !free {
		err = inUse(path)
	}
	return err
}

func inUse(path string) error {
	return fault.New("open store", fault.Exists, "another process has %s open: stop it first", path)
}

// Verify looks at everything in a store that no process has open: the file's
// structure, bbolt's own check, the log, each record and event. It changes nothing. Corrupt:
// what is wrong first.
func Verify(path string) error {
	const op = "verify store"
	if err := verify(path); err != nil {
		return fault.Wrap(op, path, err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return fault.Wrap(op, path, err)
	}
	err = db.View(func(tx *bbolt.Tx) (first error) {
		for err := range tx.Check() {
			if first == nil {
				first = broken("%v", err)
			}
		}
		if first != nil {
			return first
		}
		for _, name := range buckets {
			if tx.Bucket(name) == nil {
				return broken("there is no bucket %q", name)
			}
		}
		id, folded, err := placeOf(tx)
		if err != nil {
			return err
		}
		rest, err := readLog(path, id, folded)
		if err != nil {
			return err
		}
		over, err := replay(tx, rest)
		if err != nil {
			return err
		}
		return verifyValues(func(do func(view) error) error { return do(view{tx: tx, over: over}) }, func(int) error { return nil })
	})
	return fault.Wrap(op, path, errors.Join(err, db.Close()))
}

// Verify does what the function does, while the store is in use; the structure of its file was
// looked at by Open. It reads in batches, each at one moment: what is written meanwhile may or may
// not be looked at. looked is told of each, as Query.Looked is.
func (s *Store) Verify(looked func(n int) error) error {
	return fault.Wrap("verify store", s.db.Path(), verifyValues(s.view, looked))
}

// verifyValues decodes everything, and compares what belongs together. at lets it read.
func verifyValues(at func(func(view) error) error, looked func(int) error) error {
	for _, bucket := range []int{inActive, inDone} {
		if err := inBatches(at, looked, bucket, verifyRecord); err != nil {
			return err
		}
	}
	return inBatches(at, looked, inEvents, func(now view, k, _ []byte) error {
		if now.get(inActive, k) == nil && now.get(inDone, k) == nil {
			return damaged("there are events of a request that is not there")
		}
		return nil
	})
}

// verifyRecord looks at one record, and at what belongs to it.
func verifyRecord(now view, k, v []byte) error {
	r, err := recordAt(k, v)
	switch {
	case err != nil:
		return err
	case r.State == lifecycle.Done && now.get(inEnded, endedKey(&r, k)) == nil:
		return damaged("it has no place in time")
	case r.State == lifecycle.Done && now.get(inPartners, partnerKey(&r, k)) == nil:
		return damaged("it has no place among its partner's")
	}
	_, err = entriesOf(now.get(inEvents, k))
	return err
}

// inBatches lets do look at all of a bucket, so many at a time.
func inBatches(at func(func(view) error) error, looked func(int) error, bucket int, do func(now view, k, v []byte) error) error {
	for from := []byte(nil); ; {
		next, seen := []byte(nil), 0
		err := at(func(now view) error {
			for k, v := range now.up(bucket, from) {
				if seen == batchSize {
					next = bytes.Clone(k)
					return nil
				}
				seen++
				if err := do(now, k, v); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			err = looked(seen)
		}
		if from = next; err != nil || next == nil {
			return err
		}
	}
}
