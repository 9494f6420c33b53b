package folder

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/notefile"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// The file of notes: spec/folder.md, "Notes".

var noteBucket, versionBucket = []byte("notes"), []byte("versions")

// State is how far a version is.
type State string

// The states that are noted.
const (
	Open      State = "open"      // its requests are registered, or are about to be
	Delivered State = "delivered" // all are DONE; what comes after is not done yet
	Kept      State = "kept"      // nothing is left to be done
	Failed    State = "failed"    // one of them is INERROR
)

// note is what is remembered of a file: of one version of it.
type note struct {
	Version  []byte    `json:"version"` // sideeffect.Version without its device
	State    State     `json:"state"`
	Requests []request `json:"requests"`
	Why      string    `json:"why,omitempty"`      // of failed
	Gone     time.Time `json:"gone,omitzero"`      // since when the file is missed
	Renaming bool      `json:"renaming,omitempty"` // its name comes and goes: it may be another version by that alone
}

// request is one of a file.
type request struct {
	Partner    string `json:"partner"`
	ID         textID `json:"id"`
	Registered bool   `json:"registered,omitempty"`
}

// textID is an id in hexadecimal digits.
type textID lifecycle.ID

// MarshalText implements encoding.TextMarshaler.
func (id textID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *textID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(id) {
		return fault.New("read id", fault.Corrupt, "%d digits", len(b))
	}
	_, err := hex.Decode(id[:], b)
	return err
}

func (n *note) version() sideeffect.Version {
	v, _ := sideeffect.ParseVersion(n.Version) // what is damaged is no version of anything
	return v
}

// idOf is the id of the request for a version of a file.
func idOf(folder, partner, path string, v sideeffect.Version) (id lifecycle.ID) {
	h := sha256.New()
	fmt.Fprintf(h, "pannier folder %d:%s%d:%s%d:%s", len(folder), folder, len(partner), partner, len(path), path)
	h.Write(v.Encode())
	copy(id[:], h.Sum(nil))
	return id
}

// Notes are what the folders of a node remember. All methods may be called at the same
// time. Errors are *fault.Error.
type Notes struct{ db notefile.File }

// OpenNotes opens the file at path, which is made if there is none. Exists: another process
// has it.
func OpenNotes(path string) (*Notes, error) {
	db, err := notefile.Open(path, "folders", noteBucket, versionBucket)
	if err != nil {
		return nil, err
	}
	return &Notes{db}, nil
}

// Backup writes the file as it is at one moment.
func (n *Notes) Backup(w io.Writer) error { return n.db.Backup(w) }

// Close ends the use. Nothing may be called after it.
func (n *Notes) Close() error { return n.db.Close() }

// Expect is the version that a request may send, if it is a folder's: engine.Config.Expect.
func (n *Notes) Expect(id lifecycle.ID) (v sideeffect.Version, only bool, err error) {
	err = n.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(versionBucket).Get(id[:])
		if only = b != nil; !only {
			return nil
		}
		b, ok := notefile.Unseal(id[:], b)
		if !ok {
			return fault.New("read", fault.Corrupt, "the version of request %x is damaged", id)
		}
		var err error
		v, err = sideeffect.ParseVersion(b)
		return err
	})
	return v, only, fault.Wrap("read the notes of folders", "", err)
}

func noteKey(folder, path string) []byte { return append(append([]byte(folder), 0), path...) }

// all calls for each note of a folder. One that cannot be read is passed over: its file
// leads to the same requests again.
func (n *Notes) all(folder string, each func(path string, v *note)) error {
	prefix := noteKey(folder, "")
	err := n.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(noteBucket).Cursor()
		for k, b := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, b = c.Next() {
			if v, ok := readNote(k, b); ok {
				each(string(k[len(prefix):]), &v)
			}
		}
		return nil
	})
	return fault.Wrap("read the notes of folders", "", err)
}

// readNote reads what is kept under a key; false: it is damaged.
func readNote(k, b []byte) (v note, ok bool) {
	b, ok = notefile.Unseal(k, b)
	return v, ok && json.Unmarshal(b, &v) == nil
}

// change is what becomes of the note of a file.
type change struct {
	path string
	old  *note // as it was; nil: there was none
	now  *note // nil: it goes
}

// keep makes changes durable, all or none.
func (n *Notes) keep(folder string, changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	err := n.db.Update(func(tx *bbolt.Tx) error {
		notes, versions := tx.Bucket(noteBucket), tx.Bucket(versionBucket)
		for _, c := range changes {
			key := noteKey(folder, c.path)
			if c.old != nil && (c.old.State == Delivered || c.old.State == Kept) { // others can be retried
				for _, r := range c.old.Requests {
					if c.now == nil || !slices.ContainsFunc(c.now.Requests, func(q request) bool { return q.ID == r.ID }) {
						if err := versions.Delete(r.ID[:]); err != nil {
							return err
						}
					}
				}
			}
			if c.now == nil {
				if err := notes.Delete(key); err != nil {
					return err
				}
				continue
			}
			b, err := json.Marshal(c.now)
			if err == nil {
				err = notes.Put(key, notefile.Seal(key, b))
			}
			for _, r := range c.now.Requests {
				if err == nil && (c.old == nil || !bytes.Equal(c.old.Version, c.now.Version) || !slices.ContainsFunc(c.old.Requests, func(q request) bool { return q.ID == r.ID })) {
					err = versions.Put(r.ID[:], notefile.Seal(r.ID[:], c.now.Version))
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return fault.Wrap("write the notes of folders", "", err)
}

// Sweep forgets the versions of requests that are in no note any more and have ended, as
// ended says.
func (n *Notes) Sweep(ended func(lifecycle.ID) bool) error {
	named := map[lifecycle.ID]bool{}
	var left []lifecycle.ID
	err := n.db.View(func(tx *bbolt.Tx) error {
		err := tx.Bucket(noteBucket).ForEach(func(k, b []byte) error {
			if v, ok := readNote(k, b); ok {
				for _, r := range v.Requests {
					named[lifecycle.ID(r.ID)] = true
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		return tx.Bucket(versionBucket).ForEach(func(k, _ []byte) error {
			id := lifecycle.ID{}
			if copy(id[:], k) == len(id) && !named[id] {
				left = append(left, id)
			}
			return nil
		})
	})
	left = slices.DeleteFunc(left, func(id lifecycle.ID) bool { return !ended(id) })
	if err == nil && len(left) > 0 {
		err = n.db.Update(func(tx *bbolt.Tx) error {
			for _, id := range left {
				if err := tx.Bucket(versionBucket).Delete(id[:]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return fault.Wrap("sweep the notes of folders", "", err)
}
