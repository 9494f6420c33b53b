package lifecycle

// Move is what the pair of ends does next.
type Move uint8

const (
	Mismatch    Move = 0 // no run can have led here: INERROR at both ends, an operator decides
	Prepare     Move = 1 // at least one end has pre tasks to do: ask again, prepare what is not
	Transfer    Move = 2 // move bytes, from the receiver's rank
	EndTransfer Move = 3 // all bytes are over there: the receiver commits, runs its post tasks, and says POSTED
	EndRequest  Move = 4 // the receiver is POSTED: the sender runs its post tasks and says so
	Close       Move = 5 // the sender is POSTED: the receiver finishes, then the sender
	Nothing     Move = 6 // both have finished
)

func (m Move) String() string {
	return nameOf([]string{"mismatch", "prepare", "transfer", "end transfer", "end request", "close", "nothing"}, uint8(m))
}

// Unknown is the phase of an end that has no record of the request: it never
// came there, or was finished and purged.
const Unknown Phase = 0

// Reconcile says what two ends do whose durable phases are s (sender) and r
// (receiver). It is the same function at both ends, so that they agree without
// talking about it; it looks at nothing but what is committed.
//
// Why a pair cannot be: every rung is committed before the message that
// reveals it, so the sender is ACKED only after the receiver is POSTED, the
// receiver FINISHED only after the sender is POSTED, and so on.
func Reconcile(s, r Phase) Move {
	switch {
	case s > Finished || r > Finished:
		return Mismatch
	case s == Unknown || r == Unknown:
		return reconcileUnknown(s, r)
	case s <= Ready && r <= Ready:
		if s == Ready && r == Ready {
			return Transfer
		}
		return Prepare
	case s >= Ready && s <= Ended && r >= Ready && r <= Moving:
		return Transfer // also behind ENDED: what was sent has not all arrived
	case s == Ended && r <= Posted:
		return EndTransfer
	case (s == Acked || s == Post) && r == Posted:
		return EndRequest
	case s == Posted && (r == Posted || r == Finished):
		return Close
	case s == Finished && r == Finished:
		return Nothing
	}
	return Mismatch
}

// reconcileUnknown is about an end without a record. Only finished records are
// purged, and nobody leaves ACCEPTED before the other end has accepted.
func reconcileUnknown(s, r Phase) Move {
	switch {
	case s == Accepted || r == Accepted:
		return Prepare // the request never came there
	case s == Posted:
		return Close // the receiver was told, finished, and has been purged
	case s == Finished || r == Finished:
		return Nothing
	}
	return Mismatch
}
