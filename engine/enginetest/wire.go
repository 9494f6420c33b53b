package enginetest

import (
	"context"
	"sync"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// Wire joins nodes by their names.
type Wire struct {
	// Fault, if not nil, is asked at each place of each call; an error breaks the
	// connection there. Set before the first call.
	Fault func(Place, Call) error
	// Block is the size of blocks, in bytes; default 64 KiB.
	Block int

	mu    sync.Mutex
	nodes map[string]*engine.Engine
	dials int
	calls []Call
}

// Place is where in a call something may happen.
type Place int

const (
	Dialling  Place = iota // Reach
	Asking                 // the call has not come to the other end
	Answering              // the other end has done its work, its answer is not here
	Block                  // a block is about to be handed over; Call.Offset says which
	Verdict                // the file has its name, and the sink is about to say so
)

// Call is one call that was made.
type Call struct {
	From, To string
	engine.Ask
	Offset int64
}

// Join makes e the node of that name; nil takes it away. What runs on the old
// one goes on there, and is not heard any more.
func (w *Wire) Join(name string, e *engine.Engine) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes == nil {
		w.nodes = map[string]*engine.Engine{}
	}
	w.nodes[name] = e
}

func (w *Wire) node(name string) *engine.Engine {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[name]
}

// Calls are those made until now.
func (w *Wire) Calls() []Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Call(nil), w.calls...)
}

// Dials is how often somebody was reached for.
func (w *Wire) Dials() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dials
}

// Line is the end of the wire at the node of that name.
func (w *Wire) Line(from string) engine.Line { return &end{w, from} }

type end struct {
	wire *Wire
	from string
}

func (n *end) fault(p Place, c Call) error {
	if n.wire.Fault == nil {
		return nil
	}
	return n.wire.Fault(p, c)
}

func lost(to string) error {
	return fault.Concluded("call", fault.Lost, "%s does not answer", to)
}

func (n *end) Reach(_ context.Context, partner string) (time.Duration, error) {
	n.wire.mu.Lock()
	n.wire.dials++
	n.wire.mu.Unlock()
	if err := n.fault(Dialling, Call{From: n.from, To: partner}); err != nil {
		return 0, err
	}
	if n.wire.node(partner) == nil {
		return 0, lost(partner)
	}
	return time.Millisecond, nil
}

func (n *end) Forget(string, ...string) {}

// Commission implements engine.Commissioner.
func (n *end) Commission(ctx context.Context, partner string, c engine.Commission) (engine.Commissioned, error) {
	to := n.wire.node(partner)
	if to == nil {
		return engine.Commissioned{}, lost(partner)
	}
	a, err := to.Commission(ctx, n.from, c)
	if n.wire.node(partner) != to { // it has gone meanwhile
		return engine.Commissioned{}, lost(partner)
	}
	return a, err
}

// Steps implements engine.Stepper.
func (n *end) Steps(ctx context.Context, partner string, key lifecycle.Key, role lifecycle.Role) (engine.Steps, error) {
	to := n.wire.node(partner)
	if to == nil {
		return engine.Steps{}, lost(partner)
	}
	x, err := to.Steps(ctx, n.from, key, role)
	return x, told(err)
}

func (n *end) Call(ctx context.Context, partner string, a engine.Ask, d *sideeffect.Descriptor) (engine.Answer, error) {
	c := Call{From: n.from, To: partner, Ask: a}
	n.wire.mu.Lock()
	n.wire.calls = append(n.wire.calls, c)
	n.wire.mu.Unlock()
	to := n.wire.node(partner)
	if to == nil {
		return engine.Answer{}, lost(partner)
	}
	if err := n.fault(Asking, c); err != nil {
		return engine.Answer{}, err
	}
	type result struct {
		answer engine.Answer
		err    error
	}
	answered := make(chan result, 1)
	serving, over := context.WithCancel(context.WithoutCancel(ctx))
	var x *effect
	var given engine.Effect
	if d != nil {
		x = &effect{end: n, call: c, client: d, ctx: ctx, finished: make(chan struct{})}
		given = x
	}
	go func() {
		defer over()
		answer, err := to.Serve(serving, n.from, a, given)
		answered <- result{answer, told(err)}
	}()
	var r result
	select {
	case r = <-answered:
	case <-ctx.Done():
		over()
		if x != nil {
			x.cut(context.Cause(ctx))
		}
		return engine.Answer{}, fault.Wrap("call", partner, context.Cause(ctx))
	}
	if n.wire.node(partner) != to {
		return engine.Answer{}, lost(partner)
	}
	if err := n.fault(Answering, c); err != nil {
		return engine.Answer{}, err
	}
	if r.err != nil {
		return engine.Answer{}, r.err
	}
	if x != nil {
		return r.answer, x.failed // nil, too, when the other end has not run it: the answer says why
	}
	return r.answer, nil
}

