package rpctest

import (
	"slices"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// End is one of the two ends of a transfer.
type End uint8

const (
	SourceEnd End = iota
	SinkEnd
)

// A Reason is why a case fails, and the end that finds out.
type Reason struct {
	Kind fault.Kind
	End  End
}

// Left is what a failure leaves at the sink.
type Left uint8

const (
	Untouched Left = iota // exactly what was there
	Torn                  // the sink writes in place, and may have
)

// An Expectation is what has to come out of a case. Without Reasons it is a
// success, otherwise a failure for one of them: where there are several, roads may find
// them in different order.
type Expectation struct {
	Reasons []Reason
	Early   bool // the client finds out before it makes the call
	Left    Left

	Road     sideeffect.Road // that is taken
	Moved    int64           // bytes that the sink gets
	Exceeded bool            // there were more
	// Unheard: the source is the server's, and nobody tells it how the sink did
	// (inside a reply) or it does not wait for that.
	Unheard bool
}

// Expect is the oracle: what the documents promise for a case, by arithmetic
// alone. Quotas, offsets and modes mean the same on every road.
func Expect(c Case, http2 bool) Expectation {
	c = c.settled()
	n := max(0, int64(c.Size)-c.sourceOffset())
	x := Expectation{Road: c.taken(n, http2)}
	x.Unheard = !c.clientSends() && c.Await == sideeffect.AwaitLocal
	open := slices.Concat(c.sourceRefusals(), c.roadRefusals(n, http2), c.sinkRefusals())
	moved, over := c.quota(n, x.Road)
	x.Reasons = slices.Concat(open, over)
	x.Moved, x.Exceeded = moved, moved < n
	if c.Sink == ToSmall && moved > 0 {
		x.Reasons = append(x.Reasons, Reason{fault.NoSpace, SinkEnd})
	}
	x.Early = c.early(n, http2)
	if len(open) == 0 && c.writesInPlace() && !c.knownOver(n) {
		x.Left = Torn
	}
	return x
}

// sourceOffset is in bytes from the beginning of what the source reads.
func (c Case) sourceOffset() int64 {
	return [...]int64{0, int64(c.Size / 2), int64(c.Size), int64(c.Size) + 1}[c.SourceOffset]
}

// sinkOffset is in bytes from the beginning of what the sink holds.
func (c Case) sinkOffset() int64 {
	return [...]int64{0, 7, 0, int64(c.held()) + 10}[c.SinkOffset]
}

// held is how many bytes the sink holds before.
func (c Case) held() int { return [...]int{0, 100, c.Size + 1000}[c.Before] }

// of is a quota in bytes, for a source of n; negative: none.
func (q Quota) of(n int64) int64 { return [...]int64{sideeffect.NoQuota, n / 4, n / 2, n, n + 1}[q] }

// fits reports whether n bytes of this source may go inside a message.
func (c Case) fits(n int64) bool { return c.Source != FromStream && n <= rpc.MaxInline }

// taken is the road that the bytes take if they move at all.
func (c Case) taken(n int64, http2 bool) sideeffect.Road {
	switch {
	case c.Road != sideeffect.RoadAuto:
		return c.Road
	case c.fits(n) && (c.clientSends() || c.Await == sideeffect.AwaitLocal):
		return sideeffect.RoadInline
	case http2:
		return sideeffect.RoadStream
	}
	return sideeffect.RoadSession
}

// sourceRefusals: a reader begins where it stands, and nothing begins behind
// its end.
func (c Case) sourceRefusals() []Reason {
	reader := c.Source == FromReader || c.Source == FromStream
	if off := c.sourceOffset(); off > int64(c.Size) || off > 0 && reader {
		return []Reason{{fault.Invalid, SourceEnd}}
	}
	return nil
}

// roadRefusals: a road that is insisted on and does not lead there.
func (c Case) roadRefusals(n int64, http2 bool) []Reason {
	client := SinkEnd
	if c.clientSends() {
		client = SourceEnd
	}
	switch {
	case c.Road == sideeffect.RoadSession && http2:
		return []Reason{{fault.Unsupported, client}}
	case c.Road == sideeffect.RoadInline && !c.fits(n):
		return []Reason{{fault.Invalid, SourceEnd}} // it knows the size
	}
	return nil
}

// sinkRefusals: what cannot be opened for writing as the descriptor says.
func (c Case) sinkRefusals() (rs []Reason) {
	at := c.sinkOffset()
	nameless := c.Sink == ToFD || c.Sink == ToHandle
	switch {
	case at > 0 && c.Mode != sideeffect.AtOffset,
		at > 0 && c.Sink == ToWriter,
		nameless && (c.Mode == sideeffect.Replace || c.Mode == sideeffect.CreateNew),
		c.Sink == ToBuffer && at > int64(c.held()):
		rs = append(rs, Reason{fault.Invalid, SinkEnd})
	}
	if c.Mode == sideeffect.CreateNew && c.held() > 0 && (c.Sink == ToFile || c.Sink == ToBuffer) {
		rs = append(rs, Reason{fault.Exists, SinkEnd})
	}
	return rs
}

// quota is how many of n bytes move, and why not. A source that knows that it
// has more than its own quota fails whatever the sink would take; otherwise the
// smaller quota decides, of equal ones the stricter. Who finds out: the source, if it
// knows the sink's quota.
func (c Case) quota(n int64, road sideeffect.Road) (int64, []Reason) {
	mine, theirs := c.SourceQuota.of(n), c.SinkQuota.of(n)
	over := func(q int64) bool { return q >= 0 && n > q }
	told := SourceEnd
	if road == sideeffect.RoadInline && c.clientSends() {
		told = SinkEnd
	}
	switch {
	case c.knownOver(n), over(mine) && c.SourceOver == sideeffect.Fail && (!over(theirs) || mine <= theirs):
		return n, []Reason{{fault.QuotaExceeded, SourceEnd}}
	case over(theirs) && c.SinkOver == sideeffect.Fail && (!over(mine) || theirs <= mine):
		return n, []Reason{{fault.QuotaExceeded, told}}
	case over(mine) && over(theirs):
		return min(mine, theirs), nil
	case over(mine):
		return mine, nil
	case over(theirs):
		return theirs, nil
	}
	return n, nil
}

// knownOver: the source refuses on its own, before a sink is opened.
func (c Case) knownOver(n int64) bool {
	mine := c.SourceQuota.of(n)
	return c.Source != FromStream && c.SourceOver == sideeffect.Fail && mine >= 0 && n > mine
}

// writesInPlace: what was there is not kept aside until the end.
func (c Case) writesInPlace() bool {
	switch c.Sink {
	case ToExact, ToSmall, ToLarge, ToWriter:
		return true
	case ToBuffer:
		return false
	}
	return c.Mode == sideeffect.Truncate || c.Mode == sideeffect.AtOffset
}

// early: the client refuses what it can know to fail.
func (c Case) early(n int64, http2 bool) bool {
	if c.Road == sideeffect.RoadSession && http2 {
		return true
	}
	if !c.clientSends() {
		return false
	}
	return len(c.sourceRefusals()) > 0 || c.Road == sideeffect.RoadInline && !c.fits(n) || c.knownOver(n)
}

// State is what a sink holds.
type State struct {
	Exists  bool
	Content []byte
}

// After is what the sink of a successful case holds, by the mode: the payload
// is what has moved.
func After(c Case, before State, payload []byte) State {
	old, at := before.Content, int(c.sinkOffset())
	switch {
	case c.Sink == ToWriter:
		return State{true, slices.Concat(old, payload)}
	case c.Sink == ToExact || c.Sink == ToSmall || c.Sink == ToLarge:
		return State{true, overlay(old, payload, at)}
	}
	switch c.Mode {
	case sideeffect.Append:
		return State{true, slices.Concat(old, payload)}
	case sideeffect.AtOffset:
		return State{true, overlay(old, payload, at)}
	}
	return State{true, payload}
}

// overlay is old with payload written over it at a position; a gap is zeros. No
// payload makes no gap.
func overlay(old, payload []byte, at int) []byte {
	if len(payload) == 0 {
		return old
	}
	b := make([]byte, max(len(old), at+len(payload)))
	copy(b, old)
	copy(b[at:], payload)
	return b
}
