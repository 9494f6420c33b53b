package peer

import (
	"context"
	"math"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/peerpb"
)

// How far the other end of a request is, on the wire.

var _ engine.Stepper = (*Line)(nil)

// Steps implements engine.Stepper.
func (l *Line) Steps(ctx context.Context, partner string, key lifecycle.Key, role lifecycle.Role) (engine.Steps, error) {
	reply := new(peerpb.StepsReply)
	err := l.invoke(ctx, partner, peerpb.Peer_Steps_FullMethodName, writeStepsAsk(key, role), reply)
	if err != nil && fault.KindOf(err) == fault.Unsupported {
		return engine.Steps{}, fault.FromPeer("call partner", fault.Unsupported, "it is of a version that does not tell its steps")
	}
	if err != nil {
		return engine.Steps{}, err
	}
	return readSteps(reply)
}

// Steps serves them.
func (v *service) Steps(ctx context.Context, m *peerpb.StepsAsk) (*peerpb.StepsReply, error) {
	partner, err := callerIn(ctx)
	if err != nil {
		return nil, err
	}
	key, role, err := readStepsAsk(m)
	if err != nil {
		return nil, err
	}
	leave, ok := v.s.o.Node.Enter(partner)
	if !ok {
		return nil, errFull()
	}
	defer leave()
	x, err := v.s.o.Node.Steps(ctx, partner, key, role)
	if err != nil {
		return nil, cleaned(ctx, err)
	}
	return writeSteps(&x), nil
}

func writeStepsAsk(key lifecycle.Key, role lifecycle.Role) *peerpb.StepsAsk {
	return &peerpb.StepsAsk{Requester: key.Requester, Id: key.ID[:], Role: peerpb.Role(role)}
}

func readStepsAsk(m *peerpb.StepsAsk) (key lifecycle.Key, role lifecycle.Role, err error) {
	if err := checkName("requester's name", m.GetRequester()); err != nil {
		return key, role, err
	}
	key.Requester = m.GetRequester()
	if key.ID, err = readID("request's id", m.GetId()); err != nil {
		return key, role, err
	}
	switch r := m.GetRole(); r {
	case peerpb.Role_ROLE_REQUESTER, peerpb.Role_ROLE_REQUESTED:
		return key, lifecycle.Role(r), nil
	default:
		return key, role, fault.New(opRead, fault.Invalid, "role is %d; it is 1 or 2", int32(r))
	}
}

func writeSteps(x *engine.Steps) *peerpb.StepsReply {
	m := &peerpb.StepsReply{
		Side: peerpb.Side(x.Side), State: peerpb.State(x.State), Phase: peerpb.Phase(x.Phase), Failing: x.Failing, Reason: x.Reason, Attempt: x.Attempt,
		Rank: max(x.Rank, 0), Size: max(x.Size, -1) + 1, Failure: writeFailure(x.Failure), All: x.All[:], Done: x.Done[:], Time: nanoseconds(x.Clock),
		Changed: nanoseconds(x.Changed),
	}
	for p, at := range x.Reached {
		if !at.IsZero() {
			m.Reached = append(m.Reached, &peerpb.Reached{Phase: peerpb.Phase(p), At: nanoseconds(at)})
		}
	}
	for _, t := range x.Tasks {
		m.Tasks = append(m.Tasks, &peerpb.TaskRun{List: peerpb.TaskList(t.List) + 1, Number: uint32(t.Number), Began: nanoseconds(t.Began), Ended: nanoseconds(t.Ended), Failed: t.Failed, Warned: t.Warned})
	}
	return m
}

// readSteps is what a partner has told. Errors are fault.Protocol.
func readSteps(m *peerpb.StepsReply) (x engine.Steps, err error) {
	side, state, phase := m.GetSide(), m.GetState(), m.GetPhase()
	switch {
	case side != peerpb.Side_SIDE_SENDER && side != peerpb.Side_SIDE_RECEIVER:
		return x, badAnswer("side is %d; it is 1 or 2", int32(side))
	case state < peerpb.State_STATE_TOSUBMIT || state > peerpb.State_STATE_DONE:
		return x, badAnswer("state is %d; this version knows 1 to 5", int32(state))
	case phase < peerpb.Phase_PHASE_ACCEPTED || phase > peerpb.Phase_PHASE_FINISHED:
		return x, badAnswer("phase is %d; it is from 1 to 9", int32(phase))
	case m.GetRank() < 0 || m.GetSize() < 0:
		return x, badAnswer("rank is %d and size %d; neither is negative", m.GetRank(), m.GetSize())
	case len(m.GetAll()) != len(x.All) || len(m.GetDone()) != len(x.Done):
		return x, badAnswer("numbers of %d and %d lists of tasks; there are 3", len(m.GetAll()), len(m.GetDone()))
	case len(m.GetTasks()) > engine.MostRuns:
		return x, badAnswer("%d tasks that ran; at most %d", len(m.GetTasks()), engine.MostRuns)
	}
	if err := checkText("reason", m.GetReason(), 0, lifecycle.MaxName); err != nil {
		return x, badAnswer("%v", err)
	}
	x = engine.Steps{
		Side: lifecycle.Side(side), State: lifecycle.State(state), Phase: lifecycle.Phase(phase), Failing: m.GetFailing(), Reason: m.GetReason(), Attempt: m.GetAttempt(),
		Rank: m.GetRank(), Size: m.GetSize() - 1, All: [3]uint8(m.GetAll()), Done: [3]uint8(m.GetDone()), Clock: instant(m.GetTime()),
		Changed: instant(m.GetChanged()),
	}
	for i := range x.All {
		if x.Done[i] > x.All[i] {
			return x, badAnswer("%d of %d tasks are done", x.Done[i], x.All[i])
		}
	}
	if x.Failure, err = readFailure(m.GetFailure()); err != nil {
		return x, badAnswer("%v", err)
	}
	last := lifecycle.Unknown
	x.Failure.Cause = fault.Relayed(x.Failure.Cause)
	for _, r := range m.GetReached() {
		p := r.GetPhase()
		if p <= peerpb.Phase(last) || p > phase {
			return x, badAnswer("it has reached phase %d after %d, and is in %d", int32(p), last, int32(phase))
		}
		last = lifecycle.Phase(p)
		x.Reached[last] = instant(r.GetAt())
	}
	for _, t := range m.GetTasks() {
		if t.GetList() < peerpb.TaskList_TASK_LIST_PRE || t.GetList() > peerpb.TaskList_TASK_LIST_ERROR || t.GetNumber() == 0 || t.GetNumber() > math.MaxUint8 {
			return x, badAnswer("a task of number %d in list %d", t.GetNumber(), int32(t.GetList()))
		}
		x.Tasks = append(x.Tasks, engine.TaskRun{List: lifecycle.List(t.GetList() - 1), Number: uint8(t.GetNumber()), Began: instant(t.GetBegan()), Ended: instant(t.GetEnded()), Failed: t.GetFailed(), Warned: t.GetWarned()})
	}
	return x, nil
}
