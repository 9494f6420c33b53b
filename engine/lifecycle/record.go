package lifecycle

import (
	"encoding/hex"
	"time"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Limits of a record, in bytes.
const (
	MaxName = 64   // of a node, partner or rule
	MaxInfo = 4096 // Spec.Info
	MaxText = 1024 // of a cause
)

// ID names a request at its requester; random, or made by the submitter as an
// idempotency key.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Key names a request everywhere. A node holds at most one record for a key
// and a role; two only for a request to itself.
type Key struct {
	Requester string
	ID        ID
}

// Spec is what was asked for. It is fixed when the record is made: the same key
// with another Spec is another request, and refused.
type Spec struct {
	Partner  string       // the other node
	Rule     string       // that allows it; both ends have one of that name
	Source   relpath.Path // below the sender's root of the rule
	Target   relpath.Path // below the receiver's
	Priority int8         // higher first
	NotAt    time.Time    // not before; zero: at once
	Follow   ID           // of the first request of a chain
	Info     string       // for tasks and people; at most MaxInfo bytes
	Tasks    [3]uint8     // how many pre, post and error tasks this end has; see List
}

// List is one of the three task lists of an end.
type List uint8

const (
	PreList   List = 0
	PostList  List = 1
	ErrorList List = 2
)

func (l List) String() string { return [...]string{"pre", "post", "error"}[min(l, ErrorList)] }

// Reason says why a record is not moving though it is neither done nor failed.
type Reason uint8

const (
	NoReason  Reason = 0
	Scheduled Reason = 1 // its start time or window has not come
	Retrying  Reason = 2 // the last attempt failed and another is due
	Stopped   Reason = 3 // by an operator, at either end; only an operator goes on
	Restarted Reason = 4 // the node was restarted while it ran
	Awaiting  Reason = 5 // requested end: the requester has to call again
)

func (r Reason) String() string {
	return [...]string{"", "scheduled", "retrying", "stopped", "restarted", "awaiting the requester"}[min(r, Awaiting)]
}

// Failure is the last thing that went wrong.
type Failure struct {
	Kind  fault.Kind // 0: nothing
	Side  fault.Side // where
	Cause string     // at most MaxText bytes
	At    time.Time
}

// Record is one end's memory of a request. Only Apply changes it.
//
// Invariants, beside what the fields say:
//
//	State == Running  <=>  Epoch != 0
//	State == Done      =>  Phase == Finished
//	the present list is the phase's, or the error list while Failing
//	Rank never goes back but by Restart, and not at all from Whole on
type Record struct {
	Key  Key
	Role Role
	Side Side
	Spec Spec

	State   State
	Phase   Phase
	Tasks   [3]uint8 // recorded done, of each List; <= Spec.Tasks
	Open    bool     // the next one of the present list was started
	Failing bool     // error tasks run, or have run, for Failure
	Rank    int64    // durable offset in bytes
	Attempt uint32
	Streak  uint32 // attempts in a row without progress of Phase, Tasks or Rank

	Failure Failure
	Reason  Reason
	Owner   Role      // who moves it on, when Interrupted
	Due     time.Time // when at the latest; set unless Running or final
	Epoch   uint64    // of the claim; 0: not claimed
	Version uint64    // raised by each Apply: what the store compares

	Registered, Changed time.Time
}

// Step is the global step: the last good one, or ErrorTask while error tasks run.
func (r *Record) Step() Step {
	if r.Failing && r.State == Running {
		return ErrorTask
	}
	return r.Phase.Step()
}

// list is the present task list, and whether there is one.
func (r *Record) list() (List, bool) {
	switch {
	case r.Failing:
		return ErrorList, true
	case r.Phase == Pre:
		return PreList, true
	case r.Phase == Post:
		return PostList, true
	}
	return 0, false
}

// TaskKey names one execution of one task, the same in every attempt.
type TaskKey struct {
	Key   Key
	Role  Role
	List  List
	Index uint8
}

// NextTask is the task to run, false when the list is over or there is none.
func (r *Record) NextTask() (TaskKey, bool) {
	l, ok := r.list()
	if !ok || r.Tasks[l] >= r.Spec.Tasks[l] {
		return TaskKey{}, false
	}
	return TaskKey{Key: r.Key, Role: r.Role, List: l, Index: r.Tasks[l]}, true
}
