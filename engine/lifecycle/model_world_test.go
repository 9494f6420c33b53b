package lifecycle

import (
	"slices"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// maxCalls on their way at a time; of one more the oldest is lost. model.inFlight
// sets a lower limit.
const maxCalls = 3

// world is all that there is at one moment: both ends' records, their runners,
// the network, the receiver's disk. It is a map key.
type world struct {
	end    [2]end // requester, requested
	run    [2]runner
	calls  [maxCalls]call // on their way, sorted; the zero call is none
	answer answer         // on its way to the requester's call
	stream stream
	disk   disk
	source uint8 // version of the sender's file: 0, later 1

	ran  [2][2]bool // ghost: end, pre or post: the task has run, and no crash excuses another run
	flaw flaw       // ghost: what the step that led here did wrong
}

// end is a packed Record: the fields that decide anything.
type end struct {
	known          bool // there is a record
	purged         bool // ghost: there was one, and it was Done
	state          State
	phase          Phase
	tasks          [3]uint8
	begun          uint8 // 1: under an earlier claim, 2: under this
	failing        bool
	stopped        bool // by this end's operator
	cancelled      bool // by this end's operator
	rank           uint8
	size           uint8 // of the whole, plus 1; 0: unknown
	proof          uint8 // of which version its digest is, plus 1; 0: it has none
	attempt, round uint8 // their order among all in the world, see normalise
}

// runner is what a process knows beside its record: a crash forgets it.
type runner struct {
	on    bool
	peer  Phase
	body  uint8 // of a task: 1 begun, 2 has run and is not recorded
	bytes bool  // in DoBytes
	call  call  // requester: the one it awaits; requested: the one it serves
	made  uint8 // requester: the moves it has called for
	sent  uint8 // sender: the version that it has sent to the end, plus 1; 0: none
	whole uint8 // sender: the size that the receiver has said to have, plus 1; 0: it has not
}

type call struct {
	attempt, round uint8
	phase          Phase
	bytes          bool // a Transfer
}

func (c call) said() Call {
	return Call{Attempt: uint32(c.attempt), Round: uint32(c.round), Phase: c.phase}
}

// answer: how is 0 for none, AdmitAnswer for a phase, or a refusal.
type answer struct {
	how   Admission
	phase Phase
	rank  uint8 // of a receiver
}

// stream carries the bytes of one Transfer, also when its sender is gone.
type stream struct {
	attempt        uint8
	open           bool
	version        uint8 // of the source it reads
	sent           uint8
	ended, verdict bool // sender to receiver: that was all; receiver to sender: it is WHOLE
}

type disk struct {
	cached, synced uint8 // units of the partial file
	version        uint8
	mixed          bool // ghost: units of two versions
	named          bool
}

const (
	requester = 0
	requested = 1
)

// sender and receiver are the index of the end.
func (m *model) sender() int {
	if m.push {
		return requester
	}
	return requested
}

func (m *model) receiver() int { return 1 - m.sender() }

// size of a version of the source: of what is pulled, a later one is longer; of what is pushed, only the
// digest tells them apart.
func (m *model) size(version uint8) uint8 {
	if m.push {
		return m.units
	}
	return m.units + version
}

// known is the size that an end writes down when it is MOVING: a receiver has to be told.
func (m *model) known(w *world, i int) int64 {
	if i == m.receiver() {
		return -1
	}
	return int64(m.size(w.source))
}

// proof is the digest of a version. Where the source does not change nobody looks at it.
func (m *model) proof(version uint8) string {
	if !m.changes {
		return ""
	}
	return string('0' + rune(version))
}

var modelTime = time.Unix(1, 0)

// modelEpoch is the last claim's of every unpacked record.
const modelEpoch = 2

// record unpacks an end.
func (m *model) record(w *world, i int) Record {
	e, r := w.end[i], m.blank[i]
	r.State, r.Phase, r.Tasks, r.Failing = e.state, e.phase, e.tasks, e.failing
	r.Epoch, r.Begun = modelEpoch, uint64(e.begun)
	r.Rank, r.Peak, r.Size = int64(e.rank), int64(e.rank), int64(e.size)-1
	if e.proof > 0 {
		r.Proof = m.proof(e.proof - 1)
	}
	r.Attempt, r.Round = uint32(e.attempt), uint32(e.round)
	switch {
	case e.state == ToSubmit:
		r.Due = modelTime
	case e.state == Interrupted && e.stopped:
		r.Reason, r.Owner, r.Due = Stopped, r.Role, modelTime
	case e.state == Interrupted && e.failing:
		r.Reason, r.Owner, r.Due = Restarted, r.Role, modelTime
	case e.state == Interrupted:
		r.Reason, r.Owner, r.Due = Awaiting, Requester, modelTime
	}
	if e.cancelled {
		r.Failure = Failure{Kind: fault.Canceled}
	}
	return r
}

func pack(r *Record) end {
	e := end{
		known: true, state: r.State, phase: r.Phase, tasks: r.Tasks, failing: r.Failing, rank: uint8(r.Rank), size: uint8(r.Size + 1),
		attempt: uint8(r.Attempt), round: uint8(r.Round),
		stopped:   r.State == Interrupted && r.Reason == Stopped && r.Owner == r.Role,
		cancelled: r.State == InError && r.cancelledHere(),
	}
	if r.Proof != "" {
		e.proof = r.Proof[0] - '0' + 1
	}
	switch {
	case r.Begun == r.Epoch && r.State == Running:
		e.begun = 2
	case r.Begun != 0:
		e.begun = 1
	}
	return e
}

// apply commits events to an end; a refusal is a flaw of the driver.
func (m *model) apply(w *world, i int, events ...Event) {
	r := m.record(w, i)
	for _, e := range events {
		if err := r.Apply(e, modelTime); err != nil {
			w.flaw = refusedEvent
			return
		}
	}
	w.end[i] = pack(&r)
}

// claim gives an end to a runner.
func (m *model) claim(w *world, i int, c call, before ...Event) {
	said := c.said()
	m.apply(w, i, append(before, Claim{Epoch: modelEpoch + 1, Call: said})...)
	w.run[i] = runner{on: true, peer: Unheard}
	if c != (call{}) {
		r := m.record(w, i)
		w.run[i].peer, w.run[i].call = r.Heard(said, c.bytes), c
	}
}

// wait lets go of a claim.
func (m *model) wait(w *world, i int, why Reason, owner Role, f fault.Kind) {
	m.apply(w, i, Interrupt{Epoch: modelEpoch, Reason: why, Owner: owner, Due: modelTime, Failure: Failure{Kind: f}})
	w.letGo(i)
}

func (w *world) letGo(i int) {
	w.run[i] = runner{}
	if i == requester {
		w.answer = answer{}
	}
}

// awaited reports whether the requester waits for a call.
func (w *world) awaited() bool { return w.run[requester].call != call{} }

// send puts a call on its way; of too many the oldest is lost.
func (m *model) send(w *world, c call) {
	if slices.Contains(w.calls[:], c) {
		return
	}
	w.sortCalls() // those that are none first
	w.calls[maxCalls-m.inFlight] = c
}

func (w *world) sortCalls() {
	c := &w.calls
	for i := 1; i < len(c); i++ {
		for j := i; j > 0 && c[j].order() < c[j-1].order(); j-- {
			c[j], c[j-1] = c[j-1], c[j]
		}
	}
}

func (c call) order() int {
	n := int(c.attempt)<<24 | int(c.phase)<<16 | int(c.round)<<8
	if c.bytes {
		n++
	}
	return n
}

// normalise makes worlds equal that behave alike: attempts and rounds are
// numbered by their order, and what can have no effect any more is dropped.
func (m *model) normalise(w *world) {
	m.dropStale(w)
	dense(&w.end[0].attempt, &w.end[1].attempt, &w.run[0].call.attempt, &w.run[1].call.attempt,
		&w.calls[0].attempt, &w.calls[1].attempt, &w.calls[2].attempt, &w.stream.attempt)
	dense(&w.end[0].round, &w.end[1].round, &w.run[0].call.round, &w.run[1].call.round,
		&w.calls[0].round, &w.calls[1].round, &w.calls[2].round)
	w.sortCalls()
}

// dense renumbers values to 0, 1, 2 ... in their order; 0 stays.
func dense(values ...*uint8) {
	var used [16]bool
	for _, v := range values {
		used[*v] = true
	}
	var to [16]uint8
	n := uint8(0)
	for v := 1; v < len(used); v++ {
		if used[v] {
			n++
			to[v] = n
		}
	}
	for _, v := range values {
		*v = to[*v]
	}
}

// dropStale drops calls and bytes that nobody will look at. That a stale call does
// nothing is asked of Admit.
func (m *model) dropStale(w *world) {
	if w.end[requested].known {
		r := m.record(w, requested)
		for i, c := range w.calls {
			if c.attempt != 0 && c.attempt < w.end[requested].attempt && m.admit(&r, c.said()) == RefuseStale {
				w.calls[i] = call{}
			}
		}
	}
	live := w.run[requester].bytes || w.run[requested].bytes || w.run[requested].call.bytes
	for _, c := range w.calls {
		live = live || c.bytes && c.attempt == w.stream.attempt
	}
	if !live {
		w.stream = stream{}
	}
}
