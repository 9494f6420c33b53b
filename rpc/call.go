package rpc

import (
	"context"
	"sync"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// call is one call of the client while it runs.
type call struct {
	id      callID
	way     way
	life    lazy // of the halves; ends with the call
	effects []*clientEffect

	mu       sync.Mutex
	closed   bool
	panicked *sideeffect.Panic // the first of a half; raise takes it
	wg       sync.WaitGroup    // the halves' goroutines
}

// effectState is where a client's effect is.
//
//	idle --OPEN--> running --over--> done
//	idle --inline request or reply--> running
//	done (refused resume point) --OPEN with fresh, once--> running
type effectState uint8

const (
	idle    effectState = iota // nobody has asked for it
	running                    // a half is at work
	done                       // ended is set
)

// clientEffect is one side effect of a call at the client.
type clientEffect struct {
	d        *sideeffect.Descriptor
	index    int
	source   sideeffect.Source   // opened before the call; client to server only
	inline   *packer             // set when the content rides in the request
	unjudged sideeffect.Unjudged // of inline, when it is running

	// Guarded by call.mu.
	state   effectState
	resumed bool                    // accepted behind the first byte
	fresh   bool                    // and the server has started over
	turn    chan struct{}           // closed when the half at work is over
	cancel  context.CancelCauseFunc // of the half at work
	ended   ended
}

func newCall(ctx context.Context, effects []*sideeffect.Descriptor) *call {
	c := &call{id: newCallID(), life: lazy{parent: ctx}, effects: make([]*clientEffect, 0, len(effects))}
	for i, d := range effects {
		d.Result = sideeffect.Result{}
		c.effects = append(c.effects, &clientEffect{d: d, index: i})
	}
	return c
}

// openSources opens what the client will send, so that a file that is not
// there fails the call before it is made, and sizes are known.
func (c *call) openSources() error {
	for _, e := range c.effects {
		if e.d.Direction != sideeffect.ClientToServer || isPipe(e.d.Kind) {
			continue
		}
		src, err := openSource(&c.life, e.d)
		if err != nil {
			err = fault.Wrap("open side effect", e.d.Local.String(), err)
			e.state, e.ended = done, ended{err: err}
			return err
		}
		e.source = src
	}
	return nil
}

func isPipe(kind string) bool { return kind == sideeffect.KindPipe }

// begin starts the half that the server asks for. The stream is accepted or
// refused by that half's goroutine; an error here means: refuse it.
func (c *call) begin(in *flow.Incoming, o opening) error {
	const op = "start side effect"
	if o.index >= len(c.effects) {
		return fault.New(op, fault.Invalid, "index %d; the call has %d side effects", o.index, len(c.effects))
	}
	e := c.effects[o.index]
	if err := e.fits(in, o); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := e.turn
	switch {
	case c.closed:
		return fault.New(op, fault.Stale, "the call is over")
	case e.state == idle:
	case o.fresh && e.resumed && !e.fresh:
		e.fresh = true
	default:
		return fault.New(op, fault.Stale, "side effect %d was started before", o.index)
	}
	ctx, cancel := context.WithCancelCause(&c.life)
	over := make(chan struct{})
	e.state, e.turn, e.cancel = running, over, cancel
	c.wg.Go(func() {
		defer close(over)
		defer cancel(nil)
		if before != nil {
			<-before // the first attempt, which the server has given up
		}
		c.half(e, func() (end ended) {
			defer func() {
				if end.local == sideeffect.NotStarted && end.err == nil {
					in.Refuse(errPanicked()) // does nothing if it was accepted
				}
			}()
			return c.run(ctx, e, in, o)
		})
	})
	return nil
}

// half runs a half to its end, also when that is a panic of the caller's own reader, writer or callback:
// raise has it when the call is over.
func (c *call) half(e *clientEffect, run func() ended) {
	end := endedByPanic()
	defer func() {
		p := sideeffect.PanicOf(recover())
		c.mu.Lock()
		defer c.mu.Unlock()
		e.ended, e.state = end, done
		if c.panicked == nil {
			c.panicked = p
		}
	}()
	end = run()
}

// raise panics, once, if a half has. It is for the goroutine of the call's caller, when the call is over.
func (c *call) raise() {
	c.mu.Lock()
	p := c.panicked
	c.panicked = nil
	c.mu.Unlock()
	if p != nil {
		panic(p)
	}
}

// fits checks that the server's half is the other half of what was offered.
func (e *clientEffect) fits(in *flow.Incoming, o opening) error {
	const op = "start side effect"
	upload := e.d.Direction == sideeffect.ClientToServer
	switch {
	case e.inline != nil:
		return fault.New(op, fault.Stale, "side effect %d went inside the request", o.index)
	case in.Blocks == isPipe(e.d.Kind):
		return fault.New(op, fault.Invalid, "side effect %d is of kind %q, the stream of another", o.index, e.d.Kind)
	case !in.Blocks:
		return nil
	case upload && (in.Send || o.sink == nil), !upload && (!in.Send || o.source == nil):
		return fault.New(op, fault.Invalid, "side effect %d goes from %v", o.index, e.d.Direction)
	}
	return nil
}

func (c *call) run(ctx context.Context, e *clientEffect, in *flow.Incoming, o opening) ended {
	switch {
	case !in.Blocks:
		return c.pipe(ctx, e, in)
	case in.Send:
		return c.download(ctx, e, in, o)
	}
	return c.upload(ctx, e, in, o)
}

// refuse ends a stream that was not accepted.
func (c *call) refuse(in *flow.Incoming, err error) ended {
	in.Refuse(err)
	e := ended{err: err, road: c.road()}
	e.settle(false)
	return e
}

func (c *call) road() sideeffect.Road {
	if c.way.carried {
		return sideeffect.RoadStream
	}
	return sideeffect.RoadSession
}

// upload is the client's half as source.
func (c *call) upload(ctx context.Context, e *clientEffect, in *flow.Incoming, o opening) ended {
	hash, err := commonHash(e.d.Hash, o.sink.hash)
	if err != nil {
		return c.refuse(in, err)
	}
	plan := e.d.SendPlan(o.sink.limit, o.sink.policy)
	if err := plan.Check(e.source.Size()); err != nil {
		return c.refuse(in, err)
	}
	plan.Hash = hash
	half := &sourceHalf{size: announced(e.d, e.source), version: e.source.Version(), hash: hash}
	accept := flow.AcceptBlocks{Compress: compressionOf(e.d.Compress, o.sink.compress), BlockSize: e.d.Params.BlockSize, MaxBlock: maxBlock(e.d)}
	prefix, same, err := holds(ctx, e.source, half.size, o.sink.resume, hash)
	if err != nil {
		return c.refuse(in, err)
	}
	if same {
		plan.Start, plan.Prefix, half.start = o.sink.resume.Offset, prefix, o.sink.resume.Offset
		accept.Start, accept.Root, accept.BlockSize = half.start, flow.Root(o.sink.resume.Root), o.sink.resume.BlockSize
	}
	if accept.Meta, err = (accepting{source: half}).encode(); err != nil {
		return c.refuse(in, err)
	}
	c.note(e, same)
	bs, err := in.AcceptBlocks(accept)
	if err != nil {
		return c.refuse(in, err)
	}
	return send(ctx, bs, e.source, plan, c.road())
}

// announced is how many bytes a source will send at most; -1 unknown. A source
// that cuts itself short must not frighten a sink whose quota that is within.
func announced(d *sideeffect.Descriptor, src sideeffect.Source) int64 {
	size := src.Size()
	if d.Quota >= 0 && d.OverQuota == sideeffect.Cut {
		return min(size, d.Quota)
	}
	return size
}

// download is the client's half as sink. The server has opened its source, so
// the sink may be opened now; it is before the stream is accepted, so that a
// sink that cannot be opened is a refusal.
func (c *call) download(ctx context.Context, e *clientEffect, in *flow.Incoming, o opening) ended {
	d := *e.d // with the common digest
	var err error
	if d.Hash, err = commonHash(e.d.Hash, o.source.hash); err != nil {
		return c.refuse(in, err)
	}
	var from sideeffect.ResumePoint
	if !o.fresh {
		if from, err = offered(ctx, &d, o.source.version, o.source.size); err != nil {
			return c.refuse(in, err)
		}
		if from.BlockSize > in.BlockSize { // blocks from there would not end where blocks end
			from = sideeffect.ResumePoint{}
		}
	}
	sink, from, err := openSink(&d, o.source.size, from)
	if err != nil {
		return c.refuse(in, err)
	}
	defer sink.Close()
	half := &sinkHalf{limit: d.Quota, policy: d.OverQuota, hash: d.Hash, resume: from}
	meta, err := (accepting{sink: half}).encode()
	if err != nil {
		return c.refuse(in, err)
	}
	c.note(e, from.Offset > 0)
	accept := flow.AcceptBlocks{Meta: meta, Start: from.Offset, Root: flow.Root(from.Root), BlockSize: blockSize(&d, from), MaxBlock: maxBlock(&d), Window: d.Params.Window}
	switch most := o.source.block; {
	case most == 0 || from.Offset > 0:
	case accept.BlockSize > 0:
		accept.BlockSize = min(accept.BlockSize, most)
	case accept.MaxBlock == 0 || most < accept.MaxBlock:
		accept.MaxBlock = most
	}
	bs, err := in.AcceptBlocks(accept)
	if err != nil {
		_ = sink.Abort(d.Resume)
		return c.refuse(in, err)
	}
	return receive(ctx, bs, sink, d.ReceivePlan(o.source.size, o.source.version, bs.BlockSize()), c.road())
}

// note remembers that the server may start over, once.
func (c *call) note(e *clientEffect, resumed bool) {
	c.mu.Lock()
	e.resumed = resumed
	c.mu.Unlock()
}

// openSink opens a sink at the resume point, or from zero if what was kept is
// not there any more.
func openSink(d *sideeffect.Descriptor, size int64, from sideeffect.ResumePoint) (sideeffect.Sink, sideeffect.ResumePoint, error) {
	sink, err := d.OpenSink(size, from)
	if err != nil && from.Offset > 0 && fault.KindOf(err) == fault.Stale {
		from = sideeffect.ResumePoint{}
		sink, err = d.OpenSink(size, from)
	}
	return sink, from, err
}

func (c *call) pipe(ctx context.Context, e *clientEffect, in *flow.Incoming) ended {
	conn, err := in.AcceptBytes(nil)
	if err != nil {
		return c.refuse(in, err)
	}
	return exchange(ctx, conn, e.d, c.road())
}

// close waits for the halves and releases what the call holds; once more it does nothing. After it the
// server can start nothing more.
func (c *call) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wg.Wait()
	for _, e := range c.effects {
		if e.source != nil {
			e.source.Close()
			e.source = nil
		}
	}
	c.life.stop(nil)
	c.way.leave()
}
