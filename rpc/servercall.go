package rpc

import (
	"context"
	"errors"
	"slices"
	"sync"

	"google.golang.org/grpc/metadata"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// serverCall is one call with side effects while its handler runs.
type serverCall struct {
	server  *Server
	ask     *ask
	session *flow.Session // nil: only the inline road
	unary   bool
	effects []*Effect
	caller  caller // whose memory has the call id

	handler context.Context // as the handler got it
	request []byte          // inline contents, of server.memory until conclude

	mu   sync.Mutex
	over bool // the handler has returned
	room int  // content bytes that still fit into the reply
}

type callKey struct{}

func newServerCall(ctx context.Context, s *Server, a *ask, session *flow.Session, unary bool) *serverCall {
	c := &serverCall{server: s, ask: a, session: session, unary: unary, room: MaxInline, handler: ctx}
	c.effects = make([]*Effect, 0, len(a.effects))
	for i, o := range a.effects {
		c.effects = append(c.effects, newEffect(c, i, o))
	}
	return c
}

// explain is err, concluded when a half ended because gRPC cancelled the call: the
// client has given up or its connection is gone, which gRPC does not tell apart.
func (c *serverCall) explain(err error) error {
	if err == nil {
		return nil
	}
	var f *fault.Error
	if !errors.As(err, &f) || f.Side != fault.Here || c.handler.Err() != context.Canceled || !errors.Is(err, context.Canceled) {
		return err
	}
	return &fault.Error{Op: f.Op, Kind: f.Kind, Side: fault.Inferred, Subject: f.Subject, Err: f.Err}
}

func (c *serverCall) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

func (c *serverCall) road() sideeffect.Road {
	if c.ask.carried {
		return sideeffect.RoadStream
	}
	return sideeffect.RoadSession
}

// open decodes a request and keeps the inline contents in it, so that nobody
// else sees them.
func (c *serverCall) open(decode func(any) error, m any) error {
	inner := messageOf(m)
	if inner == nil || reserved(inner, InlineRequestField) || !slices.ContainsFunc(c.effects, (*Effect).inlined) {
		return decode(m) // a field of that number is the caller's own
	}
	o := &opened{Message: inner, memory: c.server.memory}
	err := decode(o)
	c.request = o.payload
	switch {
	case err != nil:
		return err
	case o.err != nil:
		return asCall(o.err, -1)
	case o.payload == nil:
		return nil
	}
	loads, err := parseCargo(o.payload)
	if err != nil {
		return asCall(err, -1)
	}
	for i := range loads {
		load := &loads[i]
		if load.index >= len(c.effects) || !c.effects[load.index].inlined() {
			return asCall(fault.New("read inline", fault.Protocol, "the request carries side effect %d, which was not asked to be inside", load.index), -1)
		}
		c.effects[load.index].load = load
	}
	return nil
}

// conclude ends the call's effects after its handler has returned, and makes
// the answer. Contents for the client go around the reply.
func (c *serverCall) conclude(reply any, err error) (any, metadata.MD) {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	var loads []cargo
	for _, e := range c.effects {
		e.life.detach()
		e.close()
		if e.packed != nil {
			loads = append(loads, *e.packed)
		}
	}
	c.server.memory.put(c.request) // the halves are over
	c.raise()
	if len(loads) > 0 {
		reply, err = c.pack(reply, loads, err)
	}
	outs := make([]outcome, len(c.effects))
	for i, e := range c.effects {
		outs[i] = e.outcome(err)
	}
	b, encErr := encodeAnswer(outs)
	if encErr != nil {
		return reply, nil // the client concludes that something is wrong
	}
	return reply, metadata.Pairs(MetadataKey, string(b))
}

// raise panics if an effect has whose end the handler has not awaited.
func (c *serverCall) raise() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.effects {
		e.raise()
	}
}

// pack puts contents around the reply. The error is why they could not
// go; the call's own result does not change.
func (c *serverCall) pack(reply any, loads []cargo, callErr error) (any, error) {
	if callErr != nil {
		return reply, fault.New("send inline", fault.Canceled, "the call failed, and its reply carries nothing")
	}
	m := messageOf(reply)
	if !hasRoom(m, InlineReplyField) {
		return reply, fault.New("send inline", fault.Unsupported, "the reply's message type cannot carry field %d", InlineReplyField)
	}
	packed, err := seal(m, loads, c.server.memory)
	if err != nil {
		return reply, err
	}
	return packed, nil
}

// abandon ends what conclude has not: the handler panicked.
func (c *serverCall) abandon() {
	c.mu.Lock()
	over := c.over
	c.over = true
	c.mu.Unlock()
	if !over {
		for _, e := range c.effects {
			e.life.detach()
			e.life.stop(fault.New("call", fault.Internal, "the handler panicked"))
			e.close()
		}
	}
}
