// Package boltstore keeps records in one bbolt file and a log before it: the
// embedded default of an engine.
//
// Writers share commits: whoever comes while one is under way waits for the
// next, in which all of them are. A commit is one write to the log and one sync. What the
// log has beyond the file is in memory too, for readers, and is folded into the file
// now and then, many changes of a request at once. A failed commit ends the store's use,
// because nobody knows what of it is on disk; the process has to start again.
package boltstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/notefile"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// Buckets of the file, by their number in the log. ref is the key of a record: see refKey.
const (
	inMeta     = iota // "format" u32, "store" u64, "epoch" u64, "folded" u64
	inActive          // ref -> record that is not DONE
	inDone            // ref -> record that is
	inEnded           // changed u64, ref -> nothing: done in the order of time
	inPartners        // length u8, partner, changed u64, ref -> nothing: done by partner, in the order of time
	inEvents          // ref -> entries, each behind its length u32
)

var (
	buckets = [][]byte{[]byte("meta"), []byte("active"), []byte("done"), []byte("ended"), []byte("partners"), []byte("events")}

	formatKey = []byte("format")
	storeKey  = []byte("store") // a number of the store's own, by which it knows its log
	epochKey  = []byte("epoch")
	foldedKey = []byte("folded") // number of the last commit that the file has
)

const (
	mostQueued = 4096 // writers waiting for a commit; more wait to wait
	mostShared = 1024 // writers of one commit
	crowded    = 2    // writers of a commit, from which on the next one waits a little for more
	crowdWait  = 2 * time.Millisecond
	lockWait   = time.Second // for another process to let go of the file
	firstMap   = 64 << 20    // bytes mapped at once, so that a young store does not remap

	foldSize  = 8 << 20         // bytes of the log from which on it is folded
	foldAfter = 5 * time.Second // or this long after the first commit that is not
	mostAhead = 4 * foldSize    // bytes of the log at which commits wait for the folding
	mostHeld  = 64 << 20        // bytes of it in memory, where a change of a request's events has all of them, at which they do, too
	mostOnce  = mostHeld / 4    // bytes that a commit sets, from which on it takes no further writers
	foldAgain = time.Second     // after a folding that found no room
)

// Config is where the store is. The zero values are the defaults.
type Config struct {
	Path    string // the log is beside it, as PATH.log-0 and PATH.log-1
	MaxSize int    // bytes the file may have; 0: no limit. Beyond it writes fail with NoSpace
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
	last   error // of the committer's end

	folding
	log *wal // the committer's alone

	mu     sync.RWMutex
	ahead  *tree // what the log has beyond the file
	failed error // of a commit; final
}

// write is one writer's part of a commit. What it does before it returns an error
// is dropped.
type write struct {
	do    func(*change) error // nil: nothing
	frees bool                // it makes room, and goes on without any
	fold  bool                // everything so far is to be in the file as well
	err   error
	done  chan struct{}
}

// Open opens or makes the file and its log. One process at a time has it; another gets
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
	var file *os.File
	db, err := bbolt.Open(cfg.Path, 0o600, &bbolt.Options{
		Timeout: lockWait, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true, InitialMmapSize: firstMap, MaxSize: cfg.MaxSize,
		OpenFile: func(name string, flag int, mode fs.FileMode) (f *os.File, err error) {
			file, err = os.OpenFile(name, flag, mode)
			return file, err
		},
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, inUse(cfg.Path)
	}
	if err == nil && !named(file, cfg.Path) { // another process has migrated it meanwhile
		err = errors.Join(inUse(cfg.Path), db.Close())
	}
	if err != nil {
		return nil, fault.Wrap(op, cfg.Path, err)
	}
	s := &Store{
		db: db, queue: make(chan *write, mostQueued), quit: make(chan struct{}), over: make(chan struct{}), ahead: newTree(),
	}
	s.cache.init()
	s.folding.init(cfg.MaxSize)
	if err := s.recover(cfg.Path, file); err != nil {
		return nil, errors.Join(fault.Wrap(op, cfg.Path, err), db.Close())
	}
	go s.commit()
	return s, nil
}

