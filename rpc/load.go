package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// loading decides for each effect of a call whether it rides inside the
// messages, packs those that ride in the request, and writes the ask.
type loading struct {
	call        *call
	memory      *carryPool
	unary       bool
	coded       bool // the caller has chosen a codec
	args, reply any
	room        int // content bytes that still fit into the request
}

func (l *loading) run() (*ask, *inlineCodec, error) {
	c := l.call
	a := &ask{call: c.id, carried: c.way.carried}
	a.session = c.way.session.ID()
	if a.carried {
		a.token = c.way.session.Token()
	}
	l.room = MaxInline
	inside := l.whyNot(l.args, InlineRequestField)
	outside := l.whyNot(l.reply, InlineReplyField)
	expects := false
	for _, e := range c.effects {
		o, err := l.offer(e, inside, outside)
		if err != nil {
			return nil, nil, err
		}
		expects = expects || o.inline
		a.effects = append(a.effects, o)
	}
	field, err := c.pack(l.memory)
	if err != nil || field == nil && !expects {
		return a, nil, err
	}
	return a, newInlineCodec(field, expects), nil
}

// whyNot is why the message cannot carry the field; nil: it can.
func (l *loading) whyNot(msg any, field protowire.Number) error {
	const op = "send inline"
	switch {
	case !l.unary:
		return fault.New(op, fault.Unsupported, "only unary calls carry contents inside their messages").Advise("set another Road")
	case l.coded:
		return fault.New(op, fault.Unsupported, "the call chooses its own codec").Advise("leave that out, or set another Road")
	case !hasRoom(messageOf(msg), field):
		return fault.New(op, fault.Unsupported, "a %T cannot carry field %d", msg, field).Advise("set another Road")
	}
	return nil
}

// offer is the ask's entry for one effect. It also marks effects that go
// inside the request.
func (l *loading) offer(e *clientEffect, inside, outside error) (offer, error) {
	d := e.d
	o := offer{
		direction: d.Direction, kind: d.Kind, road: d.Road, size: -1, limit: sideeffect.NoQuota,
		optional: d.Optional, hash: d.Hash, compress: d.Compress,
	}
	if d.Road == sideeffect.RoadSession && l.call.way.carried {
		return o, fault.New("attach side effects", fault.Unsupported, "the server is reached over HTTP/2, without a session").Advise("set Road to RoadAuto or RoadStream")
	}
	if isPipe(d.Kind) {
		return o, nil
	}
	may := d.Road == sideeffect.RoadAuto || d.Road == sideeffect.RoadInline
	if d.Direction == sideeffect.ServerToClient {
		o.limit, o.policy = d.Quota, d.OverQuota
		o.inline = may && outside == nil
		if d.Road == sideeffect.RoadInline && outside != nil {
			return o, outside
		}
		return o, nil
	}
	o.size = e.source.Size()
	if inside == nil && (o.size < 0 || o.size > int64(l.room)) {
		inside = fault.New("send inline", fault.Invalid, "the size is %d, and %d bytes are left in the message", o.size, l.room).Advise("set Road to RoadAuto")
	}
	if may && inside == nil {
		o.road = sideeffect.RoadInline
		e.inline = &packer{memory: l.memory, room: int(o.size) + 1} // one more, to see the end
		l.room -= int(o.size)
	} else if d.Road == sideeffect.RoadInline {
		return o, inside
	}
	return o, nil
}

// pack runs the sources of inline effects up to their end and returns the
// request's field; nil without such effects. The contents go as they were read,
// without another copy, and are gRPC's and the codec's from here on. Their verdicts come with the answer.
func (c *call) pack(memory *carryPool) (mem.BufferSlice, error) {
	var loads []cargo
	for _, e := range c.effects {
		if e.inline == nil {
			continue
		}
		if err := e.sendInline(&c.life); err != nil {
			return nil, fault.Wrap("side effect", "", err)
		}
		loads = append(loads, cargo{
			index: e.index, data: e.inline.data, end: e.inline.end, root: rootOf(e.inline.data),
			source: sourceHalf{size: e.source.Size(), version: e.source.Version(), hash: e.d.Hash},
		})
	}
	if len(loads) == 0 {
		return nil, nil
	}
	before, err := heads(InlineRequestField, loads)
	if err != nil {
		return nil, err
	}
	field := make(mem.BufferSlice, 0, 2*len(loads))
	for i := range loads {
		field = append(field, mem.SliceBuffer(before[i]))
		if len(loads[i].data) > 0 {
			field = append(field, mem.NewBuffer(&loads[i].data, memory))
		}
	}
	return field, nil
}

// sendInline is the client's half as source of inline content, up to its end.
// An error ends the half. No stream can start it any more, so that nobody else
// touches its state.
func (e *clientEffect) sendInline(ctx context.Context) (err error) {
	e.state, e.ended = running, ended{road: sideeffect.RoadInline, began: time.Now()}
	plan := e.d.SendPlan(sideeffect.NoQuota, sideeffect.Fail)
	e.unjudged, e.ended.outcome, err = sideeffect.SendUntilEnd(ctx, e.inline, e.source, plan)
	e.ended.wire = int64(len(e.inline.data))
	if err != nil {
		e.over(err, false)
	}
	return err
}

// judge ends a half that went inline with what the server made of it.
func (e *clientEffect) judge(v sideeffect.Verdict, err error) {
	if e.state != running {
		return
	}
	e.ended.outcome, err = e.unjudged.Judge(v, err)
	e.over(err, true)
}

func (e *clientEffect) over(err error, sent bool) {
	e.ended.err = err
	e.ended.settle(sent)
	e.state = done
}
