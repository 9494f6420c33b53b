package relay

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/calm"
	"github.com/pannier/pannier/spec/fault"
)

// Hub is a node's share in relays. Close it when done: every goroutine here is
// one of its wg.
type Hub struct {
	cfg    Config
	policy atomic.Pointer[[]*rule] // stored with mu held

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	draining bool
	partners map[string]*partner
	relays   map[string]*running
	guests   map[guestKey]*guest // listeners that partners have here
	conns    map[*conn]struct{}
	opening  int                           // connections that come about: accepted or asked for, and not yet in conns or refused
	sources  map[*tally]struct{}           // of datagrams, as they are counted
	asides   map[*flow.ByteStream]struct{} // streams of datagrams, and of listeners that partners have for this node
	of       map[*flow.Session]string      // who is at its other end, "": no partner any more; of those that are not over
	lastID   uint64
	isCut    bool          // by Drain: what comes about later is ended, too
	empty    chan struct{} // closed and replaced when there is nothing in conns and nothing opening

	calm     calm.Calm
	controls ftpControls
	dataWait time.Duration // for a data connection of FTP
}

// New makes a Hub without relays and sessions.
func New(cfg Config) (*Hub, error) {
	rules, err := newRules(cfg.Policy)
	if err != nil {
		return nil, err
	}
	h := &Hub{
		cfg: cfg.withDefaults(), partners: map[string]*partner{}, relays: map[string]*running{},
		guests: map[guestKey]*guest{}, conns: map[*conn]struct{}{}, sources: map[*tally]struct{}{}, asides: map[*flow.ByteStream]struct{}{}, of: map[*flow.Session]string{}, empty: make(chan struct{}),
		dataWait: dataWait,
	}
	h.policy.Store(&rules)
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.wg.Go(h.sweep)
	return h, nil
}

// spawn starts a goroutine that Close waits for; false: the hub is closed.
func (h *Hub) spawn(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.wg.Go(f)
	return true
}

func (h *Hub) partner(name string) *partner {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.partners[name]
	if p == nil {
		p = &partner{hub: h, name: name, changed: make(chan struct{})}
		h.partners[name] = p
	}
	return p
}

// Attach tells the hub of a session with a partner, whichever end has dialled it.
// The newest one that has connections and takes streams is used from here on. Who accepts the session's streams gives those of
// the kinds of this package to Handle.
func (h *Hub) Attach(name string, s *flow.Session) {
	p := h.partner(name)
	h.mu.Lock()
	h.of[s] = name
	h.mu.Unlock()
	_, linked := s.Connected()
	p.change(func() { p.all = append(p.all, s) })
	if !h.spawn(func() { p.hold(h.ctx, s, linked) }) {
		p.drop(s)
	}
}

// Serve attaches a session that nobody else accepts streams of, and serves it
// until it is over.
func (h *Hub) Serve(name string, s *flow.Session) error {
	h.Attach(name, s)
	return h.Accept(name, s)
}

// Accept serves a session that nobody else accepts streams of, until it is over.
func (h *Hub) Accept(name string, s *flow.Session) error {
	for {
		in, err := s.AcceptStream(h.ctx)
		if err != nil {
			return err
		}
		h.Handle(name, s, in)
	}
}

// Handle answers a stream of kind KindConn, KindUDP, KindListen or KindData that a partner
// has opened on s; others are refused. It returns at once.
func (h *Hub) Handle(name string, s *flow.Session, in *flow.Incoming) {
	var serve func(string, *flow.Session, *flow.Incoming)
	switch {
	case in.Blocks:
	case in.Kind == KindConn:
		serve = h.exitConn
	case in.Kind == KindUDP:
		serve = h.exitUDP
	case in.Kind == KindListen:
		serve = h.listenFor
	case in.Kind == KindData:
		serve = h.connectData
	}
	if serve == nil {
		in.Refuse(fault.New("accept stream", fault.Unsupported, "relays take no streams of this kind"))
		return
	}
	h.mu.Lock()
	h.of[s] = name
	h.mu.Unlock()
	if !h.begin(in.Kind, func() { serve(name, s, in) }) {
		in.Refuse(errStopping)
	}
}