// told is an error as the caller learns it.
func told(err error) error {
	if err == nil {
		return nil
	}
	return fault.FromPeer("call", fault.KindOf(err), fault.Text(err))
}

// effect is the two halves of one transfer.
type effect struct {
	end      *end
	call     Call
	client   *sideeffect.Descriptor
	ctx      context.Context
	finished chan struct{}
	pipe     *pipe
	failed   error // of the caller's half; read when the call is over
	mu       sync.Mutex
	dead     error
}

// cut ends the effect from the caller's side and waits until its half is over.
func (x *effect) cut(err error) {
	x.mu.Lock()
	x.dead = err
	p := x.pipe
	x.mu.Unlock()
	if p != nil {
		p.fail(err)
		<-x.finished
	}
}

// Size implements engine.Effect.
func (x *effect) Size() int64 {
	if x.client.Direction == sideeffect.ServerToClient {
		return -1
	}
	src, err := x.client.OpenSource(context.Background())
	if err != nil {
		return -1
	}
	defer src.Close()
	return src.Size()
}

// Run implements engine.Effect: both halves run, the client's in a goroutine of its own.
func (x *effect) Run(ctx context.Context, d *sideeffect.Descriptor, _ sideeffect.Await) error {
	block := x.end.wire.Block
	if block == 0 {
		block = 64 << 10
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from, to := x.client, d
	if x.client.Direction == sideeffect.ServerToClient {
		from, to = d, x.client
	}
	x.mu.Lock()
	if x.dead != nil {
		x.mu.Unlock()
		return x.dead
	}
	x.pipe = newPipe(block, func(off int64) error {
		c := x.call
		c.Offset = off
		return x.end.fault(Block, c)
	})
	x.mu.Unlock()
	defer close(x.finished)
	if from.Hash == sideeffect.None {
		from.Hash = to.Hash
	} else {
		to.Hash = from.Hash
	}
	src, err := from.OpenSource(ctx)
	if err != nil {
		return x.both(from, to, err)
	}
	defer src.Close()
	point, err := to.ResumePoint(ctx)
	if err != nil {
		return x.both(from, to, err)
	}
	var prefix *sideeffect.Hasher
	if point.Offset > 0 {
		var same bool
		prefix, same, err = sideeffect.VerifyPrefix(ctx, src, point, from.Hash)
		if err != nil {
			return x.both(from, to, err)
		}
		if !same || point.BlockSize != block {
			point, prefix = sideeffect.ResumePoint{}, nil
		}
	}
	sink, err := to.OpenSink(src.Size(), point)
	if err != nil {
		return x.both(from, to, err)
	}
	defer sink.Close()
	x.pipe.start(point.Offset, point.Root)
	plan := from.SendPlan(to.Quota, to.OverQuota)
	plan.Start, plan.Prefix = point.Offset, prefix
	sent := make(chan error, 1)
	go func() {
		o, err := sideeffect.SendAll(ctx, x.pipe, src, plan)
		o.Fill(&from.Result, err)
		if err != nil {
			x.pipe.fail(told(err))
		}
		sent <- err
	}()
	o, err := sideeffect.ReceiveAll(ctx, intake{x.pipe}, sink, to.ReceivePlan(src.Size(), src.Version(), block))
	if err == nil {
		err = x.end.fault(Verdict, x.call)
	}
	o.Fill(&to.Result, err)
	if err != nil {
		x.pipe.fail(told(err))
	}
	x.pipe.judge(o.Verdict(err))
	sendErr := <-sent
	mine, theirs := err, sendErr
	if to == x.client {
		mine, theirs = sendErr, err
	}
	if mine == nil {
		mine = told(theirs)
	}
	if theirs == nil {
		theirs = told(mine)
	}
	err = x.both(from, to, mine)
	x.failed = theirs
	return err
}

// both notes the end at both halves.
func (x *effect) both(from, to *sideeffect.Descriptor, err error) error {
	status := sideeffect.Success
	if err != nil {
		status = sideeffect.Failure
	}
	for _, d := range []*sideeffect.Descriptor{from, to} {
		d.LocalStatus, d.RemoteStatus = status, status
	}
	x.failed = told(err)
	return err
}

// String is the call's move and the requester's side.
func (c Call) String() string { return c.Move.String() + " " + c.Side.String() }

var _ engine.Effect = (*effect)(nil)
