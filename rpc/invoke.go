package rpc

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// Invoke makes a unary call; generated stubs call it. A call without With is
// gRPC's own. With side effects it returns when the call and every half on this
// side are over: then their Results are set, and nothing of the call runs on.
//
// The error is the handler's status if that is not OK; otherwise the first side
// effect that failed and is not Optional. In the latter status.FromError finds a
// status and errors.As a *fault.Error; likewise in the former if the handler
// returned a *fault.Error, the caller gave up (Canceled, Deadline) or the connection was lost (Lost).
//
// A Reader, Writer or callback of a descriptor that panics fails its side effect, and Invoke panics with
// that when the call is over: with a *sideeffect.Panic, unless it ran on the goroutine of Invoke itself.
func (cc *ClientConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	effects, opts := split(opts)
	if len(effects) == 0 {
		return fromCall(method, cc.grpc.Invoke(ctx, method, args, reply, opts...))
	}
	p, err := cc.prepare(ctx, effects, opts, args, reply)
	if err != nil {
		return asCall(err, -1)
	}
	defer cc.calls.unuse(effects)
	if p.call == nil {
		return fromCall(method, cc.grpc.Invoke(ctx, method, args, reply, opts...))
	}
	defer func() { cc.calls.remove(p.call) }() // under the id it has then
	defer p.codec.free()
	var trailer metadata.MD
	var over peer.Peer
	opts = append(opts, grpc.Trailer(&trailer), grpc.Peer(&over))
	if p.codec != nil {
		opts = append(opts, grpc.ForceCodecV2(p.codec))
	}
	for pause := firstAgain; ; pause *= 2 {
		over = peer.Peer{}
		err = cc.grpc.Invoke(p.ctx, method, args, reply, opts...)
		if err == nil || pause > mostAgain || !p.strayed(&over, trailer, err) || !cc.again(ctx, &p, pause) {
			defer p.call.raise()
			return p.call.conclude(method, trailer, p.codec, err)
		}
	}
}

// prepared is a call that is ready to go. Its call is nil when the server does
// not understand side effects and all of them are optional.
type prepared struct {
	call  *call
	ask   *ask
	ctx   context.Context // with the ask
	codec *inlineCodec    // nil: nothing may ride inside the messages
}

// prepare does everything that can fail before the call is made. args and
// reply are nil for streaming calls. Without an error the descriptors are in use.
func (cc *ClientConn) prepare(ctx context.Context, effects []*sideeffect.Descriptor, opts []grpc.CallOption, args, reply any) (prepared, error) {
	if err := checkEffects(cc.kinds, effects); err != nil {
		return prepared{}, err
	}
	if err := cc.calls.use(effects); err != nil {
		return prepared{}, err
	}
	kept := false
	c := newCall(ctx, effects)
	defer func() {
		if !kept { // also when a reader of the caller's panics
			c.close()
			cc.calls.unuse(effects)
		}
	}()
	opts = slices.Concat(cc.options, opts)
	p, err := cc.equip(ctx, c, opts, args, reply)
	if err == nil && p.call != nil {
		if err = cc.calls.add(c); err == nil {
			kept = true
			return p, nil
		}
	}
	if err != nil {
		c.life.stop(err)
	}
	c.close()
	for _, e := range c.effects {
		if e.state == done {
			e.ended.fill(e.d)
			continue
		}
		e.d.Result = sideeffect.Result{Err: err}
	}
	kept = err == nil
	return prepared{}, err
}

func (cc *ClientConn) equip(ctx context.Context, c *call, opts []grpc.CallOption, args, reply any) (prepared, error) {
	stream, mandatory, err := c.wishes()
	if err != nil {
		return prepared{}, err
	}
	if err := c.openSources(); err != nil {
		return prepared{}, err
	}
	if c.way, err = cc.find(ctx, stream, waits(opts)); err != nil {
		return prepared{}, err
	}
	if c.way.session == nil {
		if mandatory {
			return prepared{}, fault.New("attach side effects", fault.Unsupported, "the server does not understand side effects and would run the call without them").
				Advise("serve it with rpc.NewServer, or set Optional")
		}
		return prepared{}, nil
	}
	load := &loading{call: c, memory: cc.memory, unary: args != nil, coded: hasCodec(opts), args: args, reply: reply}
	a, codec, err := load.run()
	if err != nil {
		return prepared{}, err
	}
	p := prepared{call: c, ask: a, codec: codec}
	if err := p.bring(ctx); err != nil {
		return prepared{}, err
	}
	return p, nil
}

// bring makes the context of the gRPC call: the caller's, with the ask.
func (p *prepared) bring(ctx context.Context) error {
	b, err := p.ask.encode()
	if err == nil {
		p.ctx = metadata.AppendToOutgoingContext(ctx, MetadataKey, string(b))
	}
	return err
}

// wishes sums up what the descriptors insist on.
func (c *call) wishes() (stream, mandatory bool, err error) {
	session := false
	for _, e := range c.effects {
		stream = stream || e.d.Road == sideeffect.RoadStream
		session = session || e.d.Road == sideeffect.RoadSession
		mandatory = mandatory || !e.d.Optional
	}
	if stream && session {
		err = fault.New("attach side effects", fault.Invalid, "one call takes RoadSession or RoadStream, not both").Advise("set the same Road on all")
	}
	return stream, mandatory, err
}

