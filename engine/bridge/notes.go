package bridge

import (
	"encoding/json"
	"io"
	"time"

	"go.etcd.io/bbolt"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/notefile"
	"github.com/pannier/pannier/spec/fault"
)

// The file of notes is a bbolt database with one bucket, "pushes": the key is the
// requester's name, a zero byte and the id, the value a sealed note in JSON.

// note is what is remembered of a push that has not ended.
type note struct {
	Partner string `json:"partner"` // where
	Name    string `json:"name"`    // of the file there
	From    string `json:"from"`    // what was sent, by name and version: another is not gone on with
	Copy    bool   `json:"copy,omitempty"`
	Resume  []byte `json:"resume,omitempty"` // of Checkpoint, Abort or Copy
	Rank    int64  `json:"rank"`             // bytes that the server had when it went on last
	// Naming: everything was sent, and the file may have got its name.
	Naming bool      `json:"naming,omitempty"`
	Before string    `json:"before,omitempty"` // what had the name until then, as of lookOf; empty: not known
	Size   int64     `json:"size,omitempty"`
	Digest string    `json:"digest,omitempty"` // "sha256:..."; empty: none was made
	Begun  time.Time `json:"begun"`            // by this node's clock
	Given  time.Time `json:"given,omitzero"`   // since when the request is given up, and what is left is to be removed
	Follow string    `json:"follow,omitempty"` // of the request's chain, for the log; empty: of a node from before that was noted
}

// commitWait is how long a commit waits for others to join it.
const commitWait = 2 * time.Millisecond

var bucket = []byte("pushes")

type notes struct{ db notefile.File }

func openNotes(path string) (*notes, error) {
	db, err := notefile.Open(path, "bridges", bucket)
	if err != nil {
		return nil, err
	}
	db.MaxBatchDelay = commitWait
	return &notes{db}, nil
}

func (n *notes) backup(w io.Writer) error { return n.db.Backup(w) }

func (n *notes) close() error { return n.db.Close() }

func noteKey(k lifecycle.Key) []byte { return append(append([]byte(k.Requester), 0), k.ID[:]...) }

// get finds a note. One that cannot be read is none: then the file is sent anew.
func (n *notes) get(k lifecycle.Key) (v note, ok bool, err error) {
	err = n.db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(bucket).Get(noteKey(k)); b != nil {
			b, ok = notefile.Unseal(noteKey(k), b)
			ok = ok && json.Unmarshal(b, &v) == nil
		}
		return nil
	})
	return v, ok, fault.Wrap("read the notes of bridges", "", err)
}

// put makes a note durable.
func (n *notes) put(k lifecycle.Key, v note) error {
	b, err := json.Marshal(v)
	if err == nil {
		err = n.db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put(noteKey(k), notefile.Seal(noteKey(k), b)) })
	}
	return fault.Wrap("write the notes of bridges", "", err)
}

// drop forgets a note. If that fails it is of no use, and harms nobody.
func (n *notes) drop(k lifecycle.Key) {
	var there bool
	_ = n.db.View(func(tx *bbolt.Tx) error {
		there = tx.Bucket(bucket).Get(noteKey(k)) != nil
		return nil
	})
	if there {
		_ = n.db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Delete(noteKey(k)) })
	}
}

// all are the keys of the notes there are.
func (n *notes) all() (keys []lifecycle.Key, err error) {
	err = n.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(b, _ []byte) error {
			var k lifecycle.Key
			if i := len(b) - len(k.ID) - 1; i >= 0 && b[i] == 0 {
				k.Requester = string(b[:i])
				copy(k.ID[:], b[i+1:])
				keys = append(keys, k)
			}
			return nil
		})
	})
	return keys, fault.Wrap("read the notes of bridges", "", err)
}
