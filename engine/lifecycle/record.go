package lifecycle

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Limits of a record, in bytes.
const (
	MaxName  = 64   // of a node, partner or rule
	MaxInfo  = 4096 // Spec.Info
	MaxText  = 1024 // Failure.Cause
	MaxProof = 256  // Record.Proof
	MaxTrace = 72   // Record.Trace
)

// MinBandwidth is the least Spec.Bandwidth: a block comes within minutes with it, before its end is
// taken for one where nothing moves.
const MinBandwidth = 1000

// MinRetention is how long a Done record is kept at least. No call lives as long:
// one that came after its record was purged would be taken for a new request.
const MinRetention = time.Hour

// ID names a request at its requester; random, or made by the submitter as an
// idempotency key.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Key names a request everywhere. A node holds at most one record for a key
// and a role; two only for a request to itself.
type Key struct {
	Requester string // 1 to MaxName bytes
	ID        ID
}

// Spec is what was asked for. It is fixed when the record is made: the same key
// with another Spec is another request, and refused.
type Spec struct {
	Partner  string       // the other node; 1 to MaxName bytes
	Rule     string       // that allows it; both ends have one of that name; 1 to MaxName bytes
	Source   relpath.Path // below the sender's root of the rule
	Target   relpath.Path // below the receiver's
	Priority int8         // higher first
	NotAt    time.Time    // not before; zero: at once
	Follow   ID           // of the first request of a chain
	Info     string       // for tasks and people; at most MaxInfo bytes
	Tasks    [3]uint8     // how many tasks of each List this end had when the record was made
	Hops     uint8        // requests before it in its chain, each made by a task of the one before
	Third    string       // a third-party copy: the node to which Partner makes the request; empty: it is none. At most MaxName bytes
	Fetch    bool         // a third-party copy: the file goes to Partner; else it comes from there
	By       string       // the partner that wants it, as its third-party copy; empty: this node does. At most MaxName bytes
	Version  string       // of its source, as sideeffect.Version.Encode has it without a device, if no other is to be sent; empty: any is

	Bandwidth int64 // bytes a second that it may move at most, at either end; 0: as much as it gets. From MinBandwidth
}

// file is the name at the end of that side.
func (s *Spec) file(side Side) relpath.Path {
	if side == Sender {
		return s.Source
	}
	return s.Target
}

// Same reports whether both ask for the same. How many tasks this end has is not
// asked for, nor is the priority, which may be the rule's: that may have been edited since.
// Nor is how long the chain is, nor the version: a task that runs twice finds its request
// though the file is another by now.
func (s Spec) Same(o Spec) bool {
	at := s.NotAt.Equal(o.NotAt)
	s.Tasks, s.Priority, s.NotAt, s.Hops, s.Version = o.Tasks, o.Priority, o.NotAt, o.Hops, o.Version
	return at && s == o
}

// Check refuses, as fault.Invalid, what a record cannot hold.
func (s Spec) Check(k Key) error {
	for _, f := range []struct {
		what, value string
		least, most int
	}{
		{"requester's name", k.Requester, 1, MaxName}, {"partner's name", s.Partner, 1, MaxName},
		{"rule's name", s.Rule, 1, MaxName}, {"information", s.Info, 0, MaxInfo},
		{"third node's name", s.Third, 0, MaxName}, {"name of the partner that wants it", s.By, 0, MaxName},
	} {
		if n := len(f.value); n < f.least || n > f.most || !utf8.ValidString(f.value) {
			return fault.New("check request", fault.Invalid, "the %s has %d bytes; %d to %d of UTF-8 are allowed", f.what, n, f.least, f.most)
		}
	}
	if s.Bandwidth != 0 && s.Bandwidth < MinBandwidth {
		return fault.New("check request", fault.Invalid, "a bandwidth of %d bytes a second; at least %d are allowed, or 0 for no limit", s.Bandwidth, MinBandwidth)
	}
	return nil
}

// List is one of the three task lists of an end.
type List uint8

const (
	PreList   List = 0
	PostList  List = 1
	ErrorList List = 2
)

func (l List) String() string { return nameOf([]string{"pre", "post", "error"}, uint8(l)) }

// Failure is the last thing that went wrong.
type Failure struct {
	Kind  fault.Kind // 0: nothing
	Side  fault.Side // where
	Phase Phase      // how far the other end had come, where Side is not Here; Unknown: it has not said
	Cause string     // at most MaxText bytes
	Told  string     // what of it the other end may read; at most MaxText bytes
	At    time.Time
}

// Public is a failure in words that those may read who do not operate this node, as the other end may:
// without what a task has printed, or the system said of names.
func (f Failure) Public() Failure {
	if f.Side == fault.Here {
		f.Cause = fault.Brief(fault.FromPeer("", f.Kind, f.Told)) // without what passes on
	}
	return f
}

// clipped is f with its texts cut to MaxText bytes of UTF-8.
func (f Failure) clipped() Failure {
	f.Cause, f.Told = clip(f.Cause), clip(f.Told)
	return f
}

func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > MaxText {
		s = strings.ToValidUTF8(s[:MaxText], "")
	}
	return s
}

