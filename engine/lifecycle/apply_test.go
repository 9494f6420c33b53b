package lifecycle

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/pannier/pannier/spec/fault"
)

var testTime = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// invariant is what Record promises.
func invariant(r *Record) error {
	waits := r.Reason != NoReason || r.Owner != 0 || !r.Due.IsZero()
	bad := []struct {
		what string
		is   bool
	}{
		{"waits though it runs or is final", (r.State == Running || r.State.Final()) && waits},
		{"to submit, and not due", r.State == ToSubmit && (r.Due.IsZero() || r.Owner != 0 || r.Reason > Scheduled)},
		{"a requested end to submit", r.State == ToSubmit && r.Role == Requested},
		{"waits silently", r.State == Interrupted && (r.Reason == NoReason || r.Owner == 0 || r.Due.IsZero())},
		{"failing, and waits for more than its commander", r.State == Interrupted && r.Failing && (r.Owner != r.Role || r.Reason == Stopped)},
		{"done, and not finished", r.State == Done && r.Phase != Finished},
		{"failing, and not ended", r.Failing && (r.State == ToSubmit || r.State == Done)},
		{"in error, and no failure", r.State == InError && r.Failure.Kind == 0},
		{"rank", r.Rank < 0 || r.Rank > r.Peak},
		{"tasks", r.Tasks[0] > r.Spec.Tasks[0] || r.Tasks[1] > r.Spec.Tasks[1] || r.Tasks[2] > r.Spec.Tasks[2]},
		{"begun", r.Begun > r.Epoch},
		{"runs without a claim", r.State == Running && (r.Epoch == 0 || r.Attempt == 0 && r.Role == Requester)},
		{"left its pre tasks behind", r.Phase > Pre && r.Tasks[PreList] < r.Spec.Tasks[PreList]},
		{"left its post tasks behind", r.Phase > Post && r.Tasks[PostList] < r.Spec.Tasks[PostList]},
		{"bytes before MOVING", r.Phase < Moving && r.Rank > 0},
		{"no such state or phase", r.State < ToSubmit || r.State > Done || r.Phase < Accepted || r.Phase > Finished},
		{"long cause", len(r.Failure.Cause) > MaxText || !utf8.ValidString(r.Failure.Cause)},
		{"put off, and no requested end that waits", !r.After.IsZero() && (r.State != Interrupted || r.Role != Requested)},
		{"a partner's word, and no partner's request", r.ByRound > 0 && (r.Role != Requester || r.Spec.By == "")},
		{"failure without a time", r.Failure.Kind != 0 && r.Failure.At.IsZero()},
	}
	for _, b := range bad {
		if b.is {
			return fmt.Errorf("%s: %s", b.what, short(*r))
		}
	}
	return nil
}

// short is a record without what is the same in all tests.
func short(r Record) string {
	return fmt.Sprintf("%v %v %v %v, tasks %d of %d, begun %d, failing %t, rank %d of %d, attempt %d, round %d, streak %d, failure %v %.9q, %v %v, due %t, epoch %d, version %d",
		r.Role, r.Side, r.State, r.Phase.Name(r.Side), r.Tasks, r.Spec.Tasks, r.Begun, r.Failing, r.Rank, r.Peak, r.Attempt, r.Round, r.Streak,
		r.Failure.Kind, r.Failure.Cause, r.Reason, r.Owner, !r.Due.IsZero(), r.Epoch, r.Version)
}

// change is what one event may do to a record, whatever it is.
func change(old, r *Record, e Event, err error) error {
	if err != nil {
		if k := fault.KindOf(err); *old != *r || k != fault.Invalid && k != fault.Stale {
			return fmt.Errorf("%+v was refused with %v: %s", e, err, short(*r))
		}
		return nil
	}
	_, rewinds := e.(Rewind)
	_, cancels := e.(Cancel)
	_, retries := e.(Retry)
	_, resumes := e.(Resume)
	down := rewinds || cancels && old.Side == Receiver
	bad := []struct {
		what string
		is   bool
	}{
		{"version", r.Version != old.Version+1 || r.Changed != testTime},
		{"done is not final", old.State == Done},
		{"in error is not final", old.State == InError && !retries && !cancels},
		{"phase went down", r.Phase < old.Phase && !(down && old.Phase == Whole && r.Phase == Moving)},
		{"phase skipped a rung", r.Phase > old.Phase+1},
		{"rank went down", r.Rank < old.Rank && !down},
		{"rank moved after the whole", r.Rank != old.Rank && old.Phase > Whole},
		{"a task was forgotten", r.Tasks[PreList] < old.Tasks[PreList] || r.Tasks[PostList] < old.Tasks[PostList]},
		{"an error changed the last good step", r.Failing != old.Failing && r.Phase != old.Phase && !cancels},
		{"epoch, attempt or round went down", r.Epoch < old.Epoch || r.Attempt < old.Attempt || r.Round < old.Round || r.ByRound < old.ByRound},
		{"peak went down", r.Peak < old.Peak && !retries && !resumes},
		{"the first failure was forgotten", old.Failing && r.Failing && r.Failure != old.Failure && !cancels},
		{"spec or end changed", r.Spec != old.Spec || r.Key != old.Key || r.Role != old.Role || r.Side != old.Side || r.Registered != old.Registered},
		{"put off in spite of an operator's word", !r.After.IsZero() && (resumes || retries && !e.(Retry).Task)},
		{"a stop was passed", old.Reason == Stopped && old.Owner == old.Role && r.State == Running},
	}
	for _, b := range bad {
		if b.is {
			return fmt.Errorf("%s: %T made of %s\n%s", b.what, e, short(*old), short(*r))
		}
	}
	return nil
}

