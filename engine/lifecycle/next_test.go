package lifecycle

import (
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

// TestAdmit is the table of spec/engine.md, line by line.
func TestAdmit(t *testing.T) {
	at := func(s State, change func(*Record)) *Record {
		r := Record{Role: Requested, Side: Receiver, State: s, Phase: Moving, Attempt: 5, Round: 1}
		if s == Interrupted {
			r.Reason, r.Owner = Awaiting, Requester
		}
		if change != nil {
			change(&r)
		}
		return &r
	}
	here := func(r *Record) { r.Failure = Failure{Kind: fault.Canceled} }
	there := func(r *Record) { r.Failure = Failure{Kind: fault.Canceled, Side: fault.Peer} }
	failing := func(r *Record) { r.Failing = true }
	stopped := func(by Role) func(*Record) { return func(r *Record) { r.Reason, r.Owner = Stopped, by } }
	for _, tc := range []struct {
		what string
		r    *Record
		c    Call
		want Admission
	}{
		{"unknown, new", nil, Call{1, 0, Accepted}, AdmitNew},
		{"unknown, old", nil, Call{1, 0, Pre}, AdmitAnswer},
		{"unknown, finished", nil, Call{1, 0, Posted}, AdmitAnswer},
		{"done", at(Done, nil), Call{6, 1, Posted}, AdmitAnswer},
		{"done, old call", at(Done, nil), Call{4, 1, Posted}, AdmitAnswer},
		{"waiting", at(Interrupted, nil), Call{6, 1, Moving}, AdmitServe},
		{"waiting, same attempt", at(Interrupted, nil), Call{5, 1, Moving}, AdmitServe},
		{"waiting, old call", at(Interrupted, nil), Call{4, 1, Moving}, RefuseStale},
		{"running", at(Running, nil), Call{6, 1, Moving}, AdmitWait},
		{"running, old call", at(Running, nil), Call{4, 1, Moving}, RefuseStale},
		{"running, failing", at(Running, failing), Call{6, 2, Moving}, AdmitWait},
		{"in error", at(InError, nil), Call{6, 1, Moving}, RefuseFailed},
		{"in error, retried", at(InError, nil), Call{6, 2, Moving}, AdmitRevive},
		{"in error, retried, old call", at(InError, nil), Call{4, 2, Moving}, RefuseStale},
		{"cancelled here, retried", at(InError, here), Call{6, 2, Moving}, RefuseFailed},
		{"cancelled there, retried", at(InError, there), Call{6, 2, Moving}, AdmitRevive},
		{"error tasks to run", at(Interrupted, failing), Call{6, 2, Moving}, RefuseFailed},
		{"stopped here", at(Interrupted, stopped(Requested)), Call{6, 1, Moving}, RefuseStop},
		{"stopped there", at(Interrupted, stopped(Requester)), Call{6, 1, Moving}, AdmitServe},
	} {
		if got := Admit(tc.r, tc.c); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.what, got, tc.want)
		}
	}
}

// TestAdmissionHolds: what Admit lets in, Apply takes; what it refuses for its
// attempt or for a stop, Apply refuses too.
func TestAdmissionHolds(t *testing.T) {
	for _, row := range situations(Requested, Receiver) {
		for _, c := range []Call{{3, 0, Moving}, {4, 0, Moving}, {5, 1, Moving}} {
			r := row.Record
			admission := Admit(&r, c)
			var err error
			if admission == AdmitRevive {
				err = r.Apply(Retry{Due: testTime, Call: c}, testTime)
			}
			if err == nil {
				err = r.Apply(Claim{r.Epoch + 1, c}, testTime)
			}
			lets := admission == AdmitServe || admission == AdmitRevive
			if lets != (err == nil) && admission != RefuseFailed {
				t.Errorf("%s: call %+v: %v, then %v", row.name, c, admission, err)
			}
			if err == nil && (r.Attempt != c.Attempt || r.Round < c.Round) {
				t.Errorf("%s: call %+v is forgotten: attempt %d, round %d", row.name, c, r.Attempt, r.Round)
			}
		}
	}
}

// TestRound: a retry of the requester's operator revives the requested end once; a
// lost answer does not.
func TestRound(t *testing.T) {
	q, d := registered(t, Sender, [3]uint8{}), accepted(t, Receiver, [3]uint8{})
	call := func() Call { return Call{q.Attempt, q.Round, q.Phase} }
	do(t, &q, Claim{Epoch: 1})
	do(t, &d, Claim{1, call()}, Fail{1, Failure{Kind: fault.NoSpace}})
	do(t, &q, Interrupt{1, Retrying, Requester, testTime, Failure{Kind: fault.Lost}, false}, Claim{Epoch: 2})
	if a := Admit(&d, call()); a != RefuseFailed {
		t.Fatalf("called again: %v", a)
	}
	if err := d.Apply(Retry{Due: testTime, Call: call()}, testTime); fault.KindOf(err) != fault.Stale {
		t.Errorf("revived by a call of the same round: %v", err)
	}
	do(t, &q, Fail{2, Failure{Kind: fault.NoSpace, Side: fault.Peer}}, Retry{Due: testTime}, Claim{Epoch: 3})
	if a := Admit(&d, call()); a != AdmitRevive {
		t.Fatalf("called after the retry: %v", a)
	}
	do(t, &d, Retry{Due: testTime, Call: call()}, Claim{2, call()})
	if d.Round != 1 || d.Attempt != 3 {
		t.Errorf("round %d, attempt %d", d.Round, d.Attempt)
	}
	if err := q.Apply(Retry{Due: testTime, Call: call()}, testTime); err == nil {
		t.Error("a requester was retried by a call")
	}
}

