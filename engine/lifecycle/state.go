package lifecycle

// State is what a node's commander has to do with a record.
type State uint8

const (
	ToSubmit    State = 1 // to be claimed at Due
	Running     State = 2 // a runner has claimed it
	Interrupted State = 3 // waits for Due or for Owner
	InError     State = 4 // final until Retry
	Done        State = 5 // final
)

var stateNames = [...]string{"", "TOSUBMIT", "RUNNING", "INTERRUPTED", "INERROR", "DONE"}

func (s State) String() string { return nameOf(stateNames[:], uint8(s)) }

// Final reports whether nothing moves such a record but an operator.
func (s State) Final() bool { return s == InError || s == Done }

// Role is which end of the request a record is of.
type Role uint8

const (
	Requester Role = 1 // where it was registered; makes all calls
	Requested Role = 2
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

// Phase is how far one end has come. It is committed before the message that
// reveals it, and is the only memory of progress: steps are derived from it.
type Phase uint8

const (
	Accepted  Phase = 1 // the request is registered here
	Pre       Phase = 2 // pre tasks have begun; Record.Task of them are done
	Ready     Phase = 3 // pre tasks are done
	Moving    Phase = 4 // bytes may have moved; Record.Rank of them are safe
	Whole     Phase = 5 // receiver: all on disk, digest equal. sender (ENDED): all sent, source unchanged
	Committed Phase = 6 // receiver: the file has its name. sender (ACKED): the receiver has said POSTED
	Post      Phase = 7 // post tasks have begun; Record.Task of them are done
	Posted    Phase = 8 // post tasks are done
	Finished  Phase = 9 // this end knows that the other has POSTED, and has nothing left to do
)

// The sender's names of two phases.
const (
	Ended = Whole
	Acked = Committed
)

var phaseNames = [...]string{"", "ACCEPTED", "PRE", "READY", "MOVING", "WHOLE", "COMMITTED", "POST", "POSTED", "FINISHED"}

// Phases are all of them, lowest first.
func Phases() []Phase {
	all := make([]Phase, 0, Finished)
	for p := Accepted; p <= Finished; p++ {
		all = append(all, p)
	}
	return all
}

// Name is the phase as the documents have it; two are named by side.
func (p Phase) Name(s Side) string {
	switch {
	case s == Sender && p == Ended:
		return "ENDED"
	case s == Sender && p == Acked:
		return "ACKED"
	}
	return nameOf(phaseNames[:], uint8(p))
}

// Step is the R66 global step that a phase belongs to.
type Step uint8

const (
	NoTask       Step = 0
	PreTask      Step = 1
	TransferTask Step = 2
	PostTask     Step = 3
	AllDoneTask  Step = 4
	ErrorTask    Step = 5
)

func (s Step) String() string {
	return nameOf([]string{"NOTASK", "PRETASK", "TRANSFERTASK", "POSTTASK", "ALLDONETASK", "ERRORTASK"}, uint8(s))
}

// Step is the global step of the phase: the last good one, whatever fails.
func (p Phase) Step() Step {
	switch {
	case p <= Accepted:
		return NoTask
	case p == Pre:
		return PreTask
	case p <= Committed:
		return TransferTask
	case p <= Posted:
		return PostTask
	}
	return AllDoneTask
}

// HasTasks reports whether a list of tasks runs in the phase.
func (p Phase) HasTasks() bool { return p == Pre || p == Post }

// nameOf is the i-th name, or "unknown".
func nameOf(names []string, i uint8) string {
	if int(i) < len(names) && names[i] != "" {
		return names[i]
	}
	return "unknown"
}
