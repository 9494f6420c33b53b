// Package boltstore keeps records in one bbolt file: the embedded default of
// an engine.
//
// Writers share commits: whoever comes while one is under way waits for the
// next, in which all of them are. A failed commit ends the store's use, because
// nobody knows what of it is on disk; the process has to start again.
package boltstore

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// Buckets of the file. ref is the key of a record: see refKey.
//
//	meta    "format" u32, "epoch" u64
//	active  ref -> record that is not DONE
//	done    ref -> record that is
//	ended   changed u64, ref -> nothing: done in the order of time
//	partners  length u8, partner, changed u64, ref -> nothing: done by partner, in the order of time
//	events  ref -> entries, each behind its length u32
var (
	metaBucket     = []byte("meta")
	activeBucket   = []byte("active")
	doneBucket     = []byte("done")
	endedBucket    = []byte("ended")
	partnersBucket = []byte("partners")
	eventsBucket   = []byte("events")

	buckets = [][]byte{metaBucket, activeBucket, doneBucket, endedBucket, partnersBucket, eventsBucket}

	formatKey = []byte("format")
	epochKey  = []byte("epoch")
)

const (
	mostQueued = 4096 // writers waiting for a commit; more wait to wait
	mostShared = 1024 // writers of one commit
	crowded    = 4    // writers of a commit, from which on the next one waits a little for more
	crowdWait  = 500 * time.Microsecond
	lockWait   = time.Second // for another process to let go of the file
	firstMap   = 64 << 20    // bytes mapped at once, so that a young store does not remap
)

// Config is where the store is. The zero values are the defaults.
type Config struct {
	Path    string
	MaxSize int // bytes the file may have; 0: no limit. Beyond it writes fail with NoSpace
}

// Store implements store.Store.
type Store struct {
	db    *bbolt.DB
	queue chan *write
	cache recent
	quit  chan struct{} // closed by Close
	over  chan struct{} // closed when the committer has ended

	once   sync.Once
	closed error

	mu     sync.Mutex
	failed error // of a commit; final
}

// write is one writer's part of a commit. do must not change anything when it
// returns an error.
type write struct {
	do   func(*bbolt.Tx) error
	err  error
	done chan struct{}
}

