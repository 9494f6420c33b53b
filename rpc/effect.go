package rpc

import (
	"context"
	"time"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// SideEffect is the first side effect that the client has offered with the
// call; ctx is the handler's. Without one the error has kind fault.NotFound.
func SideEffect(ctx context.Context) (*Effect, error) {
	if all := SideEffects(ctx); len(all) > 0 {
		return all[0], nil
	}
	return nil, fault.New("find side effect", fault.NotFound, "the client has offered no side effect with this call: it does with rpc.With").
		Advise("if the client has, register the service on the rpc.Server itself, not on the grpc.Server inside it")
}

// SideEffects are all side effects that the client has offered with the call,
// in its order; none is no error.
func SideEffects(ctx context.Context) []*Effect {
	c, ok := ctx.Value(callKey{}).(*serverCall)
	if !ok {
		return nil
	}
	return append([]*Effect(nil), c.effects...)
}

// phase is where an effect is at the server.
//
//	offered --Init--> open --Start--> moving --all sent--> sent --verdict--> over
//	                    |               |                    '--linger-----> over
//	                    |               '--stored, failed, cancelled-------> over
//	                    '--handler returned--> over
type phase uint8

const (
	waiting phase = iota // the handler has not asked for it
	claimed              // Init is at work
	open                 // both ends are ready
	moving               // bytes move
	sent                 // this half, a source, is complete; the sink's verdict is awaited
	over                 // ended is set
)

// An Effect is one side effect that a client has offered, in the hands of the
// handler. Like in Coda's RPC2 the handler opens it with Init and moves it with
// Check; Run does both. Its methods are for one goroutine.
type Effect struct {
	call  *serverCall
	index int
	offer offer
	load  *cargo // inside the request

	d      *sideeffect.Descriptor // the handler's, from Init on
	life   lazy                   // of this half: may outlive the handler, ends when the client cancels
	job    job
	packed *cargo // for the reply

	// Guarded by call.mu.
	phase    phase
	sent     chan struct{}      // closed when phase is sent or over; nil: nobody waits
	done     chan struct{}      // closed when phase is over; nil: nobody waits
	sending  sideeffect.Outcome // when phase is sent
	ended    ended
	panicked *sideeffect.Panic // why it has ended; nil: otherwise
}

// job is a half that is open: run moves the bytes, drop gives up before that.
type job struct {
	run  func(ctx context.Context, sent func(sideeffect.Outcome)) ended
	drop func(error)
	// lasting: it goes on, awaiting the peer's verdict, after it has told sent.
	lasting bool
}

func newEffect(c *serverCall, index int, o offer) *Effect {
	return &Effect{call: c, index: index, offer: o, life: lazy{parent: c.handler, outlives: o.lasts()}}
}

// Index is the position of the effect in the call.
func (e *Effect) Index() int { return e.index }

// Direction is the way the client is ready for; the handler's Descriptor has
// to say the same.
func (e *Effect) Direction() sideeffect.Direction { return e.offer.direction }

// Kind is "file" or "pipe"; the handler's Descriptor has to say the same.
func (e *Effect) Kind() string {
	if e.offer.kind == "" {
		return sideeffect.KindFile
	}
	return e.offer.kind
}

// Size is how many bytes the client's source has, as the client says; -1 when
// it does not know or is the sink.
func (e *Effect) Size() int64 { return e.offer.size }

// Limit is the quota of the client's sink; sideeffect.NoQuota when it has none
// or is the source.
func (e *Effect) Limit() int64 { return e.offer.limit }

// Optional reports that the client's call succeeds without the effect, too.
func (e *Effect) Optional() bool { return e.offer.optional }

// inlined reports whether the ask says that the content is in the request.
func (e *Effect) inlined() bool {
	return e.offer.direction == sideeffect.ClientToServer && e.offer.road == sideeffect.RoadInline
}

// Run opens the effect and moves its bytes: Init, then Check. It cancels the
// effect when ctx ends. With AwaitLocal small contents for the client may ride
// inside the reply; with AwaitRemote they never do, because nobody acknowledges a reply.
// The outputs are in d when Run returns. A Reader or Writer of d that panics does so
// in the goroutine of Run, or of Check, wherever it ran: then as a *sideeffect.Panic.
func (e *Effect) Run(ctx context.Context, d *sideeffect.Descriptor, await sideeffect.Await) error {
	if err := e.init(ctx, d, await == sideeffect.AwaitLocal); err != nil {
		return err
	}
	defer e.heed(ctx, "run side effect")()
	mine, err := e.begin()
	switch {
	case err != nil:
		return err
	case mine && e.job.lasting:
		e.goMove()
	case mine: // here: a goroutine costs more than storing small contents
		e.move()
	}
	<-e.until(await)
	return e.report(await)
}

// heed cancels the effect when ctx ends, until stop is called. The handler's own
// context needs no watching, the call does that.
func (e *Effect) heed(ctx context.Context, op string) (stop func()) {
	if ctx.Done() == e.call.handler.Done() {
		return func() {}
	}
	forget := context.AfterFunc(ctx, func() { e.life.stop(cause(op, ctx)) })
	return func() { forget() }
}

// Init opens both ends: this end's file, then the client's. An error means
// that the effect is over, unless it says that the descriptor does not fit. d
// must not be changed or read until Check has returned.
func (e *Effect) Init(ctx context.Context, d *sideeffect.Descriptor) error {
	return e.init(ctx, d, false)
}

func (e *Effect) init(ctx context.Context, d *sideeffect.Descriptor, inline bool) error {
	if err := e.fits(d); err != nil {
		return err
	}
	d.Result = sideeffect.Result{}
	stop := e.heed(ctx, "open side effect")
	began := time.Now()
	var j job
	err := ctx.Err()
	if err != nil { // AfterFunc would come too late for contents that are here already
		err = cause("open side effect", ctx)
	} else {
		j, err = e.open(ctx, d, inline)
	}
	stop()
	e.call.mu.Lock()
	defer e.call.mu.Unlock()
	if err == nil && e.call.over {
		err = errReturned()
		e.call.mu.Unlock()
		j.drop(err)
		e.call.mu.Lock()
	}
	e.d, e.job = d, j
	if err != nil {
		err = e.call.explain(fault.Wrap("open side effect", d.Local.String(), err))
		e.ended = ended{err: err, local: sideeffect.Failure, began: began}
		if blames(err, fault.Peer) {
			e.ended.local, e.ended.remote = sideeffect.NotStarted, sideeffect.Failure
		}
		e.phase = over
		e.wake()
		e.ended.fill(d)
		return err
	}
	e.phase = open
	return nil
}

// fits checks what the handler wants against what the client has offered.
func (e *Effect) fits(d *sideeffect.Descriptor) error {
	const op = "open side effect"
	if d == nil {
		return fault.New(op, fault.Invalid, "the descriptor is nil")
	}
	if _, err := e.call.server.kinds.Of(d); err != nil {
		return fault.Wrap(op, "", err)
	}
	e.call.mu.Lock()
	defer e.call.mu.Unlock()
	switch {
	case e.call.over:
		return fault.New(op, fault.Invalid, "the handler has returned")
	case e.phase != waiting:
		return fault.New(op, fault.Invalid, "side effect %d was opened before: it runs once", e.index)
	case d.Direction != e.offer.direction:
		return fault.New(op, fault.Invalid, "the client offers %v", e.offer.direction).Advise("set Direction to that, or answer the call with an error")
	case isPipe(d.Kind) != isPipe(e.offer.kind):
		return fault.New(op, fault.Invalid, "the client offers kind %q", e.Kind()).Advise("set Kind to that")
	}
	for _, other := range e.call.effects {
		if busy := other.phase == claimed || other.phase == open || other.phase == moving; busy && other.d == d {
			return fault.New(op, fault.Invalid, "the Descriptor is at work in side effect %d: each needs its own until it is over", other.index)
		}
	}
	e.phase, e.d = claimed, d
	return nil
}

// Start begins to move the bytes in the background. Check waits for them.
func (e *Effect) Start() error {
	mine, err := e.begin()
	if mine {
		e.goMove()
	}
	return err
}

// goMove moves the bytes on a goroutine of its own, which Stop awaits. On a server that is stopped they do not move
// any more. A panic there becomes the handler's, where somebody may recover it, if the handler waits for the effect.
func (e *Effect) goMove() {
	move := func() {
		end := endedByPanic()
		defer func() { e.finish(end, sideeffect.PanicOf(recover())) }()
		end = e.job.run(&e.life, e.complete)
	}
	if !e.call.server.wg.Go(move) {
		e.life.stop(errStopped())
		move()
	}
}

// begin tells the one caller who has to call move.
func (e *Effect) begin() (mine bool, err error) {
	c := e.call
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.over:
		return false, fault.New("start side effect", fault.Invalid, "the handler has returned")
	case e.phase == waiting || e.phase == claimed:
		return false, fault.New("start side effect", fault.Invalid, "call Init first")
	case e.phase != open:
		return false, nil
	}
	e.phase = moving
	return true, nil
}

