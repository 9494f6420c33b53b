package rpc

import (
	"bytes"
	"crypto/rand"

	"google.golang.org/protobuf/encoding/protowire"

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

// lasts reports whether the server's half may outlive its handler: a source that
// awaits its verdict.
func (o offer) lasts() bool {
	return o.direction == sideeffect.ServerToClient && !isPipe(o.kind)
}

func (a *ask) encode() ([]byte, error) {
	b := appendBytes(make([]byte, 0, 128), 1, a.call[:])
	if a.session != (flow.ID{}) {
		b = appendBytes(b, 2, a.session[:])
	}
	if a.carried {
		b = appendBytes(b, 3, a.token[:])
	}
	for i := range a.effects {
		var mark int
		b, mark = openMessage(b, 4)
		b = closeMessage(a.effects[i].append(b), mark)
	}
	if len(b) > maxAsk {
		return nil, fault.New("encode ask", fault.TooLong, "%d bytes for %d effects, the limit is %d: offer fewer effects or shorter kinds", len(b), len(a.effects), maxAsk)
	}
	return b, nil
}

func (o *offer) append(b []byte) []byte {
	b = appendUint(b, 1, uint64(o.direction))
	b = appendBytes(b, 2, []byte(o.kind))
	b = appendUint(b, 3, uint64(o.road))
	b = appendUint(b, 4, uint64(plusOne(o.size)))
	b = appendUint(b, 5, uint64(plusOne(o.limit)))
	b = appendBool(b, 6, o.inline)
	b = appendBool(b, 7, o.optional)
	b = appendUint(b, 8, uint64(o.hash))
	b = appendUint(b, 9, uint64(o.compress))
	return appendBool(b, 10, o.policy == sideeffect.Cut)
}

// parseAsk reads what a client has sent. It trusts nothing: every number is
// checked, and memory is bounded by maxAsk.
func parseAsk(b []byte) (*ask, error) {
	const op = "parse ask"
	if len(b) > maxAsk {
		return nil, fault.New(op, fault.TooLong, "%d bytes, the limit is %d", len(b), maxAsk)
	}
	a := &ask{}
	named, tied := false, false
	f := fields{rest: b}
	for f.next() {
		switch f.num {
		case 1:
			named = true
			f.exactly(a.call[:])
		case 2:
			tied = true
			f.exactly(a.session[:])
		case 3:
			a.carried = true
			f.exactly(a.token[:])
		case 4:
			a.effects = append(a.effects, f.offer())
		}
		if len(a.effects) > MaxEffects {
			break
		}
	}
	switch {
	case f.err != nil:
		return nil, fault.New(op, fault.Invalid, "effect %d: %w", len(a.effects), f.err)
	case len(a.effects) == 0 || len(a.effects) > MaxEffects:
		return nil, fault.New(op, fault.Invalid, "%d effects; a call has 1 to %d", len(a.effects), MaxEffects)
	case !named || a.carried && !tied:
		return nil, fault.New(op, fault.Invalid, "the id of the call or of its session is missing")
	}
	return a, nil
}

// offer reads the message in the present field.
func (f *fields) offer() offer {
	o := offer{size: -1, limit: sideeffect.NoQuota}
	in := fields{rest: f.bytes()}
	for in.next() {
		switch in.num {
		case 1:
			o.direction = sideeffect.Direction(in.small(3))
		case 2:
			o.kind = in.text(sideeffect.MaxKindName)
		case 3:
			o.road = sideeffect.Road(in.small(uint64(sideeffect.RoadStream) + 1))
		case 4:
			o.size = in.size() - 1
		case 5:
			o.limit = in.size() - 1
		case 6:
			o.inline = in.bool()
		case 7:
			o.optional = in.bool()
		case 8:
			o.hash = sideeffect.Algorithm(in.small(uint64(sideeffect.BLAKE3) + 1))
		case 9:
			o.compress = sideeffect.Compression(in.small(uint64(sideeffect.CompressS2) + 1))
		case 10:
			if in.bool() {
				o.policy = sideeffect.Cut
			}
		}
	}
	if o.direction == 0 {
		in.fail("no direction")
	}
	f.adopt(in)
	return o
}

// adopt takes over the error of a message inside.
func (f *fields) adopt(in fields) {
	if f.err == nil {
		f.err = in.err
	}
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
	b := make([]byte, 0, 64)
	for i := range outs {
		var mark int
		b, mark = openMessage(b, 1)
		b = closeMessage(outs[i].append(b, i), mark)
	}
	if len(b) > maxAnswer {
		return nil, fault.New("encode answer", fault.TooLong, "%d bytes, the limit is %d", len(b), maxAnswer)
	}
	return b, nil
}

func (o *outcome) append(b []byte, index int) []byte {
	var mark int
	b = appendUint(b, 1, uint64(index))
	b = appendUint(b, 2, uint64(o.status))
	if o.err != nil {
		b, mark = openMessage(b, 3)
		b = appendUint(b, 1, uint64(fault.KindOf(o.err)))
		b = appendBytes(b, 2, []byte(clip(fault.Text(o.err), maxCause)))
		b = appendUint(b, 3, uint64(index+1))
		b = appendUint(b, 4, uint64(sideIn(o.err)))
		b = closeMessage(b, mark)
	}
	b = appendUint(b, 4, uint64(o.bytes))
	b = appendUint(b, 5, uint64(o.road))
	if v := o.verdict; v != nil { // its error is that of the outcome
		b, mark = openMessage(b, 6)
		b = appendUint(b, 1, uint64(v.Bytes))
		b = appendUint(b, 2, uint64(v.Durable))
		b = appendBool(b, 3, v.QuotaExceeded)
		b = appendSum(b, 4, v.Hash)
		b = closeMessage(b, mark)
	}
	return b
}

func appendSum(b []byte, num protowire.Number, s sideeffect.Sum) []byte {
	if s.IsZero() {
		return b
	}
	b, mark := openMessage(b, num)
	b = appendUint(b, 1, uint64(s.Algorithm))
	b = appendBytes(b, 2, s.Bytes)
	return closeMessage(b, mark)
}

// parseAnswer reads the outcomes of a call that asked for n effects.
func parseAnswer(b []byte, n int) ([]outcome, error) {
	const op = "parse answer"
	if len(b) > maxAnswer {
		return nil, fault.New(op, fault.TooLong, "%d bytes, the limit is %d", len(b), maxAnswer)
	}
	outs := make([]outcome, 0, min(n, MaxEffects))
	f := fields{rest: b}
	for f.next() {
		if f.num == 1 && len(outs) < n {
			outs = append(outs, f.outcome(len(outs)))
		} else if f.num == 1 {
			return nil, fault.New(op, fault.Protocol, "more than %d outcomes for %d effects", n, n)
		}
	}
	if f.err != nil {
		return nil, fault.New(op, fault.Protocol, "outcome %d: %w", len(outs), f.err)
	}
	if len(outs) != n {
		return nil, fault.New(op, fault.Protocol, "%d outcomes for %d effects", len(outs), n)
	}
	return outs, nil
}

// outcome reads the message in the present field, which has to be that of an effect.
func (f *fields) outcome(effect int) (o outcome) {
	in, index := fields{rest: f.bytes()}, 0
	var failed *fault.Error
	for in.next() {
		switch in.num {
		case 1:
			index = in.small(MaxEffects)
		case 2:
			o.status = sideeffect.Status(in.small(uint64(sideeffect.Failure) + 1))
		case 3:
			failed = in.fault("side effect")
		case 4:
			o.bytes = in.size()
		case 5:
			o.road = sideeffect.Road(in.small(uint64(sideeffect.RoadStream) + 1))
		case 6:
			o.verdict = in.verdict()
		}
	}
	if failed != nil {
		o.err = failed
		if o.verdict != nil {
			o.verdict.Err = failed
		}
	}
	if index != effect {
		in.fail("its index is %d", index)
	}
	f.adopt(in)
	return o
}

// fault reads the message in the present field.
func (f *fields) fault(op string) *fault.Error {
	p, in := new(rpcpb.Fault), fields{rest: f.bytes()}
	for in.next() {
		switch in.num {
		case 1:
			p.Kind = uint32(in.small(1 << 32))
		case 2:
			p.Text = in.text(maxAnswer)
		case 4:
			p.Side = uint32(in.small(1 << 32))
		}
	}
	f.adopt(in)
	return faultFrom(op, p)
}

// verdict reads the message in the present field, without its error.
func (f *fields) verdict() *sideeffect.Verdict {
	v, in := new(sideeffect.Verdict), fields{rest: f.bytes()}
	for in.next() {
		switch in.num {
		case 1:
			v.Bytes = in.size()
		case 2:
			v.Durable = in.size()
		case 3:
			v.QuotaExceeded = in.bool()
		case 4:
			v.Hash = in.sum()
		}
	}
	f.adopt(in)
	return v
}

// sum reads the message in the present field.
func (f *fields) sum() (s sideeffect.Sum) {
	in := fields{rest: f.bytes()}
	for in.next() {
		switch in.num {
		case 1:
			s.Algorithm = sideeffect.Algorithm(in.small(uint64(sideeffect.BLAKE3) + 1))
		case 2:
			s.Bytes = bytes.Clone(in.bytes())
		}
	}
	if s.IsZero() || len(s.Bytes) != s.Algorithm.Size() {
		in.fail("a digest of algorithm %d with %d bytes", s.Algorithm, len(s.Bytes))
	}
	f.adopt(in)
	return s
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