// anyEvent makes an event of numbers that pick returns, 0 to n-1: mostly one that
// makes sense.
func anyEvent(r *Record, pick func(n int) int) Event {
	epoch := []uint64{r.Epoch, r.Epoch, r.Epoch, r.Epoch, 0, r.Epoch - 1}[pick(6)]
	due := []time.Time{testTime, testTime.Add(time.Hour), {}}[pick(3)]
	call := []Call{{}, {r.Attempt, r.Round, Accepted}, {r.Attempt + 1, r.Round, Ready}, {r.Attempt + 1, r.Round + 1, Ended}, {1, 0, Accepted}}[pick(5)]
	rank := r.Rank + int64(pick(5)) - 1
	f := []Failure{{}, {Kind: fault.Lost, Side: fault.Peer, Cause: "x"}, {Kind: fault.IO, Cause: longCause}}[pick(3)]
	owner := []Role{Requester, Requested, r.Role, 0, 3}[pick(5)]
	switch pick(int(retry) + 2) {
	case 0:
		return Claim{r.Epoch + uint64(pick(3)), call}
	case 1, 2:
		return Advance{Epoch: epoch, To: r.Phase + Phase(pick(4)), Rank: rank}
	case 3:
		return BeginTask{epoch}
	case 4:
		return EndTask{Epoch: epoch}
	case 5:
		return Durable{Epoch: epoch, Rank: rank}
	case 6:
		return Rewind{Epoch: epoch, Rank: rank, Size: -1}
	case 7:
		return Interrupt{epoch, Reason(pick(8)), owner, due, f, pick(2) == 1}
	case 8:
		return Fail{epoch, f}
	case 9:
		return Settle{epoch}
	case 10:
		return Conclude{epoch}
	case 11:
		return Recover{due, pick(2) == 1}
	case 12:
		return Stop{epoch, due}
	case 13:
		return Resume{due}
	case 14:
		return Cancel{epoch, fault.Side(pick(2)), "c"}
	}
	return Retry{due, call, pick(2) == 1, []uint32{0, 0, 0, r.ByRound, r.ByRound + 1}[pick(5)], due}
}

var longCause = strings.Repeat("é", MaxText)

// anyRecord is a new record of one of the four ends.
func anyRecord(pick func(n int) int) Record {
	s := Spec{Partner: "b", Rule: "r", Tasks: [3]uint8{uint8(pick(3)), uint8(pick(3)), uint8(pick(3))}}
	side := Sender + Side(pick(2))
	r, err := Register(Key{Requester: "a"}, side, s, testTime)
	if pick(2) == 1 {
		r, err = Accept(Key{Requester: "a"}, side, s, testTime, testTime)
	}
	if err != nil {
		panic(err)
	}
	return r
}

// live applies n events to a record, a third of them towards its end, the others of
// any kind, and checks each; then leads it to DONE.
func live(n int, pick func(n int) int) error {
	r := anyRecord(pick)
	for range n {
		old := r
		e := forward(&r)
		if e == nil || pick(3) > 0 {
			e = anyEvent(&r, pick)
		}
		err := r.Apply(e, testTime)
		if err := errors.Join(change(&old, &r, e, err), invariant(&r)); err != nil {
			return fmt.Errorf("%w\nevent %.200s", err, fmt.Sprintf("%+v", e))
		}
	}
	return conclusion(r)
}

// forward is the event that leads a record towards DONE; nil when it is there.
func forward(r *Record) Event {
	_, left := r.NextTask()
	switch {
	case r.State == Done:
		return nil
	case r.State == InError:
		return Retry{Due: testTime}
	case r.State == Interrupted && r.Reason == Stopped && r.Owner == r.Role:
		return Resume{testTime}
	case r.State != Running:
		return Claim{r.Epoch + 1, callFor(r)}
	case left && r.Begun == r.Epoch:
		return EndTask{Epoch: r.Epoch}
	case left:
		return BeginTask{r.Epoch}
	case r.Failing:
		return Settle{r.Epoch}
	case r.Phase == Finished:
		return Conclude{r.Epoch}
	}
	return Advance{Epoch: r.Epoch, To: r.Phase + 1, Rank: r.Rank}
}

// conclusion: every record can come to DONE.
func conclusion(r Record) error {
	for range 100 {
		e := forward(&r)
		if e == nil {
			return nil
		}
		if err := r.Apply(e, testTime); err != nil {
			return fmt.Errorf("no way on: %w\n%s", err, short(r))
		}
	}
	return fmt.Errorf("no end: %s", short(r))
}

func TestAnyEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") }
		if err := live(rapid.IntRange(0, 60).Draw(t, "events"), pick); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzEvents is TestAnyEvents led by coverage: a byte is a choice.
func FuzzEvents(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x01\x01\x01\x00\x00 a few choices that lead somewhere or nowhere"))
	f.Fuzz(func(t *testing.T, choices []byte) {
		n := min(len(choices)/7, 200)
		pick := func(n int) int {
			if len(choices) == 0 {
				return 0
			}
			c := choices[0]
			choices = choices[1:]
			return int(c) % n
		}
		if err := live(n, pick); err != nil {
			t.Fatal(err)
		}
	})
}
