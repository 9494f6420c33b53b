package bridge

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Servers are those that a node knows by name.
type Servers interface {
	// Has tells whether one has that name.
	Has(name string) bool
	// Login is a session at one, shared with others. Whoever has used it says how that
	// ended, so that the next one has another after an error of the login.
	Login(ctx context.Context, name string) (s plugins.Session, over func(error), err error)
	// Direct tells whether the two may send each other files, and why not.
	Direct(from, to string) error
}

// Options are what a Line needs. All but Log are required.
type Options struct {
	Next    engine.Line // reaches partners that are no bridges
	Servers Servers
	Rule    func(name string) (*engine.Rule, error)
	Notes   string // path of the file of notes; made if there is none
	Log     *slog.Logger
}

// Line implements engine.Line. All methods may be called at the same time.
type Line struct {
	o     Options
	notes *notes
	parts parts
	ctx   context.Context // ends with Close
	end   context.CancelFunc
	wg    sync.WaitGroup // what tidies up at servers
}

// tidyTime is how long what a request has left at a server may take to be removed.
const tidyTime = 30 * time.Second

// NewLine opens the notes. Nobody is reached yet.
func NewLine(o Options) (*Line, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	n, err := openNotes(o.Notes)
	if err != nil {
		return nil, err
	}
	l := &Line{o: o, notes: n, parts: parts{all: map[lifecycle.Key]part{}}}
	l.ctx, l.end = context.WithCancel(context.Background())
	return l, nil
}

// Backup writes the notes as they are at one moment.
func (l *Line) Backup(w io.Writer) error { return l.notes.backup(w) }

// Close ends what tidies up, and closes the notes. Calls are over by then.
func (l *Line) Close() error {
	l.end()
	l.wg.Wait()
	return l.notes.close()
}

// Reach implements engine.Line.
func (l *Line) Reach(ctx context.Context, partner string) (time.Duration, error) {
	if !l.o.Servers.Has(partner) {
		return l.o.Next.Reach(ctx, partner)
	}
	began := time.Now()
	_, over, err := l.o.Servers.Login(ctx, partner)
	if err != nil {
		return 0, AsEnd(partner, err)
	}
	over(nil)
	return time.Since(began), nil
}

// Forget implements engine.Line. The sessions of bridges are the Servers' business.
func (l *Line) Forget(partner string, but ...string) {
	if !l.o.Servers.Has(partner) {
		l.o.Next.Forget(partner, but...)
	}
}

// Call implements engine.Line.
func (l *Line) Call(ctx context.Context, partner string, a engine.Ask, d *sideeffect.Descriptor) (engine.Answer, error) {
	if !l.o.Servers.Has(partner) {
		return l.o.Next.Call(ctx, partner, a, d)
	}
	x := &call{Line: l, ctx: ctx, partner: partner, ask: a, d: d, log: l.o.Log.With("id", a.Key.ID.String(), "follow", a.Follow.String(), "partner", partner)}
	answer, err := x.run()
	return answer, AsEnd(partner, err)
}

// Commission implements engine.Commissioner: bridges make no requests.
func (l *Line) Commission(ctx context.Context, partner string, c engine.Commission) (engine.Commissioned, error) {
	next, ok := l.o.Next.(engine.Commissioner)
	if !ok || l.o.Servers.Has(partner) {
		return engine.Commissioned{}, fault.New("copy", fault.Unsupported, "%q cannot be asked to make requests", partner)
	}
	return next.Commission(ctx, partner, c)
}

// Steps implements engine.Stepper: bridges have none.
func (l *Line) Steps(ctx context.Context, partner string, key lifecycle.Key, role lifecycle.Role) (engine.Steps, error) {
	next, ok := l.o.Next.(engine.Stepper)
	if !ok || l.o.Servers.Has(partner) {
		return engine.Steps{}, fault.New("call partner", fault.Unsupported, "%q cannot be asked for its steps", partner)
	}
	return next.Steps(ctx, partner, key, role)
}

// call is one call that is answered.
type call struct {
	*Line
	ctx     context.Context
	partner string
	ask     engine.Ask
	d       *sideeffect.Descriptor // nil: the call has no bytes
	log     *slog.Logger
}

func (x *call) run() (engine.Answer, error) {
	switch {
	case x.ask.Move == lifecycle.Mismatch:
		x.stopped()
		return served(lifecycle.Unknown, 0, -1), nil
	case x.ask.Side == lifecycle.Receiver && x.d != nil:
		return x.pull()
	case x.ask.Side == lifecycle.Receiver:
		return served(sends(x.ask), 0, -1), nil
	}
	if err := x.takeBack(); err != nil {
		return engine.Answer{}, err
	}
	if x.d != nil {
		return x.push()
	}
	return x.receives()
}

// takeBack has Sweep leave alone what a request has left that was given up and goes on now.
func (x *call) takeBack() error {
	n, ok, err := x.notes.get(x.ask.Key)
	if err != nil || !ok || n.Given.IsZero() {
		return err
	}
	n.Given = time.Time{}
	return x.notes.put(x.ask.Key, n)
}

func served(phase lifecycle.Phase, rank, size int64) engine.Answer {
	return engine.Answer{Outcome: engine.Served, Phase: phase, Rank: rank, Size: size}
}

// sends is the phase of a server that sends, for a requester in that of the call.
func sends(a engine.Ask) lifecycle.Phase {
	switch p := a.Call.Phase; {
	case a.Move == lifecycle.Finish, p == lifecycle.Finished && a.Move > lifecycle.Prepare:
		return lifecycle.Finished
	case a.Move == lifecycle.Acknowledge, p == lifecycle.Finished:
		return lifecycle.Posted
	case p >= lifecycle.Whole:
		return lifecycle.Ended
	}
	return lifecycle.Ready
}

// receives is the answer of a server that receives, when no bytes come with the call.
func (x *call) receives() (engine.Answer, error) {
	p := x.ask.Call.Phase
	switch {
	case p == lifecycle.Finished, x.ask.Move >= lifecycle.EndRequest:
		x.notes.drop(x.ask.Key)
		x.parts.over(x.ask.Key)
		return served(lifecycle.Finished, 0, -1), nil
	case p >= lifecycle.Ended:
		return served(lifecycle.Posted, 0, -1), nil
	}
	n, ok, err := x.notes.get(x.ask.Key)
	switch {
	case err != nil:
		return engine.Answer{}, err
	case !ok:
		return served(lifecycle.Ready, 0, -1), nil
	case n.Naming:
		return x.named(n)
	}
	return served(lifecycle.Ready, n.Rank, -1), nil
}

// remote is the name at the server.
func remote(p relpath.Path) string { return "/" + p.String() }

const opUse = "use bridge"

// kindOf is the kind of an error, 0 of none.
func kindOf(err error) fault.Kind {
	if err == nil {
		return 0
	}
	return fault.KindOf(err)
}

// AsEnd is an error about a server as others want it: it is the server's or this node's, and what
// this node may not do there says nothing of who asked for the request.
func AsEnd(partner string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*fault.Error); ok && e.Op == opUse {
		return err
	}
	kind := fault.KindOf(err)
	if kind == fault.Unauthenticated {
		kind = fault.Refused
	}
	return &fault.Error{Op: opUse, Kind: kind, Side: fault.Peer, Subject: partner, Err: err}
}