// move runs the half to its end, also when that is a panic of the user's own
// reader or writer.
func (e *Effect) move() {
	end := endedByPanic()
	defer func() { e.finish(end, nil) }()
	end = e.job.run(&e.life, e.complete)
}

// finish notes how the half has ended.
func (e *Effect) finish(end ended, p *sideeffect.Panic) {
	end.err = e.call.explain(end.err)
	e.call.mu.Lock()
	e.phase, e.ended, e.panicked = over, end, p
	e.wake()
	e.call.mu.Unlock()
	e.life.stop(nil)
}

// endedByPanic is the end of a half whose goroutine has not come to another, also by runtime.Goexit.
func endedByPanic() ended {
	return ended{local: sideeffect.Failure, remote: sideeffect.Failure, err: errPanicked()}
}

func errPanicked() error { return fault.New("run side effect", fault.Internal, "it panicked") }

// wake tells those who wait that phase is sent or over. call.mu is held.
func (e *Effect) wake() {
	if e.sent != nil {
		close(e.sent)
		e.sent = nil
	}
	if e.done != nil && e.phase == over {
		close(e.done)
		e.done = nil
	}
}

// complete notes that this half has done all it has to.
func (e *Effect) complete(o sideeffect.Outcome) {
	e.call.mu.Lock()
	defer e.call.mu.Unlock()
	if e.phase == moving {
		e.phase, e.sending = sent, o
		e.wake()
	}
}