// conclude ends a call whose gRPC part is over: it gives the server's answer to
// the halves, waits for them, fills the descriptors and finds the error.
func (c *call) conclude(method string, trailer metadata.MD, codec *inlineCodec, callErr error) error {
	defer c.close() // whatever a writer of the caller's does to this goroutine
	outs, answerErr := c.answer(method, trailer, callErr)
	if callErr != nil {
		codec = nil // a reply that is an error carries nothing
	}
	for i, e := range c.effects {
		var out *outcome
		if outs != nil {
			out = &outs[i]
		}
		load, has := codec.replied(i)
		c.deliver(e, out, answerErr, load, has)
	}
	c.close()
	var first error
	for i, e := range c.effects {
		var out *outcome
		if outs != nil {
			out = &outs[i]
		}
		err := e.report(out, answerErr)
		if err != nil && first == nil && !e.d.Optional {
			first = asCall(fault.Wrap("side effect", e.d.Local.String(), err), i)
		}
	}
	if callErr != nil {
		return c.own(fromCall(method, callErr))
	}
	return first
}

// forgotten adds to a quota that was exceeded that this end's is the zero value, where it is the sink:
// who says that it was exceeded is the source at the other end.
func forgotten(d *sideeffect.Descriptor, err error) {
	var f *fault.Error
	if d.Direction == sideeffect.ServerToClient && d.Quota == 0 && errors.As(err, &f) && f.Kind == fault.QuotaExceeded && f.Advice == "" {
		f.Advice = "the Quota of the descriptor here is 0, its zero value, which allows no bytes: set it to a number, or to NoQuota"
	}
}

// own is the error of a call that failed. When the server says that it was this
// end that failed, errors.As finds this end's own error, which says more.
func (c *call) own(err error) error {
	for _, e := range c.effects {
		forgotten(e.d, err)
	}
	var told *callError
	if !errors.As(err, &told) || !blames(told, fault.Here) {
		return err
	}
	for _, e := range c.effects {
		if f := e.d.Err; blames(f, fault.Here) && fault.KindOf(f) == fault.KindOf(told) {
			return &callError{err: fault.Wrap("side effect", e.d.Local.String(), f), st: told.st}
		}
	}
	return err
}

// answer reads the trailer. Without one, err says what to conclude.
func (c *call) answer(method string, trailer metadata.MD, callErr error) ([]outcome, error) {
	if v := trailer.Get(MetadataKey); len(v) == 1 {
		outs, err := parseAnswer([]byte(v[0]), len(c.effects))
		if err == nil {
			return outs, nil
		}
		return nil, err
	}
	if callErr != nil {
		return nil, asFault("call", fromCall(method, callErr))
	}
	return nil, &fault.Error{Op: "call", Kind: fault.Unsupported, Side: fault.Inferred,
		Err: errors.New("the server answered without a word about the side effect; it may have run the call without it")}
}

// deliver tells one effect what the server said about it.
func (c *call) deliver(e *clientEffect, out *outcome, answerErr error, load cargo, has bool) {
	switch {
	case e.inline != nil:
		e.judge(verdictOf(out, answerErr))
	case has && out != nil && e.d.Direction == sideeffect.ServerToClient:
		c.unpack(e, load)
	default:
		c.stop(e, out, answerErr)
	}
}

// stop cancels a half that is still at work though the server's is not.
func (c *call) stop(e *clientEffect, out *outcome, answerErr error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.state != running {
		return
	}
	switch {
	case out == nil:
		e.cancel(answerErr)
	case out.err != nil:
		e.cancel(out.err)
	case out.status == sideeffect.NotStarted:
		e.cancel(notStarted())
	}
}

func notStarted() error {
	return fault.FromPeer("run side effect", fault.NotStarted, "the server's handler returned without running it").
		Advise("call rpc.SideEffect and Run there, or set Optional here")
}

// verdictOf is what the sink at the server made of inline content.
func verdictOf(out *outcome, answerErr error) (sideeffect.Verdict, error) {
	switch {
	case out == nil:
		return sideeffect.Verdict{}, answerErr
	case out.err != nil:
		return sideeffect.Verdict{}, out.err
	case out.verdict == nil || out.status != sideeffect.Success:
		return sideeffect.Verdict{}, notStarted()
	}
	return *out.verdict, nil
}

// unpack writes content that came inside the reply.
func (c *call) unpack(e *clientEffect, load cargo) {
	c.mu.Lock()
	if e.state != idle {
		c.mu.Unlock()
		return
	}
	e.state = running
	c.mu.Unlock()
	c.half(e, func() ended { return storeInline(&c.life, e.d, load) })
}

// report writes the outputs of a descriptor; nothing of the effect runs any
// more. The error is why it failed.
func (e *clientEffect) report(out *outcome, answerErr error) error {
	end := e.ended
	if e.state == idle || e.inline != nil && out != nil && out.status == sideeffect.NotStarted {
		end = e.unstarted(out, answerErr)
	} else if out != nil && out.err != nil && end.err == nil {
		end.err, end.remote = out.err, sideeffect.Failure
	}
	if end.err == nil && end.local == sideeffect.NotStarted && !e.d.Optional {
		end.err = notStarted()
	}
	forgotten(e.d, end.err)
	end.fill(e.d)
	return end.err
}

// unstarted is the end of an effect whose half here never ran.
func (e *clientEffect) unstarted(out *outcome, answerErr error) ended {
	switch {
	case out == nil && e.d.Optional:
		return ended{}
	case out == nil:
		return ended{err: answerErr}
	case out.status == sideeffect.Failure:
		return ended{err: out.err, remote: sideeffect.Failure, road: out.road}
	case out.status != sideeffect.NotStarted:
		return ended{local: sideeffect.Failure, remote: out.status, road: out.road,
			err: fault.New("receive", fault.Corrupt, "the server says that it sent the content; it did not come")}
	}
	return ended{}
}
