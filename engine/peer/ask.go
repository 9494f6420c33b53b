package peer

import (
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/peerpb"
	"github.com/pannier/pannier/spec/relpath"
)

// writeAsk is the method and the message that an ask travels as. Which of two
// moves it is the methods EndTransfer and EndRequest tell by the side: whose turn
// it is says who calls. An ask that no engine makes is fault.Internal.
func writeAsk(a *engine.Ask) (method string, m proto.Message, err error) {
	c := &peerpb.Call{
		Requester: a.Key.Requester, Id: a.Key.ID[:], Side: peerpb.Side(a.Side),
		Attempt: a.Call.Attempt, Round: a.Call.Round, Phase: peerpb.Phase(a.Call.Phase), Traceparent: a.Trace,
	}
	switch a.Move {
	case lifecycle.Prepare:
		return peerpb.Peer_Request_FullMethodName, &peerpb.RequestAsk{
			Call: c, Rule: a.Rule, Source: a.Source.String(), Target: a.Target.String(),
			Priority: int32(a.Priority), Follow: a.Follow[:], Info: a.Info, Hops: uint32(a.Hops), Bandwidth: a.Bandwidth,
		}, nil
	case lifecycle.Transfer:
		return peerpb.Peer_Transfer_FullMethodName, &peerpb.TransferAsk{Call: c}, nil
	case endTransfer(a.Side):
		return peerpb.Peer_EndTransfer_FullMethodName, &peerpb.EndTransferAsk{Call: c}, nil
	case endRequest(a.Side):
		return peerpb.Peer_EndRequest_FullMethodName, &peerpb.EndRequestAsk{Call: c}, nil
	case lifecycle.Mismatch:
		return peerpb.Peer_Stop_FullMethodName, &peerpb.StopAsk{Call: c, Why: writeFailure(a.Why), Gone: a.Gone}, nil
	}
	return "", nil, fault.New("write call", fault.Internal, "a requester that is the %v does not call for %v", a.Side, a.Move)
}

// endTransfer is the move that a requester of that side calls EndTransfer for.
func endTransfer(requester lifecycle.Side) lifecycle.Move {
	if requester == lifecycle.Receiver {
		return lifecycle.Acknowledge
	}
	return lifecycle.EndTransfer
}

// endRequest is the move that a requester of that side calls EndRequest for.
func endRequest(requester lifecycle.Side) lifecycle.Move {
	if requester == lifecycle.Receiver {
		return lifecycle.Finish
	}
	return lifecycle.EndRequest
}

const opRead = "read call"

// readCall is what arrived in each call. Errors of all readers are fault.Invalid
// and say which field to mend; a peer may read them.
func readCall(c *peerpb.Call) (a engine.Ask, err error) {
	if c == nil {
		return a, fault.New(opRead, fault.Invalid, "it does not say which request it is about")
	}
	if err := checkName("requester's name", c.GetRequester()); err != nil {
		return a, err
	}
	a.Key.Requester = c.GetRequester()
	if a.Key.ID, err = readID("request's id", c.GetId()); err != nil {
		return a, err
	}
	switch s := c.GetSide(); s {
	case peerpb.Side_SIDE_SENDER, peerpb.Side_SIDE_RECEIVER:
		a.Side = lifecycle.Side(s)
	default:
		return a, fault.New(opRead, fault.Invalid, "side is %d; it is 1 or 2", int32(s))
	}
	if c.GetAttempt() == 0 {
		return a, fault.New(opRead, fault.Invalid, "attempt is 0; it counts from 1")
	}
	if t := c.GetTraceparent(); isTraceparent(t) {
		a.Trace = t
	}
	p := c.GetPhase()
	if p < peerpb.Phase_PHASE_ACCEPTED || p > peerpb.Phase_PHASE_FINISHED {
		return a, fault.New(opRead, fault.Invalid, "phase is %d; a requester's is from 1 to 9", int32(p))
	}
	a.Call = lifecycle.Call{Attempt: c.GetAttempt(), Round: c.GetRound(), Phase: lifecycle.Phase(p)}
	return a, nil
}

func readRequest(m *peerpb.RequestAsk) (engine.Ask, error) {
	a, err := readCall(m.GetCall())
	if err != nil {
		return a, err
	}
	a.Move = lifecycle.Prepare
	if err := checkName("rule's name", m.GetRule()); err != nil {
		return a, err
	}
	if err := checkText("information", m.GetInfo(), 0, lifecycle.MaxInfo); err != nil {
		return a, err
	}
	a.Rule, a.Info = m.GetRule(), m.GetInfo()
	if a.Source, err = readPath("source", m.GetSource()); err != nil {
		return a, err
	}
	if m.GetTarget() != "" {
		if a.Target, err = readPath("target", m.GetTarget()); err != nil {
			return a, err
		}
	}
	if p := m.GetPriority(); p < math.MinInt8 || p > math.MaxInt8 {
		return a, fault.New(opRead, fault.Invalid, "priority is %d; it is from -128 to 127", p)
	}
	a.Priority = int8(m.GetPriority())
	if h := m.GetHops(); h > math.MaxUint8 {
		return a, fault.New(opRead, fault.Invalid, "hops is %d; at most 255", h)
	}
	a.Hops = uint8(m.GetHops())
	if a.Bandwidth, err = readBandwidth(m.GetBandwidth()); err != nil {
		return a, err
	}
	a.Follow, err = readID("id of the chain's first request", m.GetFollow())
	return a, err
}

func readTransfer(m *peerpb.TransferAsk) (engine.Ask, error) {
	a, err := readCall(m.GetCall())
	a.Move = lifecycle.Transfer
	return a, err
}

func readEndTransfer(m *peerpb.EndTransferAsk) (engine.Ask, error) {
	a, err := readCall(m.GetCall())
	a.Move = endTransfer(a.Side)
	return a, err
}

func readEndRequest(m *peerpb.EndRequestAsk) (engine.Ask, error) {
	a, err := readCall(m.GetCall())
	a.Move = endRequest(a.Side)
	return a, err
}

func readStop(m *peerpb.StopAsk) (engine.Ask, error) {
	a, err := readCall(m.GetCall())
	if err != nil {
		return a, err
	}
	a.Move, a.Gone = lifecycle.Mismatch, m.GetGone() && a.Side == lifecycle.Receiver
	a.Why, err = readFailure(m.GetWhy())
	if err == nil && a.Why.Kind == 0 {
		err = fault.New(opRead, fault.Invalid, "it does not say why the requester stops")
	}
	return a, err
}

func readID(what fault.Shown, b []byte) (id lifecycle.ID, err error) {
	if len(b) != len(id) {
		return id, fault.New(opRead, fault.Invalid, "the %s has %d bytes; an id has 16", what, len(b))
	}
	return lifecycle.ID(b), nil
}

// readBandwidth is what a request may be asked for with.
func readBandwidth(rate int64) (int64, error) {
	if rate != 0 && rate < lifecycle.MinBandwidth {
		return 0, fault.New(opRead, fault.Invalid, "bandwidth is %d; it is 0 or at least %d", rate, lifecycle.MinBandwidth)
	}
	return rate, nil
}

// readPath keeps relpath's words, which repeat nothing of the path.
func readPath(what fault.Shown, s string) (relpath.Path, error) {
	p, err := relpath.Parse(s)
	if err != nil {
		return p, fault.New(opRead, fault.Invalid, "the %s is no path below a root: %s", what, fault.Shown(fault.Text(err)))
	}
	return p, nil
}
