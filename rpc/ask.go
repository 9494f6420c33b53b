package rpc

import (
	"crypto/rand"

	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/rpcpb"
)

// What a call adds to a gRPC request and answer. Limits are in encoded bytes.
const (
	// Feature is what a node that understands side effects announces in the
	// handshake of a session.
	Feature = "effects/1"
	// MetadataKey is the request metadata of an ask and the trailer of an answer.
	MetadataKey = "pannier-effects-bin"
	// MaxEffects is the most side effects of one call.
	MaxEffects = 16

	maxAsk    = 1 << 10  // request metadata
	maxAnswer = 8 << 10  // trailer; gRPC peers accept 16 KiB of header list or more
	maxMeta   = 32 << 10 // meta of a stream, as in flow
	maxCause  = maxAnswer/MaxEffects - 128
)

// callID names one call; random, so that nobody can guess or repeat it.
type callID [16]byte

func newCallID() (id callID) {
	rand.Read(id[:]) // never fails since Go 1.24
	return id
}

// ask is what a client offers with a call.
type ask struct {
	call    callID
	session flow.ID    // the effects use this one; a call that comes over another is a repetition
	token   flow.Token // stream road: its secret
	carried bool       // token is set
	effects []offer
}

// offer is one side effect the client is ready for.
type offer struct {
	direction sideeffect.Direction
	kind      string
	road      sideeffect.Road // what the client insists on
	size      int64           // of the client's source; -1 unknown
	limit     int64           // of the client's sink; -1 none
	policy    sideeffect.OverQuota
	inline    bool // the reply may carry it
	optional  bool
	hash      sideeffect.Algorithm
	compress  sideeffect.Compression
}

func (a *ask) encode() ([]byte, error) {
	m := &rpcpb.Ask{Call: a.call[:]}
	if a.session != (flow.ID{}) {
		m.Session = a.session[:]
	}
	if a.carried {
		m.Token = a.token[:]
	}
	for _, o := range a.effects {
		m.Effects = append(m.Effects, &rpcpb.EffectAsk{
			Direction: rpcpb.Direction(o.direction), Kind: o.kind, Road: rpcpb.Road(o.road),
			Size: o.size + 1, Limit: o.limit + 1, InlineOk: o.inline, Optional: o.optional,
			Hash: uint32(o.hash), Compress: uint32(o.compress), Cut: o.policy == sideeffect.Cut,
		})
	}
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, fault.Wrap("encode ask", "", err)
	}
	if len(b) > maxAsk {
		return nil, fault.New("encode ask", fault.TooLong, "%d bytes for %d effects, the limit is %d: offer fewer effects or shorter kinds", len(b), len(a.effects), maxAsk)
	}
	return b, nil
}

// parseAsk reads what a client has sent. It trusts nothing: every number is
// checked, and memory is bounded by maxAsk.
func parseAsk(b []byte) (*ask, error) {
	const op = "parse ask"
	if len(b) > maxAsk {
		return nil, fault.New(op, fault.TooLong, "%d bytes, the limit is %d", len(b), maxAsk)
	}
	m := new(rpcpb.Ask)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fault.New(op, fault.Invalid, "not an ask: %v", err)
	}
	if len(m.Effects) == 0 || len(m.Effects) > MaxEffects {
		return nil, fault.New(op, fault.Invalid, "%d effects; a call has 1 to %d", len(m.Effects), MaxEffects)
	}
	a := &ask{carried: len(m.Token) != 0}
	if len(m.Call) != len(a.call) || a.carried && len(m.Token) != len(a.token) || (a.carried || len(m.Session) != 0) && len(m.Session) != len(a.session) {
		return nil, fault.New(op, fault.Invalid, "call, session and token have 16 bytes each")
	}
	copy(a.call[:], m.Call)
	copy(a.session[:], m.Session)
	copy(a.token[:], m.Token)
	for i, e := range m.Effects {
		o, err := parseOffer(e)
		if err != nil {
			return nil, fault.New(op, fault.Invalid, "effect %d: %v", i, err)
		}
		a.effects = append(a.effects, o)
	}
	return a, nil
}