// recover brings the file to where its log ends.
func (s *Store) recover(path string, file *os.File) error {
	if err := s.db.Update(prepare); err != nil {
		return err
	}
	var id, folded uint64
	err := s.db.View(func(tx *bbolt.Tx) (err error) {
		id, folded, err = placeOf(tx)
		return err
	})
	if err != nil {
		return err
	}
	rest, err := readLog(path, id, folded)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		folded = rest[len(rest)-1].number
		err := s.db.Update(func(tx *bbolt.Tx) error {
			over, err := replay(tx, rest)
			if err != nil {
				return err
			}
			return fold(tx, over, folded)
		})
		if err != nil {
			return err
		}
	}
	s.log, err = openLog(path, file, id)
	if err == nil {
		s.log.last = folded
	}
	return err
}

// replay is what a log has beyond the file.
func replay(tx *bbolt.Tx, rest []logged) (*tree, error) {
	over := newTree()
	for _, l := range rest {
		c := change{over: view{tx: tx, over: over}, batch: map[string]item{}}
		if err := l.do(&c); err != nil {
			return nil, err
		}
		c.accept()
		c.settle(over, l.number)
	}
	return over, nil
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
	meta := tx.Bucket(buckets[inMeta])
	switch b := meta.Get(formatKey); {
	case there == 0:
		return errors.Join(meta.Put(formatKey, binary.BigEndian.AppendUint32(nil, format)), addLog(tx))
	case there < len(buckets) || b == nil:
		return broken("%d of %d buckets are there", there, len(buckets))
	case len(b) != 4 || binary.BigEndian.Uint32(b) != format:
		return fault.New("check format", fault.Unsupported, "the store has format %x, this version reads %d: use the version that wrote it", b, format)
	}
	return nil
}

// addLog gives the store a number for its log, which it has nothing of.
func addLog(tx *bbolt.Tx) error {
	id := make([]byte, 8)
	_, _ = rand.Read(id)
	meta := tx.Bucket(buckets[inMeta])
	return errors.Join(meta.Put(storeKey, id), meta.Put(foldedKey, make([]byte, 8)))
}

// placeOf is the store's number and that of the last commit that the file has.
func placeOf(tx *bbolt.Tx) (id, folded uint64, err error) {
	meta := tx.Bucket(buckets[inMeta])
	if meta == nil || len(meta.Get(storeKey)) != 8 || len(meta.Get(foldedKey)) != 8 {
		return 0, 0, broken("it does not say where its log goes on")
	}
	return binary.BigEndian.Uint64(meta.Get(storeKey)), binary.BigEndian.Uint64(meta.Get(foldedKey)), nil
}

