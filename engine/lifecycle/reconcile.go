package lifecycle

// Move is what the pair of ends has to do next.
type Move uint8

const (
	Mismatch    Move = 0 // no run can have led here: INERROR, an operator decides
	Prepare     Move = 1 // the requested runs its pre tasks, then the requester
	Transfer    Move = 2 // bytes, from the receiver's rank
	EndTransfer Move = 3 // the receiver names the file and runs its post tasks
	Acknowledge Move = 4 // the receiver is POSTED: the sender runs its post tasks
	EndRequest  Move = 5 // the sender is POSTED: the receiver finishes
	Finish      Move = 6 // the receiver has finished: the sender does
	Nothing     Move = 7 // both have finished
)

func (m Move) String() string {
	return nameOf([]string{"mismatch", "prepare", "transfer", "end transfer", "acknowledge", "end request", "finish", "nothing"}, uint8(m))
}

// pairs is the Move for each pair of durable phases: a row for the sender's, a
// column for the receiver's, the initial for the Move, a dot for Mismatch. The
// model of the tests reaches exactly the pairs that have a letter.
//
// Why the others cannot be: each rung is committed before the message that
// reveals it, so that neither end climbs past what it has heard of the other;
// and only what is Done is purged.
var pairs = [Finished + 1]string{
	// receiver: unknown ACCEPTED PRE READY MOVING WHOLE COMMITTED POST POSTED FINISHED
	Unknown:  "NP.......N",
	Accepted: "PPPPTEEEA.",
	Pre:      ".P.P......",
	Ready:    ".PPTT.....",
	Moving:   "...TTEEEA.",
	Ended:    "....TEEEA.",
	Acked:    "........A.",
	Post:     "........A.",
	Posted:   "F.......RF",
	Finished: "N........N",
}

// letters of the Moves, in the order of their numbers.
const letters = ".PTEARFN"

// Reconcile says what two ends do whose durable phases are s (sender) and r
// (receiver). It is the same at both ends, so that they agree without talking
// about it, and it looks at nothing but what is committed.
func Reconcile(s, r Phase) Move {
	if s > Finished || r > Finished {
		return Mismatch
	}
	for m := range len(letters) {
		if letters[m] == pairs[s][r] {
			return Move(m)
		}
	}
	return Mismatch
}

// reconcile is Reconcile for this end and the phase of its peer.
func (r *Record) reconcile(peer Phase) Move {
	if r.Side == Sender {
		return Reconcile(r.Phase, peer)
	}
	return Reconcile(peer, r.Phase)
}
