package boltstore

import (
	"bytes"
	"encoding/binary"
	"iter"

	"github.com/tidwall/btree"
	"go.etcd.io/bbolt"

	"github.com/pannier/pannier/engine/store"
)

// item is what a commit has made of a key: a value, or nothing any more.
type item struct {
	key   string // number of the bucket, key
	value []byte
	gone  bool
	at    uint64 // number of the commit
}

// bytes are those of memory that an item takes, without what the tree needs.
func (i item) bytes() int64 { return int64(len(i.key) + len(i.value)) }

// tree has the items that the log has beyond the file.
type tree = btree.BTreeG[item]

func newTree() *tree {
	return btree.NewBTreeGOptions(func(a, b item) bool { return a.key < b.key }, btree.Options{NoLocks: true})
}

func keyOf(bucket int, key []byte) string {
	b := make([]byte, 0, 64)
	return string(append(append(b, byte(bucket)), key...))
}

// reader finds the value of a key; nil: there is none. The value must not be
// changed, or kept for longer than the reader.
type reader interface {
	get(bucket int, key []byte) []byte
}

// view is the store at one moment: the file, and over it what the log has beyond it.
type view struct {
	tx   *bbolt.Tx
	over *tree
}

func (v view) get(bucket int, key []byte) []byte {
	if i, ok := v.over.Get(item{key: keyOf(bucket, key)}); ok {
		return i.value
	}
	return v.tx.Bucket(buckets[bucket]).Get(key)
}

// up yields keys and values of a bucket from a key on; nil: all.
func (v view) up(bucket int, from []byte) iter.Seq2[[]byte, []byte] {
	return v.walk(bucket, from, false)
}

// down yields them in falling order from the last key that is not above from; nil: all.
func (v view) down(bucket int, from []byte) iter.Seq2[[]byte, []byte] {
	return v.walk(bucket, from, true)
}

func (v view) walk(bucket int, from []byte, down bool) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		file := inFile{cursor: v.tx.Bucket(buckets[bucket]).Cursor(), down: down}
		file.start(from)
		over := inTree{cursor: v.over.Iter(), bucket: bucket, down: down}
		over.start(from)
		for file.key != nil || over.key != nil {
			order := bytes.Compare(file.key, over.key)
			switch {
			case file.key == nil:
				order = 1
			case over.key == nil:
				order = -1
			case down:
				order = -order
			}
			k, value, gone := file.key, file.value, false
			if order >= 0 { // the tree has the later word
				k, value, gone = over.key, over.item.value, over.item.gone
			}
			if !gone && !yield(k, value) {
				return
			}
			if order <= 0 {
				file.next()
			}
			if order >= 0 {
				over.next()
			}
		}
	}
}

// inFile is a place in a bucket of the file.
type inFile struct {
	cursor     *bbolt.Cursor
	down       bool
	key, value []byte // nil: at the end
}

func (c *inFile) start(from []byte) {
	switch {
	case !c.down:
		c.key, c.value = c.cursor.Seek(from)
	case from == nil:
		c.key, c.value = c.cursor.Last()
	default:
		if c.key, c.value = c.cursor.Seek(from); c.key == nil {
			c.key, c.value = c.cursor.Last()
		} else if !bytes.Equal(c.key, from) {
			c.next()
		}
	}
}

func (c *inFile) next() {
	if c.down {
		c.key, c.value = c.cursor.Prev()
	} else {
		c.key, c.value = c.cursor.Next()
	}
}

// inTree is a place in a bucket's part of the tree.
type inTree struct {
	cursor btree.IterG[item]
	bucket int
	down   bool
	item   item
	key    []byte // nil: at the end
}

func (c *inTree) start(from []byte) {
	pivot := keyOf(c.bucket, from)
	if c.down && from == nil {
		pivot = keyOf(c.bucket+1, nil)
	}
	ok := c.cursor.Seek(item{key: pivot})
	if c.down {
		if !ok {
			ok = c.cursor.Last()
		} else if c.cursor.Item().key != pivot || from == nil {
			ok = c.cursor.Prev()
		}
	}
	c.take(ok)
}

func (c *inTree) next() {
	if c.down {
		c.take(c.cursor.Prev())
	} else {
		c.take(c.cursor.Next())
	}
}

func (c *inTree) take(ok bool) {
	c.key = nil
	if !ok {
		return
	}
	if c.item = c.cursor.Item(); int(c.item.key[0]) == c.bucket {
		c.key = []byte(c.item.key[1:])
	}
}

// change is a commit in the making: the writes that share it, over what is
// committed.
type change struct {
	over  view            // what is committed
	batch map[string]item // by the writes that are accepted
	mine  []item          // by the present one
	ops   []byte          // for the log
	whole int             // of ops, by the writes that are accepted
	bytes int64           // of what these have set
}

func (c *change) get(bucket int, key []byte) []byte {
	k := keyOf(bucket, key)
	for i := len(c.mine) - 1; i >= 0; i-- {
		if c.mine[i].key == k {
			return c.mine[i].value
		}
	}
	if i, ok := c.batch[k]; ok {
		return i.value
	}
	return c.over.get(bucket, key)
}

func (c *change) put(bucket int, key, value []byte) {
	c.ops = appendOp(c.ops, putOp, bucket, key, value)
	c.set(bucket, key, value)
}

func (c *change) delete(bucket int, key []byte) {
	c.ops = appendOp(c.ops, deleteOp, bucket, key, nil)
	c.mine = append(c.mine, item{key: keyOf(bucket, key), gone: true})
}

// note adds an entry to a request's events and forgets the first ones beyond MaxEvents.
func (c *change) note(key, entry []byte) {
	c.ops = appendOp(c.ops, noteOp, inEvents, key, entry)
	old := c.get(inEvents, key)
	log := make([]byte, 0, len(old)+4+len(entry))
	log = binary.BigEndian.AppendUint32(append(log, old...), uint32(len(entry)))
	log = append(log, entry...)
	for n := count(log); n > store.MaxEvents; n-- {
		log = log[min(len(log), 4+int(binary.BigEndian.Uint32(log))):]
	}
	c.set(inEvents, key, log)
}

// set notes a value, which is not changed any more.
func (c *change) set(bucket int, key, value []byte) {
	if value == nil {
		value = []byte{}
	}
	c.mine = append(c.mine, item{key: keyOf(bucket, key), value: value})
}

// accept ends a write that is part of the commit, refuse one that is not.
func (c *change) accept() {
	for _, i := range c.mine {
		c.batch[i.key] = i
		c.bytes += i.bytes()
	}
	c.mine, c.whole = c.mine[:0], len(c.ops)
}

func (c *change) refuse() { c.mine, c.ops = c.mine[:0], c.ops[:c.whole] }

// settle puts the accepted writes into a tree, as those of a commit, and says by how many bytes that
// makes it larger.
func (c *change) settle(into *tree, number uint64) (grown int64) {
	for _, i := range c.batch {
		i.at = number
		old, _ := into.Set(i)
		grown += i.bytes() - old.bytes()
	}
	return grown
}