func parseOffer(e *rpcpb.EffectAsk) (offer, error) {
	const op = "parse effect"
	o := offer{
		direction: sideeffect.Direction(e.GetDirection()), kind: e.GetKind(), road: sideeffect.Road(e.GetRoad()),
		size: e.GetSize() - 1, limit: e.GetLimit() - 1, inline: e.GetInlineOk(), optional: e.GetOptional(),
		hash: sideeffect.Algorithm(e.GetHash()), compress: sideeffect.Compression(e.GetCompress()),
	}
	if e.GetCut() {
		o.policy = sideeffect.Cut
	}
	switch {
	case e.GetDirection() != rpcpb.Direction_DIRECTION_CLIENT_TO_SERVER && e.GetDirection() != rpcpb.Direction_DIRECTION_SERVER_TO_CLIENT:
		return o, fault.New(op, fault.Invalid, "direction %d", e.GetDirection())
	case e.GetRoad() < rpcpb.Road_ROAD_AUTO || e.GetRoad() > rpcpb.Road_ROAD_STREAM:
		return o, fault.New(op, fault.Invalid, "road %d", e.GetRoad())
	case len(o.kind) > sideeffect.MaxKindName:
		return o, fault.New(op, fault.Invalid, "kind has %d bytes, the limit is %d", len(o.kind), sideeffect.MaxKindName)
	case e.GetSize() < 0 || e.GetLimit() < 0:
		return o, fault.New(op, fault.Invalid, "negative size or limit")
	case e.GetHash() > uint32(sideeffect.BLAKE3) || e.GetCompress() > uint32(sideeffect.CompressS2):
		return o, fault.New(op, fault.Invalid, "hash %d, compression %d", e.GetHash(), e.GetCompress())
	}
	return o, nil
}

// outcome is how one effect went at the server.
type outcome struct {
	status  sideeffect.Status
	err     error // of Failure, and why it was not started
	bytes   int64
	road    sideeffect.Road
	verdict *sideeffect.Verdict // of an inline sink
}

// encodeAnswer writes one outcome per effect of the ask, in order.
func encodeAnswer(outs []outcome) ([]byte, error) {
	m := new(rpcpb.Answer)
	for i, o := range outs {
		p := &rpcpb.Outcome{Index: uint32(i), Status: rpcpb.Status(o.status), Bytes: o.bytes, Road: rpcpb.Road(o.road)}
		if o.err != nil {
			p.Fault = faultProto(o.err, i)
			p.Fault.Text = clip(p.Fault.Text, maxCause)
		}
		if o.verdict != nil {
			p.Verdict = verdictProto(*o.verdict)
			p.Verdict.Fault = nil // as p.Fault
		}
		m.Outcomes = append(m.Outcomes, p)
	}
	b, err := proto.Marshal(m)
	if err == nil && len(b) > maxAnswer {
		err = fault.New("encode answer", fault.TooLong, "%d bytes, the limit is %d", len(b), maxAnswer)
	}
	return b, fault.Wrap("encode answer", "", err)
}

// parseAnswer reads the outcomes of a call that asked for n effects.
func parseAnswer(b []byte, n int) ([]outcome, error) {
	const op = "parse answer"
	if len(b) > maxAnswer {
		return nil, fault.New(op, fault.TooLong, "%d bytes, the limit is %d", len(b), maxAnswer)
	}
	m := new(rpcpb.Answer)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fault.New(op, fault.Protocol, "not an answer: %v", err)
	}
	if len(m.Outcomes) != n {
		return nil, fault.New(op, fault.Protocol, "%d outcomes for %d effects", len(m.Outcomes), n)
	}
	outs := make([]outcome, n)
	for i, p := range m.Outcomes {
		if int(p.GetIndex()) != i || p.GetStatus() < 0 || p.GetStatus() > rpcpb.Status_STATUS_FAILURE ||
			p.GetRoad() < 0 || p.GetRoad() > rpcpb.Road_ROAD_STREAM || p.GetBytes() < 0 {
			return nil, fault.New(op, fault.Protocol, "outcome %d has an index, status, road or count that cannot be", i)
		}
		o := outcome{status: sideeffect.Status(p.GetStatus()), bytes: p.GetBytes(), road: sideeffect.Road(p.GetRoad())}
		if f := faultFrom("side effect", p.GetFault()); f != nil {
			o.err = f
		}
		if v := p.GetVerdict(); v != nil {
			v.Fault = p.GetFault()
			verdict, err := verdictFrom(v)
			if err != nil {
				return nil, err
			}
			o.verdict = &verdict
		}
		outs[i] = o
	}
	return outs, nil
}

// clip cuts s to n bytes at the border of a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