// Open opens or makes the file. One process at a time has it; another gets
// fault.Exists. A file of a newer format is fault.Unsupported, one whose structure
// is damaged fault.Corrupt; records are looked at when they are read.
func Open(cfg Config) (*Store, error) {
	const op = "open store"
	if cfg.Path == "" {
		return nil, fault.New(op, fault.Invalid, "no path: set Config.Path")
	}
	if err := verify(cfg.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(op, cfg.Path, err)
	}
	if err := migrate(cfg.Path); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(cfg.Path, 0o600, &bbolt.Options{
		Timeout: lockWait, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true, InitialMmapSize: firstMap, MaxSize: cfg.MaxSize,
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, inUse(cfg.Path)
	}
	if err != nil {
		return nil, fault.Wrap(op, cfg.Path, err)
	}
	if err := db.Update(prepare); err != nil {
		return nil, errors.Join(fault.Wrap(op, cfg.Path, err), db.Close())
	}
	s := &Store{db: db, queue: make(chan *write, mostQueued), quit: make(chan struct{}), over: make(chan struct{})}
	s.cache.init()
	go s.commit()
	return s, nil
}

// prepare makes the buckets of a new file and checks the format of an old one.
func prepare(tx *bbolt.Tx) error {
	there := 0
	for _, name := range buckets {
		if tx.Bucket(name) != nil {
			there++
			continue
		}
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	meta := tx.Bucket(metaBucket)
	switch b := meta.Get(formatKey); {
	case there == 0:
		return meta.Put(formatKey, binary.BigEndian.AppendUint32(nil, format))
	case there < len(buckets) || b == nil:
		return broken(0, "%d of %d buckets are there", there, len(buckets))
	case len(b) != 4 || binary.BigEndian.Uint32(b) != format:
		return fault.New("check format", fault.Unsupported, "the store has format %x, this version reads %d: use the version that wrote it", b, format)
	}
	return nil
}

// commit is the one goroutine that writes; Open starts it, Close ends it.
func (s *Store) commit() {
	defer close(s.over)
	crowd := 0 // writers of the last commit
	for {
		select {
		case w := <-s.queue:
			if crowd >= crowded { // more are on their way
				time.Sleep(crowdWait)
			}
			all := s.gather(w)
			crowd = len(all)
			s.share(all)
		case <-s.quit:
			for {
				select {
				case w := <-s.queue:
					s.share(s.gather(w))
				default:
					return
				}
			}
		}
	}
}

// gather takes whoever waits already.
func (s *Store) gather(first *write) []*write {
	all := []*write{first}
	for len(all) < mostShared {
		select {
		case w := <-s.queue:
			all = append(all, w)
		default:
			return all
		}
	}
	return all
}

// share makes one commit of many writes.
func (s *Store) share(all []*write) {
	err := s.broken()
	if err == nil {
		err = s.db.Update(func(tx *bbolt.Tx) error {
			for _, w := range all {
				if w.err = w.do(tx); isStore(w.err) {
					return w.err
				}
			}
			return nil
		})
		s.cache.settle(err == nil)
		if err != nil {
			err = s.fail(err)
		}
	}
	for _, w := range all {
		if err != nil {
			w.err = err
		}
		close(w.done)
	}
}

// unkept is an error of the store itself, in the middle of a write.
type unkept struct{ err error }

func (u unkept) Error() string { return u.err.Error() }
func (u unkept) Unwrap() error { return u.err }

func isStore(err error) bool {
	var u unkept
	return errors.As(err, &u)
}

// fail notes that a commit has failed. A full file or disk damages nothing:
// bbolt has rolled back, and purging makes room. Anything else is final.
func (s *Store) fail(err error) error {
	err = fault.Wrap("commit", s.db.Path(), err)
	if errors.Is(err, berrors.ErrMaxSizeReached) {
		return &fault.Error{Op: "commit", Subject: s.db.Path(), Kind: fault.NoSpace, Err: err}
	}
	if fault.KindOf(err) == fault.NoSpace {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = err
	return err
}

func (s *Store) broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// Failed is why the store cannot be used any more; nil while it can.
func (s *Store) Failed() error { return s.broken() }

// write queues do for the next commit and waits for that. After an error do may
// still be at work: what it sets must not be looked at.
func (s *Store) write(ctx context.Context, do func(*bbolt.Tx) error) error {
	w := &write{do: do, done: make(chan struct{})}
	select {
	case s.queue <- w:
	case <-ctx.Done():
		return fault.Wrap("write", "", context.Cause(ctx))
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return fault.Wrap("write", "", context.Cause(ctx))
	}
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.once.Do(func() {
		close(s.quit)
		<-s.over
		s.closed = fault.Wrap("close store", s.db.Path(), s.db.Close())
	})
	return s.closed
}

// Backup writes the store as it is at one moment, while it is in use.
func (s *Store) Backup(w io.Writer) error {
	return fault.Wrap("back up", s.db.Path(), s.db.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(w)
		return err
	}))
}

// NewEpoch implements store.Store.
func (s *Store) NewEpoch(ctx context.Context) (uint64, error) {
	var epoch uint64
	err := s.write(ctx, func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if b := meta.Get(epochKey); len(b) == 8 {
			epoch = binary.BigEndian.Uint64(b)
		}
		epoch++
		return kept(meta.Put(epochKey, binary.BigEndian.AppendUint64(nil, epoch)))
	})
	if err != nil {
		return 0, err
	}
	return epoch, nil
}

// kept marks an error of bbolt as the store's.
func kept(err error) error {
	if err == nil {
		return nil
	}
	return unkept{err}
}

var _ store.Store = (*Store)(nil)

// refKey is role, length of the requester's name, name, id: fixed places for
// what varies least.
func refKey(ref store.Ref) []byte {
	b := make([]byte, 0, 2+len(ref.Key.Requester)+len(ref.Key.ID))
	b = append(b, byte(ref.Role), byte(len(ref.Key.Requester)))
	b = append(b, ref.Key.Requester...)
	return append(b, ref.Key.ID[:]...)
}

// endedKey is the place of a DONE record in the order of time.
func endedKey(r *lifecycle.Record, ref []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(nanos(r.Changed))), ref...)
}
