package peer

import (
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/peerpb"
)

// maxWait is the longest Answer.Wait that travels; a longer one is cut.
const maxWait = 24 * time.Hour

// writeAnswer is an answer as it travels. One that no engine gives is
// fault.Internal.
func writeAnswer(a *engine.Answer) (*peerpb.Answer, error) {
	if a.Outcome < engine.Served || a.Outcome > engine.Busy || a.Phase > lifecycle.Finished || a.Rank < 0 || a.Size < -1 || a.Size == math.MaxInt64 || a.Bandwidth < 0 {
		return nil, fault.New("write answer", fault.Internal, "outcome %d, phase %d, rank %d, size %d, bandwidth %d", a.Outcome, a.Phase, a.Rank, a.Size, a.Bandwidth)
	}
	return &peerpb.Answer{
		Outcome: peerpb.Outcome(a.Outcome), Phase: peerpb.Phase(a.Phase), Rank: a.Rank, Size: a.Size + 1,
		Failure: writeFailure(a.Failure), Wait: int64(min(max(a.Wait, 0), maxWait)), All: a.All, Bandwidth: a.Bandwidth,
	}, nil
}

// readAnswer is what a partner has answered. Errors are fault.Protocol, the
// partner's: nothing that was asked is wrong.
func readAnswer(p *peerpb.Answer) (a engine.Answer, err error) {
	o, ph := p.GetOutcome(), p.GetPhase()
	switch {
	case o < peerpb.Outcome_OUTCOME_SERVED || o > peerpb.Outcome_OUTCOME_BUSY:
		return a, badAnswer("outcome is %d; this version knows 1 to 5", int32(o))
	case ph < 0 || ph > peerpb.Phase_PHASE_FINISHED:
		return a, badAnswer("phase is %d; it is from 0 to 9", int32(ph))
	case p.GetRank() < 0 || p.GetSize() < 0:
		return a, badAnswer("rank is %d and size %d; neither is negative", p.GetRank(), p.GetSize())
	case p.GetBandwidth() < 0:
		return a, badAnswer("bandwidth is %d; it is not negative", p.GetBandwidth())
	case p.GetWait() < 0 || p.GetWait() > int64(maxWait):
		return a, badAnswer("it asks to wait %v; at most a day", time.Duration(p.GetWait()))
	}
	f, err := readFailure(p.GetFailure())
	if err != nil {
		return a, badAnswer("%v", err)
	}
	if o == peerpb.Outcome_OUTCOME_FAILED && f.Kind == 0 {
		return a, badAnswer("the request has failed, but nothing says why")
	}
	return engine.Answer{
		Outcome: engine.Outcome(o), Phase: lifecycle.Phase(ph), Rank: p.GetRank(), Size: p.GetSize() - 1,
		Failure: f, Wait: time.Duration(p.GetWait()), All: p.GetAll(), Bandwidth: p.GetBandwidth(),
	}, nil
}

func badAnswer(format string, args ...any) *fault.Error {
	e := fault.New("read answer", fault.Protocol, format, args...)
	e.Side = fault.Peer
	return e
}

// writeFailure is a failure as it travels, its cause cut to MaxText bytes of
// UTF-8. The engine has made the cause fit for travel: nothing of its own is in it
// but what fault.Text lets out. The side stays as this end sees it.
func writeFailure(f lifecycle.Failure) *peerpb.Failure {
	if f == (lifecycle.Failure{}) {
		return nil
	}
	return &peerpb.Failure{Kind: uint32(f.Kind), Side: uint32(f.Side), Cause: clip(f.Cause), At: nanoseconds(f.At)}
}

func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > lifecycle.MaxText {
		s = strings.ToValidUTF8(s[:lifecycle.MaxText], "")
	}
	return s
}

func readFailure(p *peerpb.Failure) (f lifecycle.Failure, err error) {
	if p == nil {
		return f, nil
	}
	if p.GetKind() > math.MaxUint16 {
		return f, fault.New(opRead, fault.Invalid, "a failure of kind %d; kinds are below 65536", p.GetKind())
	}
	if p.GetSide() > uint32(fault.Inferred) {
		return f, fault.New(opRead, fault.Invalid, "a failure of side %d; sides are 0 to 2", p.GetSide())
	}
	if err := checkText("cause of the failure", p.GetCause(), 0, lifecycle.MaxText); err != nil {
		return f, err
	}
	return lifecycle.Failure{Kind: fault.Kind(p.GetKind()), Side: fault.Side(p.GetSide()), Cause: p.GetCause(), At: instant(p.GetAt())}, nil
}

// nanoseconds is a time as it travels: since 1970, 0 when it is not known or out
// of what 64 bits hold.
func nanoseconds(t time.Time) int64 {
	if t.Before(time.Unix(0, math.MinInt64)) || t.After(time.Unix(0, math.MaxInt64)) {
		return 0
	}
	return t.UnixNano()
}

func instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func checkName(what fault.Shown, s string) error { return checkText(what, s, 1, lifecycle.MaxName) }

func checkText(what fault.Shown, s string, least, most int) error {
	if n := len(s); n < least || n > most || !utf8.ValidString(s) {
		return fault.New(opRead, fault.Invalid, "the %s has %d bytes; %d to %d of UTF-8 are allowed", what, n, least, most)
	}
	return nil
}