// begin spawns what answers a stream of that kind, or opens one. Drain waits for what becomes a connection.
// false: nothing begins any more.
func (h *Hub) begin(kind string, f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.draining && kind != KindData { // which is of a connection that goes on
		return false
	}
	if kind != KindConn && kind != KindData {
		h.wg.Go(f)
		return true
	}
	h.opening++
	h.wg.Go(func() { f(); h.begun() })
	return true
}

// begins has Drain wait, until begun, for a connection that comes about in a goroutine of somebody else.
func (h *Hub) begins() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opening++
}

// begun is the end of a begin: the connection is in conns, or will not be.
func (h *Hub) begun() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opening--
	h.tellEmpty()
}

// tellEmpty wakes Drain if it has nothing to wait for. mu is held.
func (h *Hub) tellEmpty() {
	if len(h.conns) == 0 && h.opening == 0 {
		close(h.empty)
		h.empty = make(chan struct{})
	}
}

var errStopping = fault.New("relay", fault.Draining, "this node opens no more connections")

// still is why nothing of a partner may begin on a session; nil: it may. mu is held, until what
// begins is where Detach finds it.
func (h *Hub) still(partner string, s *flow.Session) error {
	if now, known := h.of[s]; known && now != partner { // of one that is over, which ends its streams, nothing is known
		return errNoPartner
	}
	return nil
}

// Add starts a relay. Where it listens here it does so when Add returns.
func (h *Hub) Add(r Relay) error {
	r, err := r.checked()
	if err != nil {
		return err
	}
	run := &running{Relay: r, hub: h, with: h.partner(r.Partner), use: newUsage(r.Limits)}
	run.ctx, run.cancel = context.WithCancel(h.ctx)
	h.mu.Lock()
	switch {
	case h.closed || h.draining:
		err = errStopping
	case h.relays[r.Name] != nil:
		err = fault.New("add relay", fault.Exists, "there is a relay %s; names are unique", fault.Shown(r.Name))
	default:
		h.relays[r.Name] = run
	}
	h.mu.Unlock()
	if err == nil {
		if err = run.start(); err != nil {
			_ = h.Remove(r.Name)
		}
	}
	return err
}

// Remove stops a relay: nothing new is accepted. Its connections go on.
func (h *Hub) Remove(name string) error {
	h.mu.Lock()
	run := h.relays[name]
	delete(h.relays, name)
	h.mu.Unlock()
	if run == nil {
		return fault.New("remove relay", fault.NotFound, "there is no relay %s", fault.Shown(name))
	}
	run.stop()
	return nil
}

// relay finds the relay with which this node has asked a partner to listen.
func (h *Hub) relay(partner, name string) (*running, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.relays[name]; r != nil && r.Partner == partner && r.At == There {
		return r, nil
	}
	return nil, fault.New("relay", fault.NotFound, "this node has not asked for a relay %s", fault.Shown(name))
}

// Drain stops all listening, lets the connections there are, and what has been accepted or asked for
// and is being connected, go on until they end or ctx does, and reports whether they had to be cut. It does
// not close the hub.
func (h *Hub) Drain(ctx context.Context) error {
	h.mu.Lock()
	h.draining = true
	var stops []func()
	for _, r := range h.relays {
		stops = append(stops, r.stop)
	}
	for _, g := range h.guests {
		stops = append(stops, g.stop)
	}
	h.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
	for {
		h.mu.Lock()
		n, empty := len(h.conns)+h.opening, h.empty
		h.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-empty:
		case <-ctx.Done():
			h.cut()
			return fault.Wrap("drain relays", "", context.Cause(ctx))
		}
	}
}

// cut ends every connection, and those that come about.
func (h *Hub) cut() {
	h.mu.Lock()
	h.isCut = true
	h.mu.Unlock()
	for _, c := range h.open() {
		c.end(errStopping)
	}
}

func (h *Hub) open() []*conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*conn, 0, len(h.conns))
	for c := range h.conns {
		all = append(all, c)
	}
	return all
}

// Close ends listeners and connections and waits for their goroutines. Sessions
// stay.
func (h *Hub) Close() error {
	h.mu.Lock()
	h.closed = true
	relays := make([]*running, 0, len(h.relays))
	for _, r := range h.relays {
		relays = append(relays, r)
	}
	h.mu.Unlock()
	for _, r := range relays {
		r.stop()
	}
	h.cancel()
	h.cut()
	h.wg.Wait()
	return nil
}

