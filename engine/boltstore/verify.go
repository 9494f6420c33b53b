package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
)

// What of the file's format this package knows apart from bbolt: enough to see
// that bbolt can work with a file. bbolt itself panics, in goroutines of its own,
// on pages that are damaged, and follows references in circles.
const (
	pageHead    = 16 // id u64, flags u16, count u16, overflow u32
	elementHead = 16 // branch: pos u32, ksize u32, page u64; leaf: flags u32, pos u32, ksize u32, vsize u32
	bucketHead  = 16 // root page u64, sequence u64; root 0: an inline page follows
	metaSize    = 64 // magic, version, page size, flags u32; root bucket; freelist, high water, txid, checksum u64

	branchPage, leafPage, freelistPage = 0x01, 0x02, 0x10
	bucketElement                      = 0x01

	boltMagic, boltVersion = 0xED0CDAED, 2
	noFreelist             = ^uint64(0)
	maxDepth               = 64 // of a tree
)

// walker looks at each page that can be reached, once.
type walker struct {
	file     io.ReaderAt
	pageSize int64
	pages    uint64   // that belong to the file
	seen     []uint64 // a bit for each
}

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
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() == 0 {
		return nil // new: bbolt makes one of it
	}
	m, size, err := readMeta(f, fi.Size())
	if err != nil {
		return err
	}
	if m.pages > uint64(fi.Size()/size) {
		return broken(0, "the file has %d bytes, and should have %d pages of %d", fi.Size(), m.pages, size)
	}
	w := &walker{file: f, pageSize: size, pages: m.pages, seen: make([]uint64, m.pages/64+1)}
	if m.freelist != noFreelist {
		if _, err := w.page(m.freelist, freelistPage); err != nil {
			return err
		}
	}
	return w.tree(m.root, nil, nil, 0)
}

// lock waits until nobody has the file. It is let go of when f is closed.
func lock(f *os.File, path string) error {
	for end := time.Now().Add(lockWait); ; time.Sleep(lockWait / 20) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || err != unix.EWOULDBLOCK && err != unix.EINTR {
			return err
		}
		if time.Now().After(end) {
			return inUse(path)
		}
	}
}

func inUse(path string) error {
	return fault.New("open store", fault.Exists, "another process has %s open: stop it first", path)
}

// meta is what a meta page says.
type meta struct {
	size                  uint32
	root, freelist, pages uint64
	tx                    uint64
}

// readMeta is the younger of the two meta pages that is whole.
func readMeta(f io.ReaderAt, size int64) (best meta, pageSize int64, err error) {
	b := make([]byte, pageHead+metaSize)
	found := false
	try := func(at int64) bool {
		if _, err := f.ReadAt(b, at); err != nil {
			return false
		}
		m, ok := parseMeta(b[pageHead:])
		if ok && (!found || m.tx > best.tx) {
			best = m
		}
		found = found || ok
		return ok
	}
	if try(0) {
		try(int64(best.size))
	} else {
		for at := int64(1 << 10); at <= 1<<16 && at < size; at *= 2 { // where bbolt looks for the second
			if try(at) {
				break
			}
		}
	}
	if !found {
		return best, 0, broken(0, "neither of its first pages is whole")
	}
	return best, int64(best.size), nil
}

func parseMeta(b []byte) (m meta, ok bool) {
	n := binary.NativeEndian
	m = meta{size: n.Uint32(b[8:]), root: n.Uint64(b[16:]), freelist: n.Uint64(b[32:]), pages: n.Uint64(b[40:]), tx: n.Uint64(b[48:])}
	sum := fnv.New64a()
	sum.Write(b[:56])
	ok = n.Uint32(b) == boltMagic && n.Uint32(b[4:]) == boltVersion && n.Uint64(b[56:]) == sum.Sum64() &&
		m.size >= 1<<10 && m.size <= 1<<16 && m.size&(m.size-1) == 0
	return m, ok
}

// broken says which page of the file is damaged.
func broken(page uint64, format string, args ...any) error {
	return fault.New("verify store", fault.Corrupt, "the file is damaged at page %d: %s. Restore it from a backup", page, fmt.Sprintf(format, args...))
}

