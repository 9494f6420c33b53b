package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pannier/pannier/spec/fault"
)

// The log is where a commit becomes durable: one write and one sync. It is two
// files that are written in turn, each from its start to its end. A file is used
// again only when the store's file has everything that is in it, so its space stays
// and a write changes no metadata.
//
// Each commit begins at a multiple of logAlign:
//
//	magic u32, CRC-32C of what follows u32, store u64, number u64, length u32, 0 u32, changes
//
// All numbers are big-endian. Commits are numbered from 1 without gaps, over both
// files. What follows the last one of a file is of an earlier turn, with lower
// numbers, or the rest of a commit that a power cut has stopped, which nobody was
// told of.
const (
	logMagic = 0x504e4c47 // PNLG
	logHead  = 32
	logAlign = 512       // bytes: a sector, so that a commit does not write again what another has written
	logGrow  = 256 << 10 // bytes of zeros that a file is made longer by, so that the next writes are within it
)

// wal is the log of an open store; the committer's alone.
type wal struct {
	store uint64
	sync  func(*os.File) error // makes what was written durable
	files [2]*os.File
	file  *os.File // the store's own, which is not the log's to close
	named bool     // all three had names, as the file system says it, when they were opened
	sizes [2]int64
	now   int    // index of the file that is written
	end   int64  // where the next commit goes
	last  uint64 // number of the last commit
	buf   []byte
}

// logged is one commit of the log.
type logged struct {
	number  uint64
	changes []byte
}

// logPath is where a store's log is; which is 0 or 1.
func logPath(path string, which int) string { return fmt.Sprintf("%s.log-%d", path, which) }

