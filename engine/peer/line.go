package peer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/peerpb"
)

// maxStreams is how many side effects a session carries at a time each way, and
// how many calls a connection. A partner runs a request for each, and a call
// lasts as long as the tasks behind it; how many run is the engines' business, so
// this is far above what they allow (64 a partner by default, 1024 served in all).
const maxStreams = 4096

// maxAll is the same with relayed connections, whose number is their limits' business.
// A stream that waits costs some hundred bytes: memory is bounded by budgets of
// windows, not by their number.
const maxAll = 1 << 16

// maxReply is the most bytes of a message that a partner answers: a page of names.
const maxReply = 2 << 20

// LineOptions are how a node reaches its partners.
type LineOptions struct {
	Node     string // this node's name; required
	Identity *carrier.Identity
	// Book finds a partner, each time one is connected to; required.
	Book func(partner string) (engine.Partner, error)
	// Flow tunes sessions; Name, MaxStreams and Pool are completed. The Pool may be
	// the Server's, too.
	Flow flow.Config
	// Pipe is where the address "pipe:" of a partner leads, for tests.
	Pipe func(partner string) *carrier.Pipe
	// Streams takes what partners open beside calls. Default: it is refused.
	Streams Streams
}

// Line implements engine.Line: one connection for each partner, made when it is
// first needed, and again when its session is over. It puts no time limit on
// calls, but a call whose session is dead ends. All methods may be called at the
// same time.
type Line struct {
	o      LineOptions
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	roads  map[string]*road
	old    map[*road]bool   // over, and still used
	last   map[string]*road // of a partner, the one before the one in roads
	closed bool
}

var _ engine.Line = (*Line)(nil)