// page reads a page with what overflows it, which nobody has referred to yet.
func (w *walker) page(id uint64, kinds uint16) ([]byte, error) {
	if id < 2 || id >= w.pages {
		return nil, broken(id, "there is no such page")
	}
	b := make([]byte, w.pageSize)
	if _, err := w.file.ReadAt(b, int64(id)*w.pageSize); err != nil {
		return nil, fault.Wrap("verify store", "", err)
	}
	n := binary.NativeEndian
	flags, overflow := n.Uint16(b[8:]), uint64(n.Uint32(b[12:]))
	switch {
	case n.Uint64(b) != id:
		return nil, broken(id, "it says that it is page %d", n.Uint64(b))
	case flags&kinds == 0 || flags&(flags-1) != 0:
		return nil, broken(id, "it is of kind %#x", flags)
	case overflow >= w.pages-id:
		return nil, broken(id, "it is said to go on for %d pages", overflow)
	}
	for i := id; i <= id+overflow; i++ {
		if w.seen[i/64]&(1<<(i%64)) != 0 {
			return nil, broken(i, "it is in two places")
		}
		w.seen[i/64] |= 1 << (i % 64)
	}
	if overflow > 0 {
		b = make([]byte, int64(overflow+1)*w.pageSize)
		if _, err := w.file.ReadAt(b, int64(id)*w.pageSize); err != nil {
			return nil, fault.Wrap("verify store", "", err)
		}
	}
	return b, nil
}

// tree looks at a page and what is below. Keys are from least on and below most;
// nil is without.
func (w *walker) tree(id uint64, least, most []byte, depth int) error {
	if depth > maxDepth {
		return broken(id, "the tree is too deep")
	}
	b, err := w.page(id, branchPage|leafPage)
	if err != nil {
		return err
	}
	return w.elements(id, b, least, most, depth)
}

// elements looks at what is on a page.
func (w *walker) elements(id uint64, b, least, most []byte, depth int) error {
	n := binary.NativeEndian
	branch := n.Uint16(b[8:])&branchPage != 0
	count := int(n.Uint16(b[10:]))
	if pageHead+count*elementHead > len(b) || branch && count == 0 {
		return broken(id, "%d elements are not on it", count)
	}
	keys := make([][]byte, count)
	for i := range keys {
		at := pageHead + i*elementHead
		e := b[at:]
		var pos, ksize, vsize uint64
		if branch {
			pos, ksize = uint64(n.Uint32(e)), uint64(n.Uint32(e[4:]))
		} else {
			pos, ksize, vsize = uint64(n.Uint32(e[4:])), uint64(n.Uint32(e[8:])), uint64(n.Uint32(e[12:]))
		}
		from := uint64(at) + pos
		if pos < elementHead || from+ksize+vsize > uint64(len(b)) || ksize == 0 {
			return broken(id, "element %d is not on it", i)
		}
		keys[i] = b[from : from+ksize]
		if i == 0 && least != nil && bytes.Compare(keys[i], least) < 0 || i > 0 && bytes.Compare(keys[i], keys[i-1]) <= 0 || most != nil && bytes.Compare(keys[i], most) >= 0 {
			return broken(id, "the key of element %d is out of order", i)
		}
		if branch || n.Uint32(e)&bucketElement == 0 {
			continue
		}
		if err := w.bucket(id, b[from+ksize:from+ksize+vsize], depth); err != nil {
			return err
		}
	}
	if !branch {
		return nil
	}
	for i, key := range keys {
		above := most
		if i+1 < count {
			above = keys[i+1]
		}
		if err := w.tree(n.Uint64(b[pageHead+i*elementHead+8:]), key, above, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// bucket looks at the value that is a bucket.
func (w *walker) bucket(id uint64, b []byte, depth int) error {
	n := binary.NativeEndian
	switch {
	case len(b) < bucketHead:
		return broken(id, "a bucket has %d bytes", len(b))
	case n.Uint64(b) != 0:
		return w.tree(n.Uint64(b), nil, nil, depth+1)
	case len(b) < bucketHead+pageHead || n.Uint16(b[bucketHead+8:]) != leafPage || depth > maxDepth:
		return broken(id, "a bucket is no page")
	}
	return w.elements(id, b[bucketHead:], nil, nil, depth+1)
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
				first = broken(0, "%v", err)
			}
		}
		if first != nil {
			return first
		}
		for _, name := range buckets {
			if tx.Bucket(name) == nil {
				return broken(0, "there is no bucket %q", name)
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
