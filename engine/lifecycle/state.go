package lifecycle

// State is what a node's commander has to do with a record.
type State uint8

const (
	ToSubmit    State = 1 // requester: to be claimed at Due
	Running     State = 2 // a runner holds the claim of Epoch
	Interrupted State = 3 // waits until Due, for Reason, for Owner to move it on
	InError     State = 4 // final until Retry
	Done        State = 5 // final, and may be purged
)

var stateNames = [...]string{"", "TOSUBMIT", "RUNNING", "INTERRUPTED", "INERROR", "DONE"}

func (s State) String() string { return nameOf(stateNames[:], uint8(s)) }

// Final reports whether nothing moves such a record but an operator.
func (s State) Final() bool { return s == InError || s == Done }

// Role is which end of the request a record is of.
type Role uint8

const (
	Requester Role = 1 // where it was registered; makes all calls
	Requested Role = 2 // where they arrive; calls nobody
)

func (r Role) String() string { return nameOf([]string{"", "requester", "requested"}, uint8(r)) }

// Other is the other end's role.
func (r Role) Other() Role { return Requester + Requested - r }

// Side is which way the bytes go, seen from a record.
type Side uint8

const (
	Sender   Side = 1
	Receiver Side = 2
)

func (s Side) String() string { return nameOf([]string{"", "sender", "receiver"}, uint8(s)) }

// Other is the other end's side.
func (s Side) Other() Side { return Sender + Receiver - s }

// Reason says why a record waits.
type Reason uint8

const (
	NoReason  Reason = 0
	Scheduled Reason = 1 // its start time or window has not come
	Retrying  Reason = 2 // the last attempt failed and another is due
	Stopped   Reason = 3 // by Owner's operator; only that operator goes on
	Restarted Reason = 4 // the node went down while it ran
	Awaiting  Reason = 5 // requested end: the requester has to call
)

func (r Reason) String() string {
	return nameOf([]string{"none", "scheduled", "retrying", "stopped", "restarted", "awaiting the requester"}, uint8(r))
}

// nameOf is the i-th name, or "unknown".
func nameOf(names []string, i uint8) string {
	if int(i) < len(names) && names[i] != "" {
		return names[i]
	}
	return "unknown"
}