// Check starts the effect if Start has not, and waits: with AwaitLocal until
// this half is over, with AwaitRemote until the peer's verdict is in, too. A
// sink's half is over when the content is stored and the verdict sent, and then
// the source's is as well. When ctx ends first the effect goes on, and Check
// may be called again. The outputs are in the descriptor when it returns.
func (e *Effect) Check(ctx context.Context, await sideeffect.Await) error {
	if err := e.Start(); err != nil {
		return err
	}
	select {
	case <-e.until(await):
		return e.report(await)
	case <-ctx.Done():
		return cause("await side effect", ctx)
	}
}

// until is closed when there is what await waits for.
func (e *Effect) until(await sideeffect.Await) <-chan struct{} {
	e.call.mu.Lock()
	defer e.call.mu.Unlock()
	c := &e.sent
	switch {
	case e.phase == over || e.phase == sent && await == sideeffect.AwaitLocal:
		return long
	case await == sideeffect.AwaitRemote:
		c = &e.done
	}
	if *c == nil {
		*c = make(chan struct{})
	}
	return *c
}

// long is closed: what is waited for has been.
var long = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// report fills the handler's descriptor.
func (e *Effect) report(await sideeffect.Await) error {
	e.call.mu.Lock()
	defer e.call.mu.Unlock()
	e.raise()
	end := e.ended
	if e.phase == sent {
		end = ended{local: sideeffect.Success, remote: sideeffect.InProgress, outcome: e.sending, road: e.call.road()}
	}
	end.fill(e.d)
	if end.err != nil {
		return fault.Wrap("run side effect", e.d.Local.String(), end.err)
	}
	if await == sideeffect.AwaitRemote && end.remote == sideeffect.InProgress {
		return fault.New("run side effect", fault.Invalid, "it goes inside the reply, which nobody acknowledges").Advise("use AwaitLocal, or another Road")
	}
	return nil
}

// raise panics, once, if the effect has. call.mu is held.
func (e *Effect) raise() {
	if p := e.panicked; p != nil {
		e.panicked = nil
		panic(p)
	}
}

// errReturned is what an effect gets that the handler has left behind.
func errReturned() error {
	return fault.New("run side effect", fault.Canceled, "the handler returned before its side effect was over")
}

// close ends the effect with its handler: what is still moving is cancelled, a
// source that only awaits its verdict goes on for at most lingerTime.
func (e *Effect) close() {
	c := e.call
	c.mu.Lock()
	phase := e.phase
	if phase == open {
		e.phase, e.ended = over, ended{err: errReturned(), local: sideeffect.Failure, remote: sideeffect.Failure, road: c.road()}
		e.wake()
	}
	c.mu.Unlock()
	switch phase {
	case waiting:
		e.life.stop(nil)
	case claimed:
		e.life.stop(errReturned())
	case open:
		e.job.drop(errReturned())
		e.life.stop(nil)
	case moving:
		e.life.stop(errReturned())
		<-e.until(sideeffect.AwaitRemote)
	case sent:
		if !c.server.wg.Go(e.linger) {
			e.life.stop(errStopped())
		}
	}
}

func (e *Effect) linger() {
	t := time.NewTimer(lingerTime)
	defer t.Stop()
	select {
	case <-e.until(sideeffect.AwaitRemote):
		e.call.mu.Lock()
		defer e.call.mu.Unlock()
		e.raise() // nobody else waits
	case <-t.C:
		e.life.stop(fault.New("await verdict", fault.Deadline, "no verdict %v after the handler has returned", lingerTime))
	}
}

// outcome is the server's word on the effect. replyErr is why contents could
// not go with the reply.
func (e *Effect) outcome(replyErr error) outcome {
	c := e.call
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case e.phase == waiting || e.phase == claimed:
		return outcome{status: sideeffect.NotStarted}
	case e.phase == sent || e.phase == moving:
		return outcome{status: sideeffect.InProgress, bytes: e.sending.Bytes, road: c.road()}
	case e.packed != nil && replyErr != nil:
		return outcome{status: sideeffect.Failure, err: replyErr, road: sideeffect.RoadInline}
	case e.ended.err != nil:
		return outcome{status: sideeffect.Failure, err: e.ended.err, bytes: e.ended.outcome.Bytes, road: e.ended.road, verdict: e.ended.verdict}
	}
	return outcome{status: sideeffect.Success, bytes: e.ended.outcome.Bytes, road: e.ended.road, verdict: e.ended.verdict}
}