// commit is the one goroutine that writes the log; Open starts it, Close ends it.
func (s *Store) commit() {
	defer func() {
		s.last = s.foldLast()
		close(s.over)
	}()
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
		case err := <-s.folded:
			s.trim(err)
		case <-s.due.C:
			s.overdue = true
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
		s.foldIfDue()
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

// share makes one commit of many writes, or more where they set very much.
func (s *Store) share(all []*write) {
	for len(all) > 0 {
		n := s.shareOnce(all)
		if all = all[n:]; len(all) > 0 {
			s.foldIfDue()
		}
	}
}

// shareOnce makes one commit of the first writes, and says of how many.
func (s *Store) shareOnce(all []*write) int {
	err := s.broken()
	if err == nil {
		all, err = s.together(all)
		s.cache.settle(err == nil)
		if err != nil {
			if lost := s.rescue(err); lost != nil {
				err = errors.Join(err, lost)
			}
			err = s.fail(err)
		}
	}
	for _, w := range all {
		if err != nil {
			w.err = err
		}
		if w.fold && w.err == nil {
			s.waiting = append(s.waiting, w)
			continue
		}
		close(w.done)
	}
	return len(all)
}

// together does the writes, up to what a commit may set, and makes them durable.
func (s *Store) together(all []*write) (done []*write, _ error) {
	tx, err := s.db.Begin(false)
	if err != nil {
		return all, err
	}
	c := change{over: view{tx: tx, over: s.ahead}, batch: map[string]item{}}
	for i, w := range all {
		if c.bytes >= mostOnce {
			all = all[:i]
			break
		}
		switch {
		case w.do == nil:
			continue
		case s.full != nil && !w.frees:
			w.err = s.full
			continue
		}
		if w.err = w.do(&c); w.err == nil {
			c.accept()
		} else {
			c.refuse()
		}
		s.overdue = s.overdue || s.full != nil // there may be room now
	}
	if err := tx.Rollback(); err != nil || len(c.ops) == 0 {
		return all, err
	}
	if (s.log.end >= mostAhead || s.held >= s.most) && s.busy {
		s.trim(<-s.folded)
	}
	if err := s.log.append(c.ops); err != nil {
		s.overdue = true // the other file may have room
		return all, err
	}
	s.mu.Lock()
	s.held += c.settle(s.ahead, s.log.last)
	s.mu.Unlock()
	return all, nil
}

// rescue folds what was acknowledged into the store's file, where that still has its name, when the log was removed:
// nobody would find it there.
func (s *Store) rescue(err error) error {
	if !errors.Is(err, errRemoved) || !hasName(s.log.file) {
		return nil
	}
	if s.busy {
		s.trim(<-s.folded)
	}
	if s.ahead.Len() == 0 {
		return nil
	}
	return s.foldNow(s.ahead, s.log.last)
}

// fail notes that a commit has failed. A full file or disk damages nothing:
// nothing of it counts, and purging makes room. Anything else is final, and whatever the
// system calls it, an error of the store itself.
func (s *Store) fail(err error) error {
	if noRoom(err) {
		return &fault.Error{Op: "commit", Subject: s.db.Path(), Kind: fault.NoSpace, Err: err}
	}
	kind := fault.IO
	if fault.KindOf(err) == fault.Corrupt {
		kind = fault.Corrupt
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = &fault.Error{Op: "commit", Subject: s.db.Path(), Kind: kind, Err: err}
	return s.failed
}

// noRoom reports whether a write has failed because the file may not grow, or the disk is full.
// A sync that says so is none: nobody knows what of it is on disk.
func noRoom(err error) bool {
	if errors.Is(err, berrors.ErrMaxSizeReached) {
		return true
	}
	var path *fs.PathError
	return errors.As(err, &path) && path.Op == "write" && fault.KindOf(err) == fault.NoSpace
}

func (s *Store) broken() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.failed
}

// write queues do for the next commit and waits for that. After an error do may
// still be at work: what it sets must not be looked at.
func (s *Store) write(ctx context.Context, do func(*change) error) error {
	return s.wait(ctx, &write{do: do})
}

// wait queues a write and waits for its commit.
func (s *Store) wait(ctx context.Context, w *write) error {
	w.done = make(chan struct{})
	select {
	case s.queue <- w:
	case <-s.over:
		return errClosed
	case <-ctx.Done():
		return fault.Wrap("write", "", context.Cause(ctx))
	}
	select {
	case <-w.done:
		return w.err
	case <-s.over: // of what came last it is not known
		select {
		case <-w.done:
			return w.err
		default:
			return errClosed
		}
	case <-ctx.Done():
		return fault.Wrap("write", "", context.Cause(ctx))
	}
}

// errClosed is for whoever is left when a node ends, as a task that cannot be ended.
var errClosed = fault.New("write", fault.Draining, "the store is closed")

// peek lets do read single keys of what is committed. It must not take long: commits wait.
func (s *Store) peek(do func(reader) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.db.View(func(tx *bbolt.Tx) error { return do(view{tx: tx, over: s.ahead}) })
}

// view lets do read what is committed at this moment.
func (s *Store) view(do func(view) error) error {
	s.mu.Lock()
	over := s.ahead.Copy()
	tx, err := s.db.Begin(false)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	return do(view{tx: tx, over: over})
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.once.Do(func() {
		close(s.quit)
		<-s.over
		s.closed = fault.Wrap("close store", s.db.Path(), errors.Join(s.last, s.log.close(), s.db.Close()))
	})
	return s.closed
}

// Backup writes the store as it is at one moment, while it is in use: a file that
// is a store without a log.
func (s *Store) Backup(w io.Writer) error {
	err := s.wait(context.Background(), &write{fold: true})
	if err != nil {
		return err
	}
	return fault.Wrap("back up", s.db.Path(), notefile.Still(s.db, w))
}

// Check implements store.Store. Which files the log has does not change.
func (s *Store) Check() error {
	if gone := s.log.lost(); gone != nil {
		return &fault.Error{Op: "look", Subject: s.db.Path(), Kind: fault.IO, Err: gone}
	}
	return nil
}

// NewEpoch implements store.Store.
func (s *Store) NewEpoch(ctx context.Context) (uint64, error) {
	var epoch uint64
	err := s.write(ctx, func(c *change) error {
		epoch = 0
		if b := c.get(inMeta, epochKey); len(b) == 8 {
			epoch = binary.BigEndian.Uint64(b)
		}
		epoch++
		c.put(inMeta, epochKey, binary.BigEndian.AppendUint64(nil, epoch))
		return nil
	})
	if err != nil {
		return 0, err
	}
	return epoch, nil
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
