package lifecycle

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pannier/pannier/spec/fault"
)

// do applies events that must not be refused.
func do(t *testing.T, r *Record, events ...Event) {
	t.Helper()
	for _, e := range events {
		if err := r.Apply(e, testTime); err != nil {
			t.Fatalf("%T: %v", e, err)
		}
		if err := invariant(r); err != nil {
			t.Fatalf("%T: %v", e, err)
		}
	}
}

func registered(t *testing.T, side Side, tasks [3]uint8) Record {
	t.Helper()
	r, err := Register(Key{Requester: "a"}, side, Spec{Partner: "b", Rule: "r", Tasks: tasks}, testTime)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func accepted(t *testing.T, side Side, tasks [3]uint8) Record {
	t.Helper()
	r, err := Accept(Key{Requester: "a"}, side, Spec{Partner: "b", Rule: "r", Tasks: tasks}, testTime, testTime.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// climb leads a record without pre tasks to a phase, ten bytes long.
func climb(t *testing.T, r *Record, to Phase) {
	t.Helper()
	for r.Phase < to {
		do(t, r, Advance{Epoch: r.Epoch, To: r.Phase + 1, Rank: 10})
	}
}

func TestRegister(t *testing.T) {
	later := testTime.Add(time.Hour)
	s := Spec{Partner: "b", Rule: "r", NotAt: later}
	r, err := Register(Key{Requester: "a"}, Sender, s, testTime)
	if err != nil || r.Reason != Scheduled || !r.Due.Equal(later) || r.State != ToSubmit {
		t.Errorf("with a start time: %+v, %v", r, err)
	}
	if _, err := Accept(Key{Requester: "a"}, Sender, s, testTime, time.Time{}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("accepted without due: %v", err)
	}
	for _, tc := range []struct {
		what   string
		change func(*Key, *Spec)
	}{
		{"no requester", func(k *Key, _ *Spec) { k.Requester = "" }},
		{"long requester", func(k *Key, _ *Spec) { k.Requester = strings.Repeat("a", MaxName+1) }},
		{"no partner", func(_ *Key, s *Spec) { s.Partner = "" }},
		{"no rule", func(_ *Key, s *Spec) { s.Rule = "" }},
		{"rule is no UTF-8", func(_ *Key, s *Spec) { s.Rule = "\xff" }},
		{"negative bandwidth", func(_ *Key, s *Spec) { s.Bandwidth = -1 }},
		{"small bandwidth", func(_ *Key, s *Spec) { s.Bandwidth = MinBandwidth - 1 }},
		{"long information", func(_ *Key, s *Spec) { s.Info = strings.Repeat("a", MaxInfo+1) }},
	} {
		k, s := Key{Requester: "a"}, s
		tc.change(&k, &s)
		if _, err := Register(k, Sender, s, testTime); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: registered: %v", tc.what, err)
		}
		if _, err := Accept(k, Sender, s, testTime, later); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: accepted: %v", tc.what, err)
		}
	}
}

func TestSame(t *testing.T) {
	s := Spec{Partner: "b", Rule: "r", NotAt: testTime, Tasks: [3]uint8{1, 2, 3}}
	o := s
	o.NotAt, o.Tasks, o.Priority, o.Version = testTime.In(time.FixedZone("", 3600)), [3]uint8{}, 7, "v"
	if !s.Same(o) {
		t.Error("another time zone, an edited rule and a changed file make another request")
	}
	for _, change := range []func(*Spec){
		func(s *Spec) { s.Rule = "q" }, func(s *Spec) { s.NotAt = s.NotAt.Add(1) }, func(s *Spec) { s.Follow[0] = 1 },
		func(s *Spec) { s.Bandwidth = MinBandwidth },
	} {
		o := s
		if change(&o); s.Same(o) {
			t.Errorf("%+v is the same as %+v", o, s)
		}
	}
}

// TestStreak: what is poison or out of attempts is known by claims that bring
// nothing; those that end in order do not count, nor do bytes moved once more.
func TestStreak(t *testing.T) {
	r := registered(t, Receiver, [3]uint8{1, 0, 0})
	crash := func() { do(t, &r, Claim{Epoch: r.Epoch + 1}, Recover{Due: testTime}) }
	fails := func(events ...Event) {
		do(t, &r, Claim{Epoch: r.Epoch + 1})
		do(t, &r, events...)
		do(t, &r, Interrupt{r.Epoch, Retrying, Requester, testTime, Failure{Kind: fault.Lost}, false})
	}
	deaths := func(n uint32, what string) {
		t.Helper()
		if r.Deaths != n {
			t.Fatalf("%d deaths after %s, want %d", r.Deaths, what, n)
		}
	}
	want := func(streak uint32, what string) {
		t.Helper()
		if r.Streak != streak {
			t.Fatalf("streak %d after %s, want %d", r.Streak, what, streak)
		}
	}
	crash()
	crash()
	want(2, "two crashes")
	fails()
	want(3, "a failure")
	deaths(2, "two crashes and a failure")
	do(t, &r, Claim{Epoch: r.Epoch + 1}, Interrupt{r.Epoch + 1, Restarted, Requester, testTime, Failure{}, false})
	want(3, "a drain")
	deaths(2, "a drain")
	do(t, &r, Claim{Epoch: r.Epoch + 1}, Stop{r.Epoch + 1, testTime})
	want(3, "a stop")
	do(t, &r, Resume{testTime})
	want(0, "an operator's word")
	deaths(0, "an operator's word")
	crash()
	fails(Advance{Epoch: r.Epoch + 1, To: Pre, Rank: 0}, BeginTask{r.Epoch + 1})
	want(0, "a rung")
	deaths(0, "a rung")
	fails(BeginTask{r.Epoch + 1})
	want(1, "a task that did not end")
	fails(BeginTask{r.Epoch + 1}, EndTask{Epoch: r.Epoch + 1})
	want(0, "a task")
	fails(Advance{Epoch: r.Epoch + 1, To: Ready, Rank: 0}, Advance{Epoch: r.Epoch + 1, To: Moving, Rank: 0}, Durable{Epoch: r.Epoch + 1, Rank: 5})
	want(0, "bytes")
	for n := range uint32(3) {
		fails(Rewind{Epoch: r.Epoch + 1, Rank: 0, Size: -1}, Durable{Epoch: r.Epoch + 1, Rank: 5})
		want(n+1, "the same bytes again")
	}
	fails(Durable{Epoch: r.Epoch + 1, Rank: 6})
	want(0, "more bytes than ever")
	fails(Rewind{Epoch: r.Epoch + 1, Rank: 0, Size: -1})
	want(1, "none left")
	do(t, &r, Resume{testTime})
	fails(Durable{Epoch: r.Epoch + 1, Rank: 5})
	want(0, "bytes after an operator's word")
	if r.Attempt != r.attempts() {
		t.Errorf("attempt %d, epoch %d", r.Attempt, r.Epoch)
	}
}

// attempts: the tests above raise the epoch by one for each claim.
func (r *Record) attempts() uint32 { return uint32(r.Epoch) }

// TestFailing: error tasks run under the same claim and over crashes, and leave the
// last good step, the phase and the first failure as they were.
func TestFailing(t *testing.T) {
	r := accepted(t, Receiver, [3]uint8{0, 0, 2})
	do(t, &r, Claim{1, Call{Attempt: 1, Phase: Accepted}})
	climb(t, &r, Committed)
	do(t, &r, Fail{1, Failure{Kind: fault.IO, Cause: "first"}}, BeginTask{1}, EndTask{Epoch: 1}, BeginTask{1})
	if r.Step() != ErrorTask || r.Phase.Step() != TransferTask || r.State != Running {
		t.Fatalf("step %v, last good %v, %v", r.Step(), r.Phase.Step(), r.State)
	}
	do(t, &r, Recover{Due: testTime})
	if r.Owner != Requested {
		t.Errorf("its error tasks are left to the %v", r.Owner)
	}
	if err := r.Apply(Interrupt{}, testTime); err == nil {
		t.Error("interrupted without a claim")
	}
	do(t, &r, Claim{Epoch: 2})
	if key, ok := r.NextTask(); !ok || key != (TaskKey{r.Key, Requested, ErrorList, 1}) || r.Begun != 1 {
		t.Errorf("next task %+v, %t, begun %d", key, ok, r.Begun)
	}
	if err := r.Apply(Interrupt{2, Awaiting, Requester, testTime, Failure{}, false}, testTime); fault.KindOf(err) != fault.Invalid {
		t.Errorf("the requester is awaited for error tasks: %v", err)
	}
	if err := r.Apply(Interrupt{2, Stopped, Requested, testTime, Failure{}, false}, testTime); fault.KindOf(err) != fault.Invalid {
		t.Errorf("error tasks are stopped: %v", err)
	}
	do(t, &r, Interrupt{2, Restarted, Requested, testTime, Failure{Kind: fault.Draining, Cause: "second"}, false}, Claim{Epoch: 3}, BeginTask{3}, Settle{3})
	if r.State != InError || r.Failure.Cause != "first" || r.Phase != Committed || r.Rank != 10 {
		t.Errorf("after error tasks: %+v", r)
	}
	do(t, &r, Retry{Due: testTime})
	if r.Begun != 0 || r.Failing {
		t.Errorf("after a retry: failing %t, begun %d", r.Failing, r.Begun)
	}
	do(t, &r, Claim{4, Call{Attempt: 2, Phase: Ended}}, Advance{Epoch: 4, To: Post, Rank: 0})
	do(t, &r, Fail{4, Failure{Kind: fault.Refused}})
	if key, ok := r.NextTask(); !ok || key.Index != 0 {
		t.Errorf("the second failure starts its error tasks at %+v, %t", key, ok)
	}
}

// TestPutOff: what an error task of the requested end has put off is put off until a call is served, an operator has
// said a word, or it is over; an operator's pause leaves it. Of a requester it is the due time alone.
func TestPutOff(t *testing.T) {
	after := testTime.Add(24 * time.Hour)
	off := func() Record {
		r := accepted(t, Receiver, [3]uint8{0, 0, 1})
		do(t, &r, Claim{1, Call{Attempt: 1, Phase: Accepted}}, Fail{1, Failure{Kind: fault.IO}}, BeginTask{1}, EndTask{Epoch: 1}, Settle{1},
			Retry{Due: after.Add(time.Hour), Task: true, After: after})
		if !r.After.Equal(after) || r.State != Interrupted || r.Delays != 1 {
			t.Fatalf("put off: %+v", r)
		}
		return r
	}
	for what, events := range map[string][]Event{
		"served": {Claim{2, Call{Attempt: 2, Phase: Accepted}}}, "resumed": {Resume{testTime}}, "cancelled": {Cancel{}},
		"stopped and resumed":                      {Stop{Due: testTime}, Resume{testTime}},
		"cancelled, and retried":                   {Cancel{}, Retry{Due: testTime}},
		"cancelled, and retried with another time": {Cancel{}, Retry{Due: testTime, After: after}}, // which is no task's
	} {
		r := off()
		if do(t, &r, events...); !r.After.IsZero() {
			t.Errorf("%s: put off until %v", what, r.After)
		}
	}
	r := off()
	if do(t, &r, Stop{Due: testTime}); !r.After.Equal(after) {
		t.Errorf("stopped: put off until %v", r.After)
	}
	q, err := Register(r.Key, Receiver, r.Spec, testTime)
	if err != nil {
		t.Fatal(err)
	}
	if do(t, &q, Claim{Epoch: 1}, Fail{1, Failure{Kind: fault.IO}}, BeginTask{1}, EndTask{Epoch: 1}, Settle{1}, Retry{Due: after, Task: true, After: after}); !q.After.IsZero() || !q.Due.Equal(after) {
		t.Errorf("a requester: %+v", q)
	}
}

// TestTornTask: a task that was begun and not ended is run again under the same
// key by the next claim, and by nobody twice.
func TestTornTask(t *testing.T) {
	r := registered(t, Sender, [3]uint8{2, 0, 0})
	do(t, &r, Claim{Epoch: 1}, Advance{Epoch: 1, To: Pre, Rank: 0}, BeginTask{1})
	key, _ := r.NextTask()
	if r.Apply(BeginTask{1}, testTime) == nil {
		t.Error("begun twice under one claim")
	}
	do(t, &r, Recover{Due: testTime}, Claim{Epoch: 2})
	if again, ok := r.NextTask(); !ok || again != key || r.Begun == 0 {
		t.Errorf("next task %+v, %t; begun %d", again, ok, r.Begun)
	}
	if r.Apply(EndTask{Epoch: 2}, testTime) == nil {
		t.Error("ended under a claim that has not begun it")
	}
	do(t, &r, BeginTask{2}, EndTask{Epoch: 2})
	if next, ok := r.NextTask(); !ok || next.Index != 1 || r.Begun != 0 {
		t.Errorf("next task %+v, %t; begun %d", next, ok, r.Begun)
	}
}

// TestCancel: bytes that have arrived are given up, a file that has its name is not.
func TestCancel(t *testing.T) {
	for p := Accepted; p <= Finished; p++ {
		for _, side := range []Side{Sender, Receiver} {
			r := registered(t, side, [3]uint8{0, 0, 1})
			do(t, &r, Claim{Epoch: 1})
			climb(t, &r, p)
			if p == Moving {
				do(t, &r, Durable{Epoch: 1, Rank: 3})
			}
			err := r.Apply(Cancel{1, fault.Here, "by alice"}, testTime)
			if may := p < Committed; may != (err == nil) {
				t.Errorf("%v: %v", p.Name(side), err)
				continue
			} else if !may {
				continue
			}
			if r.State != InError || r.Failing || r.Failure != (Failure{Kind: fault.Canceled, Side: fault.Here, Cause: "by alice", Told: "by alice", At: testTime}) {
				t.Errorf("%v: %+v", p.Name(side), r)
			}
			if r.Rank != 0 || side == Receiver && r.Phase > Moving || side == Sender && r.Phase != p {
				t.Errorf("%v: %v, rank %d", p.Name(side), r.Phase.Name(side), r.Rank)
			}
			if err := conclusion(r); err != nil {
				t.Errorf("%v: %v", p.Name(side), err)
			}
		}
	}
}

func TestConcludeForgetsTheFailure(t *testing.T) {
	r := registered(t, Sender, [3]uint8{})
	do(t, &r, Claim{Epoch: 1}, Interrupt{1, Retrying, Requester, testTime, Failure{Kind: fault.Lost}, false}, Claim{Epoch: 2})
	if r.Failure.Kind != fault.Lost {
		t.Error("a claim forgets why the last one failed")
	}
	climb(t, &r, Finished)
	if r.Purgeable(testTime.Add(MinRetention)) {
		t.Error("purgeable before DONE")
	}
	do(t, &r, Conclude{2})
	if r.Failure != (Failure{}) {
		t.Errorf("done with a failure: %+v", r.Failure)
	}
	if r.Purgeable(testTime.Add(MinRetention-1)) || !r.Purgeable(testTime.Add(MinRetention)) {
		t.Error("purgeable at another time than after the retention")
	}
}

func TestClipped(t *testing.T) {
	for _, cause := range []string{strings.Repeat("é", MaxText), "x" + strings.Repeat("é", MaxText), strings.Repeat("\xffx", MaxText)} {
		if c := (Failure{Cause: cause}).clipped().Cause; len(c) > MaxText || len(c) < MaxText-3 || !utf8.ValidString(c) {
			t.Errorf("%d bytes, valid %t", len(c), utf8.ValidString(c))
		}
	}
}

// TestNames: every number has a name, and one that is not known has one too.
func TestNames(t *testing.T) {
	for _, s := range []string{State(9).String(), Role(9).String(), Side(9).String(), Reason(9).String(), List(9).String(), Step(9).String(),
		Move(99).String(), Do(99).String(), Admission(99).String(), Phase(77).Name(Sender)} {
		if s != "unknown" {
			t.Errorf("%q", s)
		}
	}
	for r := NoReason; r <= Awaiting; r++ {
		if r.String() == "unknown" {
			t.Errorf("reason %d has no name", r)
		}
	}
	if Requester.Other() != Requested || Receiver.Other() != Sender || Unheard.Name(Sender) != "unheard" || !Done.Final() || Interrupted.Final() {
		t.Error("other ends, or final states")
	}
}

// TestSenderIsNotAhead: what a sender shows as safe is what it was told, also when
// everything is sent and the receiver has not said that it has it.
func TestSenderIsNotAhead(t *testing.T) {
	for side, want := range map[Side][2]int64{Sender: {4, 10}, Receiver: {10, 10}} {
		r := Record{Role: Requester, Side: side, State: Running, Phase: Moving, Epoch: 1, Rank: 4, Peak: 4, Attempt: 1, Size: 10}
		do(t, &r, Advance{Epoch: 1, To: Whole, Rank: 10})
		if r.Rank != want[0] || r.Size != 10 {
			t.Errorf("%s of a %v: rank %d of %d", r.Phase.Name(side), side, r.Rank, r.Size)
		}
		do(t, &r, Advance{Epoch: 1, To: Committed})
		if r.Rank != want[1] {
			t.Errorf("%s of a %v: rank %d of %d", r.Phase.Name(side), side, r.Rank, r.Size)
		}
	}
}

// TestWhen: a failure before the first answer may come after all bytes have gone.
func TestWhen(t *testing.T) {
	for attempt, want := range []string{"before anything was done", "before its first call was through, which has the bytes with it if they are few"} {
		r := Record{Role: Requester, Side: Sender, Phase: Accepted, Attempt: uint32(attempt)}
		if got := r.When(); got != want {
			t.Errorf("attempt %d: %q", attempt, got)
		}
	}
}

// TestPublicFailure: who does not operate the node reads what the other end may, in words that begin with one.
func TestPublicFailure(t *testing.T) {
	f := Failure{Kind: fault.Canceled, Cause: "a newer version is sent instead", Told: "a newer version is sent instead"}
	if got := f.Public().Cause; got != f.Told {
		t.Errorf("%q, want %q", got, f.Told)
	}
	if got := (Failure{Kind: fault.IO, Cause: "open /secret", Told: "open file: input/output error"}).Public().Cause; got != "open file: input/output error" {
		t.Errorf("%q", got)
	}
	if f := (Failure{Kind: fault.IO, Side: fault.Peer, Cause: "as it came"}); f.Public() != f {
		t.Errorf("a partner's words were changed: %+v", f.Public())
	}
}
