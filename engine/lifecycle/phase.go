package lifecycle

// Phase is how far one end has come: a rung of its ladder. It is committed
// before the message that reveals it, and is the only memory of progress: steps
// are derived from it. Every rung is climbed, also one without work.
type Phase uint8

const (
	Accepted  Phase = 1 // the request is registered here
	Pre       Phase = 2 // pre tasks have begun; Tasks[PreList] of them are done
	Ready     Phase = 3 // pre tasks are done
	Moving    Phase = 4 // bytes may have moved; Rank of them are safe
	Whole     Phase = 5 // receiver: all on disk, digest equal. sender (ENDED): the receiver has said so
	Committed Phase = 6 // receiver: the file has its name. sender (ACKED): the receiver has said POSTED
	Post      Phase = 7 // post tasks have begun; Tasks[PostList] of them are done
	Posted    Phase = 8 // post tasks are done
	Finished  Phase = 9 // receiver: the sender has said POSTED. sender: the receiver has said FINISHED
)

// The sender's names of two phases.
const (
	Ended = Whole
	Acked = Committed
)

// What is said of an end beside its phases.
const (
	Unknown Phase = 0   // it has no record of the request: it never came there, or was purged
	Unheard Phase = 255 // it has said nothing in this attempt
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
	case p == Unheard:
		return "unheard"
	}
	return nameOf(phaseNames[:], uint8(p))
}

// When says when something happens that happens to the record as it is.
func (r *Record) When() string {
	if r.Attempt > 0 && r.MayOffer() { // the other may have all bytes, and its answer was lost or none
		return "before its first call was through, which has the bytes with it if they are few"
	}
	return r.WhenIn(r.Phase)
}

// WhenIn says when something happens to the request that happens in that phase of an end.
func (r *Record) WhenIn(p Phase) string {
	switch {
	case p == Moving && r.Spec.Third != "":
		return "while " + r.Spec.Partner + " saw to the copy"
	case p == Moving && r.Rank == 0 && r.Size < 0: // nobody has said how many there are: the file was not opened
		return Ready.Words()
	}
	return p.Words()
}

// Words say when something happens that happens in this phase.
func (p Phase) Words() string {
	switch {
	case p <= Accepted:
		return "before anything was done"
	case p == Pre:
		return "in the tasks before the bytes"
	case p == Ready:
		return "before the bytes moved"
	case p == Moving:
		return "while the bytes moved"
	case p <= Committed:
		return "when all bytes had been moved"
	case p == Post:
		return "in the tasks after the bytes"
	}
	return "when all tasks had run"
}

// Step is the R66 global step.
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