// Record is one end's memory of a request. Only Apply changes it. Invariants,
// beside what the fields say:
//
//	State is Running or final  =>  no Reason, no Owner, no Due
//	State is ToSubmit          =>  Due; it is the requester's
//	State is Interrupted       =>  Reason, Owner, Due; while Failing this end's, not Stopped
//	State is Done              =>  Phase == Finished
//	Failing                    =>  State is Running, Interrupted or InError
//	After set                  =>  State is Interrupted; it is the requested's
//	0 <= Rank <= Peak,  Tasks <= Spec.Tasks,  Begun <= Epoch
type Record struct {
	Key  Key
	Role Role
	Side Side
	Spec Spec

	State    State
	Phase    Phase
	Tasks    [3]uint8     // recorded done, of each List
	Begun    uint64       // Epoch of the claim that last began the next task of the present list; 0: none did
	Failing  bool         // Failure has ended it: error tasks run, or have run
	File     relpath.Path // the file's name now, below this end's root: tasks may move it. Zero: it is gone
	Size     int64        // of the whole; -1 while nobody has said it
	Proof    string       // receiver, from WHOLE on: what the whole was checked against, so that it can be found again after a crash; sender, when it has sent all: its digest, for people
	Verified string       // from WHOLE on, or when all is sent: what was compared and equal, as "blocks+root+sha256" or "size", for people
	Rank     int64        // durable offset. receiver: bytes synced on its disk; sender: what it was told of that
	Peak     int64        // highest Rank since an operator's last word; less is no progress
	Attempt  uint32       // the requester's count of its claims; requested: the highest it was told
	Round    uint32       // the requester's count of its operator's retries; requested: the highest it was told
	ByRound  uint32       // requester: the highest Round of Spec.By's own request that this end was told; 0 without one
	Deaths   uint32       // processes that have ended with it running, since it made progress: poison is known by it
	Streak   uint32       // claims in a row that brought no progress and did not end in order; error tasks have one of their own
	Delays   uint32       // how often an error task has made it due again since an operator's last word
	After    time.Time    // requested: an error task has made it due again then; no call is served before. Zero: any is

	Failure  Failure
	Warnings uint32    // how many tasks of this end are done, but somebody should look
	Warning  string    // what the last of them says; at most MaxText bytes
	Reason   Reason    // why it waits
	Owner    Role      // Interrupted: the end that moves it on
	Due      time.Time // when Owner does; else this end's commander asks again or gives up
	Epoch    uint64    // of the last claim; it holds while Running. Only ever raised
	Version  uint64    // raised by each Apply: what the store compares

	Registered, Changed time.Time

	// Trace is by what the request is traced at this end: a W3C traceparent and, behind a
	// space, the id of the span above it; empty: it is not. At most MaxTrace bytes.
	Trace string
}

// Register is the record of a new request at its requester.
func Register(k Key, side Side, s Spec, now time.Time) (Record, error) {
	r := Record{Key: k, Role: Requester, Side: side, Spec: s, State: ToSubmit, Phase: Accepted, File: s.file(side), Size: -1, Due: now, Registered: now, Changed: now}
	if s.NotAt.After(now) {
		r.Reason, r.Due = Scheduled, s.NotAt
	}
	return r, s.Check(k)
}

// Accept is the record that the requested end makes of a call for a request it
// does not know. At due it gives the requester up.
func Accept(k Key, side Side, s Spec, now, due time.Time) (Record, error) {
	r := Record{Key: k, Role: Requested, Side: side, Spec: s, State: Interrupted, Phase: Accepted, File: s.file(side), Size: -1, Registered: now, Changed: now}
	r.Reason, r.Owner, r.Due = Awaiting, Requester, due
	if due.IsZero() {
		return r, fault.New("accept request", fault.Invalid, "nothing waits silently: due has to be set")
	}
	return r, s.Check(k)
}

// Step is the present global step. The last good one is Phase.Step, which an
// error does not touch.
func (r *Record) Step() Step {
	if r.Failing {
		return ErrorTask
	}
	return r.Phase.Step()
}

// Purgeable reports whether retention may drop the record. One that is not Done
// is still asked for, or is the operator's to drop.
func (r *Record) Purgeable(now time.Time) bool {
	return r.State == Done && now.Sub(r.Changed) >= MinRetention
}

// TaskKey names one task of one request at one end, the same in every attempt.
type TaskKey struct {
	Key   Key
	Role  Role
	List  List
	Index uint8
}

// String is the key as a command gets it, and as part of a file's name: letters,
// digits and dashes. The requester's name is not in it: ids are random.
func (k TaskKey) String() string {
	return k.Key.ID.String() + "-" + k.Role.String() + "-" + k.List.String() + "-" + strconv.Itoa(int(k.Index))
}

// NextTask is the task to run, false when the present list is over or there is
// none. Begun is not 0 when it may have run before: a crash, or a stop, came in between.
func (r *Record) NextTask() (TaskKey, bool) {
	l, ok := r.list()
	if !ok || r.Tasks[l] >= r.Spec.Tasks[l] {
		return TaskKey{}, false
	}
	return TaskKey{Key: r.Key, Role: r.Role, List: l, Index: r.Tasks[l]}, true
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