// NewLine makes a Line; it connects to nobody yet.
func NewLine(o LineOptions) (*Line, error) {
	if err := checkName("node's name", o.Node); err != nil {
		return nil, fault.Wrap("new line", "", err)
	}
	if o.Book == nil {
		return nil, fault.New("new line", fault.Invalid, "nothing finds the partners").Advise("set Book")
	}
	o.Flow = flowOf(o.Flow, o.Node, o.Streams)
	l := &Line{o: o, roads: map[string]*road{}, old: map[*road]bool{}, last: map[string]*road{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l, nil
}

func flowOf(cfg flow.Config, node string, streams Streams) flow.Config {
	cfg.Name = node
	if streams != nil {
		cfg.Features = append(slices.Clone(cfg.Features), RelayFeature)
	}
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = maxStreams
		if streams != nil {
			cfg.MaxStreams = maxAll
		}
	}
	if cfg.Pool == nil { // else each session would have one of its own
		cfg.Pool = flow.NewPool(1 << 30)
	}
	return cfg
}

// Close ends calls and sessions and waits for their goroutines.
func (l *Line) Close() error {
	l.mu.Lock()
	l.closed = true
	all := slices.AppendSeq(slices.Collect(maps.Values(l.roads)), maps.Keys(l.old))
	for _, r := range all {
		r.forgotten, r.off = true, true
	}
	clear(l.roads)
	l.mu.Unlock()
	l.cancel()
	for _, r := range all {
		l.drop(r)
	}
	l.wg.Wait()
	return nil
}

// Forget implements engine.Line. It ends the roads, too, that only streams are left of.
func (l *Line) Forget(partner string, but ...string) {
	pins, err := carrier.ParsePins(but...)
	if err != nil {
		pins = nil // nobody proves such a key
	}
	l.mu.Lock()
	var all []*road
	for r := range l.old {
		if r.partner == partner && !r.leadsTo(pins) {
			all = append(all, r)
			delete(l.old, r)
		}
	}
	if r := l.roads[partner]; r != nil && !r.leadsTo(pins) {
		all = append(all, r)
		delete(l.roads, partner)
		l.last[partner] = r
	}
	for _, r := range all {
		r.forgotten, r.off = true, true
	}
	l.mu.Unlock()
	for _, r := range all {
		l.drop(r)
	}
}

// Reach implements engine.Line. A road that stood before is asked as a new one is: its partner
// may have taken this node's key out meanwhile. Errors of a partner that cannot be reached are Lost and say what was
// tried; Unauthenticated: it, or this node, has another key or name than the other
// knows; Invalid: its address or keys are misspelt.
func (l *Line) Reach(ctx context.Context, partner string) (time.Duration, error) {
	stood := l.stands(partner)
	r, err := l.take(ctx, partner)
	if err != nil {
		return 0, err
	}
	defer l.leave(r)
	if r == stood {
		p, err := l.o.Book(partner)
		if err != nil {
			return 0, fault.Wrap("reach partner", partner, err)
		}
		p.Name = partner
		if err := l.askName(ctx, r.cc, p); err != nil {
			return 0, explainConnect(l.o.Node, p, err)
		}
	}
	return r.session.RTT(), nil
}

// stands is the road to a partner that has been built; nil: there is none.
func (l *Line) stands(partner string) *road {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.roads[partner]
	if r == nil {
		return nil
	}
	select {
	case <-r.built:
		return r
	default:
		return nil
	}
}

// Call implements engine.Line. With an answer, the error is nil or of the effect
// that has run and failed; that the partner has not run it is no error, the answer
// says why. Without one it is of the connection, as with Reach, or the partner's
// own.
func (l *Line) Call(ctx context.Context, partner string, a engine.Ask, effect *sideeffect.Descriptor) (engine.Answer, error) {
	method, ask, err := writeAsk(&a)
	if err != nil {
		return engine.Answer{}, err
	}
	var options []grpc.CallOption
	if effect != nil {
		if a.Move != lifecycle.Transfer && a.Move != lifecycle.Prepare {
			return engine.Answer{}, fault.New("write call", fault.Internal, "a side effect with %v", a.Move)
		}
		options = append(options, rpc.With(effect))
	}
	reply := new(peerpb.Answer)
	err = l.invoke(ctx, partner, method, ask, reply, options...)
	if reply.GetOutcome() == 0 && err != nil {
		return engine.Answer{}, err
	}
	answer, bad := readAnswer(reply)
	if bad != nil {
		return engine.Answer{}, bad
	}
	if effect != nil && errors.Is(err, fault.NotStarted) {
		err = nil
	}
	return answer, err
}

// invoke makes a call on the partner's road.
func (l *Line) invoke(ctx context.Context, partner, method string, ask, reply any, options ...grpc.CallOption) error {
	r, err := l.take(ctx, partner)
	if err != nil {
		return err
	}
	defer l.leave(r)
	if err := r.cc.Invoke(ctx, method, ask, reply, options...); err != nil {
		return l.explainCall(ctx, r, err)
	}
	return nil
}

// connect makes a connection whose session is there and asks who is at its end.
func (l *Line) connect(ctx context.Context, r *road) (*rpc.ClientConn, *flow.Session, error) {
	p, err := l.o.Book(r.partner)
	if err != nil {
		return nil, nil, fault.Wrap("reach partner", r.partner, err)
	}
	p.Name = r.partner
	d := newDialled(r.partner, l.o.Streams)
	cc, err := l.dial(p, r, d)
	if err != nil {
		return nil, nil, err
	}
	session, err := cc.Connect(ctx)
	if err == nil && session == nil {
		err = fault.New("connect", fault.Unsupported, "what answers speaks HTTP/2, but is no node of Pannier")
	}
	if err == nil {
		err = l.askName(ctx, cc, p)
	}
	if err != nil {
		d.settle(nil)
		cc.Close()
		return nil, nil, explainConnect(l.o.Node, p, err)
	}
	d.settle(session)
	return cc, session, nil
}

// dial checks what the book says and makes the connection without using it.
func (l *Line) dial(p engine.Partner, r *road, d *dialled) (*rpc.ClientConn, error) {
	const op = "reach partner"
	if p.Address == "" {
		return nil, fault.New(op, fault.Invalid, "partner %s has no address: it only calls us", fault.Shown(p.Name)).Advise("give it one, or register the request there")
	}
	a, err := carrier.ParseAddress(p.Address)
	if err != nil {
		return nil, fault.Wrap(op, p.Name, err)
	}
	// Without calls gRPC would leave after half an hour, and the session with it, over which streams may be open.
	cfg := rpc.ClientConfig{Identity: l.o.Identity, Flow: l.o.Flow, Streams: d,
		DialOptions: []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReply)), grpc.WithIdleTimeout(0)}}
	switch {
	case a.Scheme == carrier.TCP || a.Plain:
		return nil, fault.New(op, fault.Invalid, "%s proves nobody's key, so it is not dialled: write tls:// instead, or leave out plain+", p.Address)
	case a.Proves():
		if len(p.Keys) == 0 {
			return nil, fault.New(op, fault.Invalid, "no key is known of partner %s", fault.Shown(p.Name)).Advise("`pannier id` at the partner prints it")
		}
		if cfg.Pins, err = carrier.ParsePins(p.Keys...); err != nil {
			return nil, fault.Wrap(op, p.Name, err)
		}
		r.pins.Store(&cfg.Pins)
		cfg.Flow.Authorize = r.authorize
	case a.Scheme == carrier.InMemory:
		if l.o.Pipe == nil {
			return nil, fault.New(op, fault.Invalid, "address pipe: leads nowhere in this process")
		}
		cfg.Pipe = l.o.Pipe(p.Name)
	}
	cc, err := rpc.Dial(p.Address, cfg)
	return cc, fault.Wrap(op, p.Name, err)
}

// askName refuses a node that calls itself otherwise: requests are known by the
// names of both.
func (l *Line) askName(ctx context.Context, cc *rpc.ClientConn, p engine.Partner) error {
	reply, err := peerpb.NewPeerClient(cc).Info(ctx, &peerpb.InfoAsk{})
	if err != nil {
		return err
	}
	n, err := readNode(reply.GetNode())
	if err != nil {
		return err
	}
	if n.Name != p.Name {
		return fault.New("reach partner", fault.Unauthenticated, "the node at %s calls itself %q, not %q", p.Address, fault.Shown(n.Name), fault.Shown(p.Name)).
			Advise("give the partner the name it has")
	}
	return nil
}
