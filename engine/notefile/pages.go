package notefile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"

	"github.com/pannier/pannier/spec/fault"
)

// What of the file's format is known here apart from bbolt: enough to see that bbolt can
// work with a file. bbolt itself panics, in goroutines of its own, on pages that are
// damaged, and follows references in circles.
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

// Sound reads a file of bbolt's that nobody writes, and finds what bbolt would fall over. An empty one is
// sound: bbolt makes one of it. The error is fault.Corrupt, or of reading.
func Sound(f *os.File) error {
	fi, err := f.Stat()
	if err != nil || fi.Size() == 0 {
		return err
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

// Used is how many bytes at the beginning of a file of bbolt's belong to it: what follows was never used.
func Used(f io.ReaderAt, size int64) (int64, error) {
	m, page, err := readMeta(f, size)
	return int64(m.pages) * page, err
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
	return fault.New("look at the file", fault.Corrupt, "it is damaged at page %d: %s", page, fmt.Sprintf(format, args...))
}

// page reads a page with what overflows it, which nobody has referred to yet.
func (w *walker) page(id uint64, kinds uint16) ([]byte, error) {
	if id < 2 || id >= w.pages {
		return nil, broken(id, "there is no such page")
	}
	b := make([]byte, w.pageSize)
	if _, err := w.file.ReadAt(b, int64(id)*w.pageSize); err != nil {
		return nil, fault.Wrap("look at the file", "", err)
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
			return nil, fault.Wrap("look at the file", "", err)
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
