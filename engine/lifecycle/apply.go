package lifecycle

import (
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Event is something that happened to a request at one end. The set is closed:
// each has its row in the table of transitions.
type Event interface {
	on() (row, uint64)   // its row, and the epoch of the claim it was made under (0: none)
	apply(*Record) error // all that the row does not say
}

// Apply changes r as e says, or refuses and changes nothing. It is the only
// writer of a Record. now is written down and decides nothing: what is due when
// is the event's business. A refusal is fault.Stale for a claim or call that does
// not hold (any more), otherwise fault.Invalid.
func (r *Record) Apply(e Event, now time.Time) error {
	n, epoch := e.on()
	t, next := &transitions[n], *r
	err := t.check(r, epoch)
	if err == nil {
		err = e.apply(&next)
	}
	if err == nil && !t.to.has(next.State) {
		err = fault.New(t.name, fault.Internal, "led from %v to %v", r.State, next.State)
	}
	if err != nil {
		return fault.Wrap("change request", r.Key.ID.String(), err)
	}
	next.note(r, now)
	*r = next
	return nil
}

// note writes down what follows from every change alike.
func (r *Record) note(old *Record, now time.Time) {
	if r.Phase > old.Phase || r.Tasks != old.Tasks || r.Rank > old.Peak {
		r.Streak, r.Deaths = 0, 0
	}
	r.Peak = max(r.Peak, r.Rank)
	if r.Failure.Kind != 0 && r.Failure.At.IsZero() {
		r.Failure.At = now
	}
	r.Changed = now
	r.Version++
}

// transition is a row of the table: in which states an event may come, and
// where it leads. What else it needs is in its apply.
type transition struct {
	name     string
	from, to states
	claimed  bool // a Running record takes it from the holder of the claim only
	failing  when // whether it may come while Failing
}

type row uint8

const (
	claim row = iota
	advance
	beginTask
	endTask
	durable
	rewind
	interrupt
	fail
	settle
	conclude
	recovered
	stop
	resume
	cancel
	retry
)

var transitions = [...]transition{
	claim:     {"Claim", in(ToSubmit, Interrupted), in(Running), false, either},
	advance:   {"Advance", in(Running), in(Running), true, no},
	beginTask: {"BeginTask", in(Running), in(Running), true, either},
	endTask:   {"EndTask", in(Running), in(Running), true, either},
	durable:   {"Durable", in(Running), in(Running), true, no},
	rewind:    {"Rewind", in(Running), in(Running), true, no},
	interrupt: {"Interrupt", in(Running), in(Interrupted), true, either},
	fail:      {"Fail", in(Running), in(Running, InError), true, no},
	settle:    {"Settle", in(Running), in(InError), true, yes},
	conclude:  {"Conclude", in(Running), in(Done), true, no},
	recovered: {"Recover", in(Running), in(Interrupted), false, either},
	stop:      {"Stop", in(ToSubmit, Running, Interrupted), in(Interrupted), true, no},
	resume:    {"Resume", in(Interrupted), in(ToSubmit, Interrupted), false, no},
	cancel:    {"Cancel", in(ToSubmit, Running, Interrupted, InError), in(InError), true, either},
	retry:     {"Retry", in(InError), in(ToSubmit, Interrupted), false, either},
}

// check refuses what the row does.
func (t *transition) check(r *Record, epoch uint64) error {
	holds := r.State == Running && r.Epoch == epoch
	switch {
	case t.claimed && !holds && (epoch != 0 || r.State == Running):
		return fault.New(t.name, fault.Stale, "epoch %d does not hold it; it is %v, its last epoch %d", epoch, r.State, r.Epoch)
	case !t.from.has(r.State), t.failing == no && r.Failing, t.failing == yes && !r.Failing:
		return r.refuse(t.name)
	}
	return nil
}

// cannot is why an operator's word may be refused.
var cannot = map[string]string{
	"Stop":   "only what waits or runs can be paused",
	"Resume": "only what waits or was paused can be resumed",
	"Retry":  "only what has failed can be retried",
	"Cancel": "what is done cannot be cancelled",
	"cancel": "its file has its name already, and is not taken back",
}

// refuse says that r, as it is, does not allow what.
func (r *Record) refuse(what string) error {
	why := cannot[what]
	switch {
	case r.Failing && r.State != InError:
		why = "its error tasks run: it has failed already"
	case why == "":
		why = "that is not possible now"
	}
	return fault.New(what, fault.Invalid, "the request is %v (phase %s): %s", r.State, fault.Shown(r.Phase.Name(r.Side)), fault.Shown(why))
}

// states is a set of them.
type states uint8

func in(all ...State) (set states) {
	for _, s := range all {
		set |= 1 << s
	}
	return set
}

func (set states) has(s State) bool { return set&(1<<s) != 0 }

// when says whether something may be while error tasks run.
type when uint8

const (
	no when = iota
	either
	yes
)