// TestByRound: a partner's word retries the request that was made for it once, whatever an operator here has retried.
func TestByRound(t *testing.T) {
	q := registered(t, Sender, [3]uint8{})
	failed := func(epoch uint64) []Event {
		return []Event{Claim{Epoch: epoch}, Fail{epoch, Failure{Kind: fault.NoSpace}}}
	}
	do(t, &q, failed(1)...)
	if err := q.Apply(Retry{Due: testTime, By: 1}, testTime); fault.KindOf(err) != fault.Invalid {
		t.Errorf("no partner wants it: %v", err)
	}
	q.Spec.By = "c"
	do(t, &q, append([]Event{Retry{Due: testTime}}, failed(2)...)...)
	do(t, &q, append([]Event{Retry{Due: testTime, By: 1}}, failed(3)...)...)
	do(t, &q, append([]Event{Retry{Due: testTime, By: 1000}}, failed(4)...)...)
	for _, round := range []uint32{1, 999, 1000} {
		if err := q.Apply(Retry{Due: testTime, By: round}, testTime); fault.KindOf(err) != fault.Stale {
			t.Errorf("round %d after 1000: %v", round, err)
		}
	}
	if q.Round != 3 || q.ByRound != 1000 {
		t.Errorf("round %d, of the partner %d", q.Round, q.ByRound)
	}
	d := accepted(t, Receiver, [3]uint8{})
	d.Spec.By = "c"
	do(t, &d, Claim{1, Call{Attempt: 1, Phase: Accepted}}, Fail{1, Failure{Kind: fault.NoSpace}})
	if err := d.Apply(Retry{Due: testTime, By: 1}, testTime); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a requested end: %v", err)
	}
}

// TestNext: what the model does not get to see.
func TestNext(t *testing.T) {
	for _, tc := range []struct {
		what string
		r    Record
		peer Phase
		want Act
	}{
		{"requester, nothing heard", Record{Role: Requester, Side: Sender, Phase: Posted}, Unheard, Act{DoCall, Prepare}},
		{"requester, the requested is not prepared", Record{Role: Requester, Side: Sender, Phase: Accepted}, Pre, Act{DoCall, Prepare}},
		{"requester, mismatch", Record{Role: Requester, Side: Sender, Phase: Acked}, Unknown, Act{DoFail, Mismatch}},
		{"requester, no such phase", Record{Role: Requester, Side: Sender, Phase: Acked}, 42, Act{DoFail, Mismatch}},
		{"requested, mismatch", Record{Role: Requested, Side: Receiver, Phase: Finished - 1}, Unknown, Act{DoAnswer, Mismatch}},
		{"requester, bytes before its pre tasks", Record{Role: Requester, Side: Sender, Phase: Pre, Spec: Spec{Tasks: [3]uint8{1, 0, 0}}}, Moving, Act{DoFail, Mismatch}},
		{"requester, the whole before its pre tasks", Record{Role: Requester, Side: Sender, Phase: Accepted, Spec: Spec{Tasks: [3]uint8{1, 0, 0}}}, Posted, Act{DoFail, Mismatch}},
		{"requester, which had offered the bytes", Record{Role: Requester, Side: Sender, Phase: Accepted}, Posted, Act{DoClimb, Acknowledge}},
		{"requester, which had offered some", Record{Role: Requester, Side: Sender, Phase: Accepted}, Moving, Act{DoBytes, Transfer}},
		{"requested, no call", Record{Role: Requested, Side: Receiver, Phase: Posted}, Unheard, Act{DoAnswer, Mismatch}},
		{"failing, over", Record{Role: Requested, Side: Receiver, Phase: Moving, Failing: true}, Unheard, Act{Do: DoSettle}},
		{"failing", Record{Role: Requested, Side: Receiver, Phase: Moving, Failing: true, Spec: Spec{Tasks: [3]uint8{0, 0, 1}}}, Moving, Act{Do: DoTask}},
	} {
		if got := Next(&tc.r, tc.peer); got != tc.want {
			t.Errorf("%s: %v %v, want %v %v", tc.what, got.Do, got.Move, tc.want.Do, tc.want.Move)
		}
	}
}

// TestSelfRequest: both records of a request to itself are of one node; they differ
// by the role, and so do the keys of their tasks.
func TestSelfRequest(t *testing.T) {
	q, d := registered(t, Sender, [3]uint8{1, 0, 0}), accepted(t, Receiver, [3]uint8{1, 0, 0})
	do(t, &q, Claim{Epoch: 1}, Advance{Epoch: 1, To: Pre, Rank: 0})
	do(t, &d, Claim{2, Call{Attempt: 1, Phase: Accepted}}, Advance{Epoch: 2, To: Pre, Rank: 0})
	kq, _ := q.NextTask()
	kd, _ := d.NextTask()
	if q.Key != d.Key || kq == kd {
		t.Errorf("keys %v and %v, tasks %v and %v", q.Key, d.Key, kq, kd)
	}
}

// TestStateThatApplyMustNotReach: a defect of an event is Internal and changes nothing.
func TestStateThatApplyMustNotReach(t *testing.T) {
	r := registered(t, Sender, [3]uint8{})
	old := r
	if err := r.Apply(broken{}, testTime); fault.KindOf(err) != fault.Internal || r != old {
		t.Errorf("%v, %+v", err, r)
	}
}

type broken struct{}

func (broken) on() (row, uint64) { return stop, 0 }

func (broken) apply(r *Record) error {
	r.State = Done
	return nil
}
