package doctor

import "time"

// farClock is how far a partner's clock may be from this one. Expectations, schedules and
// receipts of both ends are compared by people and by dates.
const farClock = 2 * time.Second

// clock is what the kernel says of its synchronisation.
func (e *exam) clock() {
	within, synced, err := kernelClock()
	switch {
	case err != nil:
		e.skip("", "the kernel does not say whether its clock is synchronised: %v", err)
	case !synced:
		e.warn("", "run chrony or systemd-timesyncd", "the clock is not synchronised: schedules, deadlines and receipts have its time")
	default:
		e.ok("", "synchronised; the kernel takes it to be right within %v", within.Round(time.Microsecond))
	}
}

// skew says how far a partner's clock was from this one's between two moments.
func skew(theirs, before, after time.Time) time.Duration {
	if theirs.Before(before) {
		return theirs.Sub(before)
	}
	if theirs.After(after) {
		return theirs.Sub(after)
	}
	return 0
}