// openLog opens or makes the files.
func openLog(path string, file *os.File, store uint64) (l *wal, err error) {
	l = &wal{store: store, sync: syncData, file: file}
	for i := range l.files {
		if l.files[i], err = os.OpenFile(logPath(path, i), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return nil, errors.Join(err, l.close())
		}
		fi, err := l.files[i].Stat()
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.sizes[i] = fi.Size()
	}
	l.named = l.removed() == nil
	d, err := os.Open(filepath.Dir(path))
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// append makes a commit durable. After an error other than of sync, the next one
// takes its place; after one of sync there is none.
func (l *wal) append(changes []byte) error {
	b := append(l.buf[:0], make([]byte, logHead)...)
	b = append(b, changes...)
	n := binary.BigEndian
	n.PutUint32(b, logMagic)
	n.PutUint64(b[8:], l.store)
	n.PutUint64(b[16:], l.last+1)
	n.PutUint32(b[24:], uint32(len(changes)))
	n.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	b = append(b, make([]byte, -len(b)&(logAlign-1))...)
	l.buf = b
	f := l.files[l.now]
	if end := l.end + int64(len(b)); end > l.sizes[l.now] {
		// Without room for that much, the commit alone may still find some.
		if z, err := f.WriteAt(make([]byte, (end-l.sizes[l.now]+logGrow-1)/logGrow*logGrow), l.sizes[l.now]); err == nil {
			l.sizes[l.now] += int64(z)
		}
	}
	if _, err := f.WriteAt(b, l.end); err != nil {
		return err
	}
	if err := l.sync(f); err != nil {
		return err
	}
	if err := l.lost(); err != nil {
		return fmt.Errorf("append to log: %w", err)
	}
	l.end += int64(len(b))
	l.sizes[l.now] = max(l.sizes[l.now], l.end)
	l.last++
	return nil
}

// errRemoved is of a file that nobody finds any more.
var errRemoved = errors.New("was removed")

// lost is why nobody would find what was written; nil: it is found.
func (l *wal) lost() error {
	if gone := l.removed(); l.named && gone != nil {
		return fmt.Errorf("%s %w while it was open: what it has would be gone with this process", gone.Name(), errRemoved)
	}
	return nil
}

// removed is one of the files, of log and store, that was removed; nil: none was.
func (l *wal) removed() *os.File {
	for _, f := range []*os.File{l.file, l.files[0], l.files[1]} {
		if !hasName(f) {
			return f
		}
	}
	return nil
}

// hasName reports whether a file can be found by who opens it again. Of one that was closed nobody asks:
// who looks for the last time may be beside whoever closes it.
func hasName(f *os.File) bool {
	is, err := f.Stat()
	if err != nil {
		return errors.Is(err, os.ErrClosed)
	}
	st, ok := is.Sys().(*syscall.Stat_t)
	return !ok || st.Nlink > 0
}

// turn goes on in the other file, of which the store's file has everything.
func (l *wal) turn() { l.now, l.end = 1-l.now, 0 }

// empty cuts both files off: the store's file has everything.
func (l *wal) empty() error {
	var errs []error
	for i, f := range l.files {
		errs = append(errs, f.Truncate(0))
		l.sizes[i] = 0
	}
	l.end = 0
	return errors.Join(errs...)
}

func (l *wal) close() error {
	var errs []error
	for _, f := range l.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// readLog is what the log of a store has beyond a commit, in order. Corrupt: a commit is
// damaged that others follow, or some are not there.
func readLog(path string, store, after uint64) ([]logged, error) {
	var runs [2][]logged
	behind := uint64(0) // highest number behind a damaged place
	for i := range runs {
		b, err := os.ReadFile(logPath(path, i))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		at := 0
		for at < len(b) {
			c, n, ok := parseCommit(b[at:], store)
			if !ok || len(runs[i]) > 0 && c.number != runs[i][len(runs[i])-1].number+1 {
				break
			}
			runs[i] = append(runs[i], c)
			at += n
		}
		for ; at < len(b); at += logAlign {
			if c, _, ok := parseCommit(b[at:], store); ok {
				behind = max(behind, c.number)
			}
		}
	}
	first, second := runs[0], runs[1]
	if len(first) > 0 && len(second) > 0 && first[0].number > second[0].number {
		first, second = second, first
	}
	var all []logged
	for _, c := range append(first, second...) {
		if c.number <= after {
			continue
		}
		if c.number != after+1 {
			return nil, fault.New("read log", fault.Corrupt, "commit %d follows %d: a part of the log is damaged, or the store is an older one. Restore the store from a backup; without its log, which is %s, if you have just done so",
				c.number, after, logPath(path, 0)+" and "+logPath(path, 1))
		}
		after++
		all = append(all, c)
	}
	if behind > after {
		return nil, fault.New("read log", fault.Corrupt, "commit %d is damaged and %d is whole: restore the store from a backup", after+1, behind)
	}
	return all, nil
}

// parseCommit reads the commit at the start of b and says how many bytes it takes.
func parseCommit(b []byte, store uint64) (c logged, size int, ok bool) {
	n := binary.BigEndian
	if len(b) < logHead || n.Uint32(b) != logMagic || n.Uint64(b[8:]) != store {
		return c, 0, false
	}
	length := uint64(n.Uint32(b[24:]))
	if length > uint64(len(b)-logHead) {
		return c, 0, false
	}
	whole := b[:logHead+int(length)]
	if crc32.Checksum(whole[8:], castagnoli) != n.Uint32(b[4:]) {
		return c, 0, false
	}
	size = min((len(whole)+logAlign-1)&^(logAlign-1), len(b))
	return logged{number: n.Uint64(b[16:]), changes: whole[logHead:]}, size, true
}

// What a commit does, one behind the other: kind u8, bucket u8, length of the key
// uvarint, key; and of putOp and noteOp: length of the value uvarint, value.
const (
	putOp    = 1 + iota
	deleteOp // without a value
	noteOp   // the value is one more entry of a request's events
)

func appendOp(b []byte, op byte, bucket int, key, value []byte) []byte {
	b = append(b, op, byte(bucket))
	b = append(binary.AppendUvarint(b, uint64(len(key))), key...)
	if op == deleteOp {
		return b
	}
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}

// do repeats the changes of a commit.
func (c *logged) do(on *change) error {
	for b := c.changes; len(b) > 0; {
		if len(b) < 2 || int(b[1]) >= len(buckets) {
			return damaged("the log has a change of no bucket")
		}
		op, bucket := b[0], int(b[1])
		key, rest, err := field(b[2:])
		if err != nil {
			return err
		}
		var value []byte
		if op != deleteOp {
			if value, rest, err = field(rest); err != nil {
				return err
			}
		}
		switch op {
		case putOp:
			on.put(bucket, key, value)
		case deleteOp:
			on.delete(bucket, key)
		case noteOp:
			on.note(key, value)
		default:
			return damaged("the log has a change of no kind")
		}
		b = rest
	}
	return nil
}

// field cuts off what is behind its length.
func field(b []byte) (f, rest []byte, err error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, damaged(io.ErrUnexpectedEOF.Error())
	}
	return b[w : w+int(n)], b[w+int(n):], nil
}
