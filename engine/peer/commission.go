package peer

import (
	"context"
	"math"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/peerpb"
)

// Third-party copies on the wire.

// maxWord is the most bytes of what an answer to a commission says in a word.
const maxWord = 256

var _ engine.Commissioner = (*Line)(nil)

// Commission implements engine.Commissioner.
func (l *Line) Commission(ctx context.Context, partner string, c engine.Commission) (engine.Commissioned, error) {
	reply := new(peerpb.CommissionAnswer)
	err := l.invoke(ctx, partner, peerpb.Peer_Commission_FullMethodName, &peerpb.CommissionAsk{
		Id: c.ID[:], Third: c.Third, Fetch: c.Fetch, Rule: c.Rule, Source: c.Source.String(), Target: c.Target.String(), Priority: int32(c.Priority),
		Follow: c.Follow[:], Info: c.Info, Hops: uint32(c.Hops), Probe: c.Probe, Known: c.Known, Round: c.Round, Cancel: clip(c.Cancel), Seen: c.Seen, Bandwidth: c.Bandwidth,
	}, reply)
	if fault.KindOf(err) == fault.Unsupported && err != nil {
		return engine.Commissioned{}, fault.FromPeer("commission", fault.Unsupported, partner+" is of a version that makes no requests for others")
	}
	if err != nil {
		return engine.Commissioned{}, err
	}
	return readCommissioned(reply, c.Probe)
}

// Commission serves one.
func (v *service) Commission(ctx context.Context, m *peerpb.CommissionAsk) (*peerpb.CommissionAnswer, error) {
	partner, err := callerIn(ctx)
	if err != nil {
		return nil, err
	}
	c, err := readCommission(m)
	if err != nil {
		return nil, err
	}
	leave, ok := v.s.o.Node.Enter(partner)
	if !ok {
		return nil, errFull()
	}
	defer leave()
	a, err := v.s.o.Node.Commission(ctx, partner, c)
	if err != nil {
		return nil, cleaned(ctx, err)
	}
	out := &peerpb.CommissionAnswer{
		Rule: a.Rule, State: peerpb.State(a.State), Reason: a.Reason, Version: a.Version, Rank: max(a.Rank, 0), Size: max(a.Size, -1) + 1,
		Digest: a.Digest, Verified: a.Verified, Failure: writeFailure(a.Failure), Bandwidth: a.Bandwidth,
	}
	if !c.Probe {
		out.Id = a.ID[:]
	}
	return out, nil
}

func readCommission(m *peerpb.CommissionAsk) (c engine.Commission, err error) {
	c = engine.Commission{Third: m.GetThird(), Fetch: m.GetFetch(), Rule: m.GetRule(), Info: m.GetInfo(), Probe: m.GetProbe(), Known: m.GetKnown(), Round: m.GetRound(), Cancel: m.GetCancel(), Seen: m.GetSeen()}
	if c.ID, err = readID("request's id", m.GetId()); err != nil {
		return c, err
	}
	if c.Follow, err = readID("id to follow", m.GetFollow()); err != nil {
		return c, err
	}
	if err := checkName("third node's name", m.GetThird()); err != nil {
		return c, err
	}
	for _, t := range []struct {
		what fault.Shown
		text string
		most int
	}{{"rule's name", c.Rule, lifecycle.MaxName}, {"information", c.Info, lifecycle.MaxInfo}, {"reason to cancel", c.Cancel, lifecycle.MaxText}} {
		if err := checkText(t.what, t.text, 0, t.most); err != nil {
			return c, err
		}
	}
	if c.Source, err = readPath("source", m.GetSource()); err != nil {
		return c, err
	}
	if m.GetTarget() != "" {
		if c.Target, err = readPath("target", m.GetTarget()); err != nil {
			return c, err
		}
	}
	if p := m.GetPriority(); p < math.MinInt8 || p > math.MaxInt8 {
		return c, fault.New(opRead, fault.Invalid, "priority is %d; it is from -128 to 127", p)
	}
	if h := m.GetHops(); h > math.MaxUint8 {
		return c, fault.New(opRead, fault.Invalid, "hops is %d; at most 255", h)
	}
	c.Priority, c.Hops = int8(m.GetPriority()), uint8(m.GetHops())
	c.Bandwidth, err = readBandwidth(m.GetBandwidth())
	return c, err
}

// readCommissioned is what a partner has answered. Errors are fault.Protocol.
func readCommissioned(m *peerpb.CommissionAnswer, probe bool) (a engine.Commissioned, err error) {
	switch s := m.GetState(); {
	case s < 0 || s > peerpb.State_STATE_DONE, s == 0 && !probe:
		return a, badAnswer("state is %d; this version knows 1 to 5", int32(s))
	case m.GetRank() < 0 || m.GetSize() < 0 || m.GetBandwidth() < 0:
		return a, badAnswer("rank is %d, size %d and bandwidth %d; none is negative", m.GetRank(), m.GetSize(), m.GetBandwidth())
	}
	for _, t := range []string{m.GetRule(), m.GetReason(), m.GetDigest(), m.GetVerified()} {
		if err := checkText("word", t, 0, maxWord); err != nil {
			return a, badAnswer("%v", err)
		}
	}
	a = engine.Commissioned{Rule: m.GetRule(), State: lifecycle.State(m.GetState()), Reason: m.GetReason(), Version: m.GetVersion(),
		Rank: m.GetRank(), Size: m.GetSize() - 1, Digest: m.GetDigest(), Verified: m.GetVerified(), Bandwidth: m.GetBandwidth()}
	if !probe {
		if a.ID, err = readID("id of what was made", m.GetId()); err != nil {
			return a, badAnswer("%v", err)
		}
	}
	if a.Failure, err = readFailure(m.GetFailure()); err != nil {
		return a, badAnswer("%v", err)
	}
	if a.State == lifecycle.InError && a.Failure.Kind == 0 || a.State == lifecycle.Done && a.Size < 0 {
		return a, badAnswer("it is over, but nothing says how")
	}
	return a, nil
}
