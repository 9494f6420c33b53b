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
	codec := false
	for _, e := range c.effects {
		o, err := l.offer(e, inside, outside)
		if err != nil {
			return nil, nil, err
		}
		codec = codec || o.inline || e.inline != nil
		a.effects = append(a.effects, o)
	}
	if !codec {
		return a, nil, nil
	}
	field, err := c.pack(l.memory)
	return a, newInlineCodec(field), err
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
		if outside == nil && d.Resume {
			outside = fault.New("receive inline", fault.Invalid, "contents in messages cannot be resumed").Advise("set Resume to false, or another Road")
		}
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
		e.inline = newPacker(l.memory, int(o.size)+1) // one more, to see the end
		l.room -= int(o.size)
	} else if d.Road == sideeffect.RoadInline {
		return o, inside
	}
	return o, nil
}

// pack runs the sources of inline effects up to their end and returns the
// request's field. Each source's goroutine goes on to await its verdict.
func (c *call) pack(memory *carryPool) (mem.Buffer, error) {
	ready := make(chan error, len(c.effects))
	n := 0
	for _, e := range c.effects {
		if e.inline == nil {
			continue
		}
		n++
		e.state = running
		c.wg.Go(func() {
			end := sendInline(c.ctx, e, func() { ready <- nil })
			c.mu.Lock()
			e.state, e.ended = done, end
			c.mu.Unlock()
			ready <- end.err
		})
	}
	if n == 0 {
		return nil, nil
	}
	for range n {
		if err := <-ready; err != nil {
			return nil, fault.Wrap("side effect", "", err)
		}
	}
	var loads []cargo
	for _, e := range c.effects {
		if p := e.inline; p != nil {
			loads = append(loads, cargo{
				index: e.index, data: p.data, end: p.end, root: rootOf(p.data),
				source: sourceHalf{size: e.source.Size(), version: e.source.Version(), hash: e.d.Hash},
			})
		}
	}
	room := memory.Get(cargoRoom)
	field, err := appendCargo((*room)[:0], InlineRequestField, loads)
	if err != nil {
		memory.Put(room)
		return nil, err
	}
	*room = field
	return mem.NewBuffer(room, memory), nil
}

// putMemory gives back what inline content was read into; its halves are over.
func (c *call) putMemory() {
	for _, e := range c.effects {
		if e.inline != nil {
			e.inline.putMemory()
		}
	}
}

// sendInline is the client's half as source of inline content. packed is called
// when the content is ready to go.
func sendInline(ctx context.Context, e *clientEffect, packed func()) ended {
	end := ended{road: sideeffect.RoadInline, began: time.Now()}
	sent := false
	plan := e.d.SendPlan(sideeffect.NoQuota, sideeffect.Fail)
	plan.Sent = func(sideeffect.Outcome) { sent = true; packed() }
	end.outcome, end.err = sideeffect.SendAll(ctx, e.inline, e.source, plan)
	end.wire = int64(len(e.inline.data))
	end.settle(sent)
	return end
}
