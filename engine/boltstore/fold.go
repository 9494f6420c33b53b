package boltstore

import (
	"encoding/binary"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/pannier/pannier/spec/fault"
)

// folding is how what the log has beyond the file gets into it; the committer's
// alone. One folding is under way at a time, in a goroutine of its own, and commits
// go on in the log's other file.
type folding struct {
	size   int64      // of the log, from which on it is folded
	most   int64      // bytes that the log has in memory, at which commits wait for the folding; from half of it on it is folded
	held   int64      // bytes it has there
	folded chan error // how the one under way has ended
	busy   bool
	turned bool   // to the log's other file, whose commits the store's file has not yet
	upto   uint64 // the last commit of the one under way
	seen   *tree  // what it folds

	due     *time.Timer // at which commits have waited long enough
	armed   bool
	overdue bool
	full    error // why there was no room the last time; nil: there was

	waiting, served []*write // who wait for the next one, and for the one under way
}

func (f *folding) init(most int) {
	f.size, f.most, f.folded, f.due = foldSize, mostHeld, make(chan error, 1), time.NewTimer(foldAfter)
	f.due.Stop()
	if most > 0 {
		f.size = min(f.size, int64(most)/4)
	}
}

// fold puts what the log has into the file.
func fold(tx *bbolt.Tx, over *tree, upto uint64) (err error) {
	over.Scan(func(i item) bool {
		bucket, key := tx.Bucket(buckets[i.key[0]]), []byte(i.key[1:])
		if i.gone {
			err = bucket.Delete(key)
		} else {
			err = bucket.Put(key, i.value)
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	return tx.Bucket(buckets[inMeta]).Put(foldedKey, binary.BigEndian.AppendUint64(nil, upto))
}

// foldIfDue begins a folding when it is time for one.
func (s *Store) foldIfDue() {
	if s.busy {
		return
	}
	if err := s.broken(); err != nil || s.ahead.Len() == 0 {
		s.waiting = serve(s.waiting, err)
		return
	}
	switch {
	case s.overdue || len(s.waiting) > 0:
	case s.full != nil: // trim has seen to when it is tried again
		return
	case s.log.end < s.size && s.held < s.most/2:
		if !s.armed {
			s.due.Reset(foldAfter)
			s.armed = true
		}
		return
	}
	s.due.Stop()
	s.busy, s.overdue, s.armed = true, false, false
	s.served, s.waiting = s.waiting, nil
	s.mu.Lock()
	s.seen = s.ahead.Copy()
	s.mu.Unlock()
	s.upto = s.log.last
	if !s.turned {
		s.log.turn()
		s.turned = true
	}
	go func() { s.folded <- s.foldNow(s.seen, s.upto) }()
}

// foldNow folds. Without room for all at once, what is purged is taken out first.
func (s *Store) foldNow(over *tree, upto uint64) error {
	all := func(tx *bbolt.Tx) error { return fold(tx, over, upto) }
	err := s.db.Update(all)
	if err == nil || !noRoom(err) {
		return err
	}
	if again := foldGone(s.db, over); again != nil {
		return again
	}
	return s.db.Update(all)
}

// foldGone removes from the file what is gone in the log, a little at a time, because
// bbolt writes each page that it changes to another place. A log that is read
// again after that comes to the same end.
func foldGone(db *bbolt.DB, over *tree) error {
	var gone []string
	over.Scan(func(i item) bool {
		if i.gone {
			gone = append(gone, i.key)
		}
		return true
	})
	for some := range slices.Chunk(gone, 32) {
		err := db.Update(func(tx *bbolt.Tx) error {
			for _, key := range some {
				if err := tx.Bucket(buckets[key[0]]).Delete([]byte(key[1:])); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// trim takes out of memory what the file has now.
func (s *Store) trim(err error) {
	s.busy, s.full = false, nil
	if err != nil {
		err = s.fail(err)
		if fault.KindOf(err) == fault.NoSpace {
			s.full = err
			s.due.Reset(foldAgain)
			s.armed = true
		}
		s.seen, s.served = nil, serve(s.served, err)
		return
	}
	s.turned = false
	s.mu.Lock()
	s.seen.Scan(func(i item) bool {
		if now, ok := s.ahead.Get(i); ok && now.at <= s.upto {
			s.ahead.Delete(i)
			s.held -= now.bytes()
		}
		return true
	})
	s.mu.Unlock()
	s.seen, s.served = nil, serve(s.served, nil)
}

// foldLast leaves the log empty, if it can: nobody writes any more.
func (s *Store) foldLast() error {
	if s.busy {
		s.trim(<-s.folded)
	}
	s.due.Stop()
	err := s.broken()
	if err == nil && s.ahead.Len() > 0 {
		err = s.foldNow(s.ahead, s.log.last)
	}
	switch {
	case err == nil:
		err = s.log.empty()
	case noRoom(err):
		err = nil // the log keeps it
	}
	s.waiting = serve(s.waiting, err)
	return err
}

// serve tells those who waited, and leaves none.
func serve(all []*write, err error) []*write {
	for _, w := range all {
		w.err = err
		close(w.done)
	}
	return nil
}