// sweepEvery is how often connections are looked at for Life, Idle and Half, and
// listeners of partners for whether anybody wants them.
const sweepEvery = time.Second

// sweep ends connections and listeners whose time is over.
func (h *Hub) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case now := <-tick.C:
			for _, c := range h.open() {
				if err := c.look(now); err != nil {
					c.end(err)
				}
			}
			for key, g := range h.unclaimed(now) {
				h.release(key, g, false)
			}
			h.forgetSessions()
		}
	}
}

// forgetSessions takes those that are over out of the books.
func (h *Hub) forgetSessions() {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.of, func(s *flow.Session, _ string) bool { return s.Err() != nil })
}

// sessions of one partner.
type partner struct {
	hub     *Hub
	name    string
	dialing atomic.Int64 // destinations being connected to for it; at most maxDialing

	mu      sync.Mutex
	all     []*flow.Session // the newest last
	changed chan struct{}   // closed and replaced with every change
	quest   quest
}

// hold keeps a session among the partner's until it is over, and tells those who wait for one when it loses its
// connections or has some again: linked was its Connected before it was among them.
func (p *partner) hold(ctx context.Context, s *flow.Session, linked <-chan struct{}) {
	defer p.drop(s)
	for {
		select {
		case <-s.Done():
			return
		case <-ctx.Done():
			return
		case <-linked:
			_, linked = s.Connected() // first, so that what changes meanwhile is not missed
			p.change(func() {})
		}
	}
}

func (p *partner) drop(s *flow.Session) {
	p.change(func() { p.all = slices.DeleteFunc(p.all, func(o *flow.Session) bool { return o == s }) })
}

func (p *partner) has(s *flow.Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.all, s)
}

func (p *partner) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// session waits for one that takes streams: a new one, or one that has its connections again.
func (p *partner) session(ctx context.Context) (*flow.Session, error) {
	for {
		p.mu.Lock()
		changed := p.changed
		s := p.newest()
		if s == nil {
			p.quest.waiting++
		}
		p.mu.Unlock()
		if s != nil {
			return s, nil
		}
		p.seek()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		p.mu.Lock()
		p.quest.waiting--
		err := p.quest.err
		p.mu.Unlock()
		if ctx.Err() != nil {
			return nil, noSession(p.name, err)
		}
	}
}

// newest is the session that is used; nil without one. One that has lost its connections is none: the partner may have
// forgotten it, and nobody would look for the partner as long as this end has not. p.mu is held.
func (p *partner) newest() *flow.Session {
	for _, s := range slices.Backward(p.all) {
		if now, _ := s.Connected(); now && !s.Draining() {
			return s
		}
	}
	return nil
}

// open opens a stream on a session of the partner, on the next one if the first
// is lost before the peer has answered: until then nothing has been said.
func (p *partner) open(ctx context.Context, o flow.Open) (*flow.ByteStream, error) {
	for {
		s, err := p.session(ctx)
		if err != nil {
			return nil, err
		}
		st, err := openOn(ctx, p.name, s, o)
		if err == nil && !p.has(s) { // Detach was meanwhile
			st.Reset(errNoPartner)
			continue
		}
		lost := passing(err)
		if err == nil || ctx.Err() != nil || !lost && fault.KindOf(err) != fault.Draining {
			return st, err
		}
		select { // a session that is about to go away
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
		if !lost && !s.Draining() { // otherwise it was opened when the word of that was under way
			return st, err
		}
	}
}

// openOn opens a stream on a session. If that is without connections when the time is over, it was that which was
// waited for, and not the partner's answer.
func openOn(ctx context.Context, partner string, s *flow.Session, o flow.Open) (*flow.ByteStream, error) {
	st, err := s.OpenBytes(ctx, o)
	if now, _ := s.Connected(); err != nil && ctx.Err() != nil && !now && !passing(err) {
		return nil, noSession(partner, nil)
	}
	return st, err
}

const retryPause = 20 * time.Millisecond

// passing reports whether an error is about the session, which was lost or takes
// no more streams, and not the peer's answer to this one.
func passing(err error) bool {
	var e *fault.Error
	if !errors.As(err, &e) {
		return false
	}
	if e.Session || e.Side != fault.Peer && e.Kind == fault.Draining {
		return true
	}
	return e.Side == fault.Inferred && (e.Kind == fault.Lost || e.Kind == fault.DeadPeer)
}
