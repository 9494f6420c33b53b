package schedule

import (
	"encoding/json"
	"io"
	"time"

	"go.etcd.io/bbolt"

	"github.com/pannier/pannier/engine/notefile"
	"github.com/pannier/pannier/spec/fault"
)

// Notes are what the schedules of a node remember. All methods may be called at the same
// time. Errors are *fault.Error.
type Notes struct{ db notefile.File }

var runBucket = []byte("schedules")

// note is what is remembered of a schedule. Last is only moved by the commit that begins
// a run, or passes one over: so no time leads to two runs, and none to no run.
type note struct {
	Times   string    `json:"times"`             // when it is due: other times are another schedule
	Since   time.Time `json:"since"`             // it is not due before; part of the ids of its requests
	Last    time.Time `json:"last"`              // up to which time all is made, pending or passed over; Since <= Last
	Pending []Run     `json:"pending,omitempty"` // the oldest first
	Over    *Run      `json:"over,omitempty"`    // the last that is over; nil: none is
	Made    *Run      `json:"made,omitempty"`    // the last that has requests
}

// Run is one time that a schedule has made requests, or is about to.
type Run struct {
	Due      time.Time `json:"due"`
	By       string    `json:"by,omitempty"` // who has ordered it; empty: the clock has
	At       time.Time `json:"at,omitzero"`  // when it was over
	Requests int       `json:"requests"`     // that are registered
	Failed   int       `json:"failed,omitempty"`
	Why      string    `json:"why,omitempty"` // one that has failed, or all
	What     Outcome   `json:"what,omitempty"`
}

// OpenNotes opens the file at path, which is made if there is none. Exists: another process
// has it.
func OpenNotes(path string) (*Notes, error) {
	db, err := notefile.Open(path, "schedules", runBucket, expectBucket)
	if err != nil {
		return nil, err
	}
	return &Notes{db}, nil
}

// Backup writes the file as it is at one moment.
func (n *Notes) Backup(w io.Writer) error { return n.db.Backup(w) }

// Close ends the use. Nothing may be called after it.
func (n *Notes) Close() error { return n.db.Close() }

// read calls for each note of a bucket. One that cannot be read is an error: what it stands
// for would be made again.
func read[T any](n *Notes, bucket []byte) (all map[string]*T, err error) {
	all = map[string]*T{}
	err = n.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(k, b []byte) error {
			v := new(T)
			text, ok := notefile.Unseal(k, b)
			if !ok || json.Unmarshal(text, v) != nil {
				return fault.New("read", fault.Corrupt, "the note of %q is damaged; put back a copy, or remove the file", k)
			}
			all[string(k)] = v
			return nil
		})
	})
	return all, fault.Wrap("read the notes of schedules", n.db.Path(), err)
}

// keep makes notes durable, all or none; nil: the note goes.
func keep[T any](n *Notes, bucket []byte, changes map[string]*T) error {
	if len(changes) == 0 {
		return nil
	}
	err := n.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		for name, v := range changes {
			if v == nil {
				if err := b.Delete([]byte(name)); err != nil {
					return err
				}
				continue
			}
			text, err := json.Marshal(v)
			if err == nil {
				err = b.Put([]byte(name), notefile.Seal([]byte(name), text))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return fault.Wrap("write the notes of schedules", n.db.Path(), err)
}
