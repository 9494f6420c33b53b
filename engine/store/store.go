// Package store is where an engine keeps its records: what a store promises.
// Package storetest checks the promises, package boltstore keeps them in
// files.
//
// A store is the only memory of a node. What a method has returned is durable:
// it survives a power cut at any later moment.
package store

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
)

// Ref names one record of a node. A request of a node to itself has two.
type Ref struct {
	Key  lifecycle.Key
	Role lifecycle.Role
}

// RefOf is the name of a record.
func RefOf(r *lifecycle.Record) Ref { return Ref{Key: r.Key, Role: r.Role} }

// Store keeps records. Its methods may be called by many goroutines at a time,
// which share commits. Errors are *fault.Error: NotFound without a record,
// IO, NoSpace or Corrupt when the store itself failed, Canceled when ctx ended first
// (what was asked for may happen all the same).
type Store interface {
	// Register keeps a new record, changed by the events in order at the time of
	// its registration. If the key has one of the same content, that one is
	// returned as it is and made is false; other content is fault.Exists.
	Register(ctx context.Context, r lifecycle.Record, events ...lifecycle.Event) (_ lifecycle.Record, made bool, err error)

	// Apply reads the record, applies the events in order and keeps the result,
	// in one step. A refused event is that event's error, and nothing is kept
	// of any. A claim that is not held any more is fault.Stale.
	Apply(ctx context.Context, ref Ref, now time.Time, events ...lifecycle.Event) (lifecycle.Record, error)

	// Get reads one record.
	Get(ctx context.Context, ref Ref) (lifecycle.Record, error)

	// Find yields the records that match: those that are not DONE in no order,
	// then the others, finished last first. It stops at the first error. What
	// changes meanwhile may or may not be seen, and is not seen twice.
	Find(ctx context.Context, q Query) iter.Seq2[lifecycle.Record, error]

	// Named are at most so many records whose ids begin with the digits, in no order. It
	// looks at few others, however many there are.
	Named(ctx context.Context, n Name, most int) ([]Ref, error)

	// Events are what happened to a request, oldest first; at most MaxEvents,
	// the last ones.
	Events(ctx context.Context, ref Ref) ([]Entry, error)

	// NewEpoch is a number higher than any this store has given.
	NewEpoch(ctx context.Context) (uint64, error)

	// Purge forgets at most limit records that are DONE and were changed before
	// that time, with their events, and returns how many. INERROR is not DONE.
	Purge(ctx context.Context, before time.Time, limit int) (int, error)

	// Drop forgets a record that is INERROR and was changed before that time, with
	// its events, and reports whether there was one.
	Drop(ctx context.Context, ref Ref, before time.Time) (bool, error)

	// Check says whether the next process will find what this one has written: IO if its files
	// were removed, which ends the store's use with the next commit. It changes nothing.
	Check() error

	// Close waits for what was begun. Nothing may be called after it.
	Close() error
}

// MaxEvents is how many events of a request are kept.
const MaxEvents = 200

// Query selects records; zero fields select all.
type Query struct {
	States  []lifecycle.State
	Partner string
	Rule    string
	Follow  lifecycle.ID
	Since   time.Time // changed at or after
	Limit   int       // most records; 0: all

	// Looked is told now and then how many records were looked at since, by a Find that holds nothing
	// meanwhile: it may take its time. Its error ends the Find. nil: nobody is told.
	Looked func(n int) error
}

// Name is what is known of a record's Ref; zero fields are not.
type Name struct {
	Digits    string // the first of the id, hexadecimal, small
	Requester string
	Role      lifecycle.Role
}

// Matches reports whether r is selected, Limit apart.
func (q *Query) Matches(r *lifecycle.Record) bool {
	return q.Wants(r.State) &&
		(q.Partner == "" || q.Partner == r.Spec.Partner) &&
		(q.Rule == "" || q.Rule == r.Spec.Rule) &&
		(q.Follow == lifecycle.ID{} || q.Follow == r.Spec.Follow) &&
		!r.Changed.Before(q.Since)
}

// Wants reports whether records in that state are selected.
func (q *Query) Wants(s lifecycle.State) bool {
	if len(q.States) == 0 {
		return true
	}
	return slices.Contains(q.States, s)
}

// Entry is one event of a request, as people read it.
type Entry struct {
	Seq     uint64 // rises within the request
	At      time.Time
	Event   string // the event's name, as "Advance"
	State   lifecycle.State
	Phase   lifecycle.Phase
	Rank    int64
	Attempt uint32
	Failure lifecycle.Failure // of Interrupt and Fail
	Warning string            // of EndTask: why somebody should look; empty: nobody has to
}
