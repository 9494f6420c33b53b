package relay

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// running is a relay of this node.
type running struct {
	Relay
	hub    *Hub
	with   *partner
	use    *usage
	ctx    context.Context // ends when listening does
	cancel context.CancelFunc

	mu      sync.Mutex
	door    *entrance // Here, as soon as it listens
	stopped bool

	bound   []string // guarded by Hub.mu, as trouble
	trouble error
}

func (r *running) start() error {
	if r.At == There {
		r.hub.spawn(r.keepAsking)
		return nil
	}
	e := &entrance{hub: r.hub, relay: r.Name, partner: r.Partner, use: r.use, from: r.From, mode: r.Mode, resume: r.Resume, to: r.to, open: r.with.open, ctx: r.ctx, cancel: r.cancel}
	bound, err := e.listen(r.Accept)
	if err != nil {
		return err
	}
	if !r.opened(e) { // by Remove, Drain or Close, while it opened its listeners
		e.stop()
		return errStopping
	}
	r.report(bound, nil)
	return nil
}

// opened notes what stop has to close; false: stop has been here.
func (r *running) opened(e *entrance) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped {
		r.door = e
	}
	return !r.stopped
}

func (r *running) stop() {
	r.cancel()
	r.mu.Lock()
	door := r.door
	r.stopped = true
	r.mu.Unlock()
	if door != nil {
		door.stop()
	}
	r.report(nil, nil)
}

// report keeps for Stats where the relay listens, or why it does not.
func (r *running) report(bound []string, err error) {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	r.bound, r.trouble = bound, err
}

// Pauses between two asks of a partner that does not listen for us. It may change
// its mind, or its policy.
const (
	leastAsk = 500 * time.Millisecond
	mostAsk  = 30 * time.Second
)

// keepAsking has the partner listen for as long as the relay runs, over as many
// sessions as that takes.
func (r *running) keepAsking() {
	for pause := leastAsk; ; {
		err := r.askOnce()
		switch {
		case r.ctx.Err() != nil:
			return
		case err == nil:
			pause = leastAsk
			continue
		}
		r.report(nil, err)
		r.hub.audit("partner does not listen", Exit, r.Name, r.Partner, "", "", err)
		select {
		case <-time.After(pause):
			pause = min(2*pause, mostAsk)
		case <-r.ctx.Done():
			return
		}
	}
}

// askOnce asks for the listener and waits until it is gone. An error is the
// partner's refusal; that the session was lost is none.
func (r *running) askOnce() error {
	texts := make([]string, len(r.Accept))
	for i, a := range r.Accept {
		texts[i] = a.String()
	}
	meta, err := wire.AppendMeta(nil, &listenAsk{Relay: r.Name, Accept: texts, Resume: r.Resume})
	if err != nil {
		return err
	}
	st, err := r.with.open(r.ctx, flow.Open{Kind: KindListen, Meta: meta, Class: wire.ClassInteractive})
	if err != nil {
		return err
	}
	var answer listenAnswer
	if err := decodeMeta(st.Meta(), &answer); err != nil {
		st.Reset(err)
		return err
	}
	defer r.hub.follow(r.Partner, st)()
	r.report(answer.Bound, nil)
	stop := context.AfterFunc(r.ctx, func() { _ = st.CloseWrite(); _ = st.Close() })
	defer stop()
	_, err = st.Read(make([]byte, 1))
	if err == io.EOF {
		_ = st.Close()
		return fault.New("relay", fault.Refused, "the partner has stopped listening")
	}
	st.Reset(err)
	if passing(err) {
		r.report(nil, err)
		return nil
	}
	return err
}

// guestKey names a listener that a partner has here. It lives no longer than the
// session that asked for it.
type guestKey struct {
	session *flow.Session
	relay   string
}

// guest is such a listener.
type guest struct {
	*entrance
	accept []string
	at     []Endpoint // the same
	bound  []string
	ports  int

	// Guarded by Hub.mu.
	held  bool      // a stream holds it; otherwise the session has lost its connections
	epoch int       // of the session when that happened
	back  time.Time // when it was seen to have connections again
}

// reclaimTime is how long a partner that has connections again may take to ask anew
// for a listener that it had.
const reclaimTime = 10 * time.Second

// unclaimed are the listeners that their partners do not want any more.
func (h *Hub) unclaimed(now time.Time) map[guestKey]*guest {
	h.mu.Lock()
	defer h.mu.Unlock()
	over := map[guestKey]*guest{}
	for k, g := range h.guests {
		switch {
		case g.held || k.session.Stats().Epoch <= g.epoch:
		case g.back.IsZero():
			g.back = now
		case now.Sub(g.back) > reclaimTime:
			over[k] = g
		}
	}
	return over
}

// maxGuests is how many listeners one session may have here.
const maxGuests = 64

// listenFor listens for a partner, if the policy lets it, until the partner closes
// the stream or its session is over.
func (h *Hub) listenFor(name string, s *flow.Session, in *flow.Incoming) {
	var m listenAsk
	g, err := h.guest(name, s, in.Meta, &m)
	if err != nil {
		in.Refuse(err)
		h.refused(nil, Entry, m.Relay, name, "", "", err)
		return
	}
	key := guestKey{s, m.Relay}
	st, err := answer(in, &listenAnswer{Bound: g.bound})
	if err != nil {
		in.Refuse(err)
		h.release(key, g, passing(err))
		return
	}
	stop := context.AfterFunc(g.ctx, func() { st.Reset(errStopping) })
	defer stop()
	_, err = st.Read(make([]byte, 1))
	h.release(key, g, passing(err) && s.Err() == nil)
	if err == io.EOF {
		_ = st.CloseWrite()
	}
	_ = st.Close()
}

// guest finds the listener that the same session had before its connections were
// lost, or makes a new one.
func (h *Hub) guest(name string, s *flow.Session, meta []byte, m *listenAsk) (*guest, error) {
	if err := decodeMeta(meta, m); err != nil {
		return nil, err
	}
	key := guestKey{s, m.Relay}
	h.mu.Lock()
	old := h.guests[key]
	if old != nil && !old.held && slices.Equal(old.accept, m.Accept) && old.resume == m.Resume {
		old.held, old.back = true, time.Time{}
		h.mu.Unlock()
		return old, nil
	}
	var left []guestKey // of the same partner's sessions before this one, which do not hold them
	for k, g := range h.guests {
		if k != key && k.relay == key.relay && g.partner == name && !g.held {
			left = append(left, k)
		}
	}
	h.mu.Unlock()
	if old != nil && old.held {
		return nil, fault.New("relay", fault.Exists, "this session has a listener of that name")
	}
	if old != nil { // other endpoints now
		h.release(key, old, false)
	}
	h.releaseAll(left)
	return h.newGuest(name, key, m)
}

// releaseAll ends guests, if they are still held by nobody.
func (h *Hub) releaseAll(keys []guestKey) {
	for _, k := range keys {
		h.mu.Lock()
		g := h.guests[k]
		idle := g != nil && !g.held
		h.mu.Unlock()
		if idle {
			h.release(k, g, false)
		}
	}
}

func (h *Hub) newGuest(name string, key guestKey, m *listenAsk) (*guest, error) {
	if len(m.Accept) > maxAccepts {
		return nil, fault.New("relay", fault.TooLong, "%d endpoints; at most %d", len(m.Accept), maxAccepts)
	}
	accept := make([]Endpoint, len(m.Accept))
	for i, text := range m.Accept {
		var err error
		if accept[i], err = ParseAccept(text); err != nil {
			return nil, err
		}
		if accept[i].asks() {
			return nil, fault.New("relay", fault.Unsupported, "a partner can have connections listened for, not %s", fault.Shown(accept[i].Scheme))
		}
	}
	g := &guest{accept: m.Accept, at: accept, ports: portsOf(accept), held: true, entrance: &entrance{
		hub: h, relay: m.Relay, partner: name, resume: m.Resume,
		to: func(uint16) (Endpoint, error) { return Endpoint{}, nil },
		open: func(ctx context.Context, o flow.Open) (*flow.ByteStream, error) {
			return openOn(ctx, name, key.session, o)
		},
	}}
	g.ctx, g.cancel = context.WithCancel(h.ctx)
	if err := h.admit(key, g); err != nil {
		g.cancel()
		return nil, err
	}
	var err error
	if g.bound, err = g.listen(accept); err != nil {
		h.release(key, g, false)
		return nil, err
	}
	h.spawn(func() { h.outlive(key, g) })
	return g, nil
}

// admit takes a guest into the books if the policy, as it is at that moment, lets it in, and those of its session
// that are in them leave room for it.
func (h *Hub) admit(key guestKey, g *guest) (err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g.use, err = h.permitListen(g.partner, g.relay, g.at); err != nil {
		return err
	}
	if h.guests[key] != nil || h.closed || h.draining {
		return errStopping
	}
	if err := h.still(g.partner, key.session); err != nil {
		return err
	}
	n, ports := 0, 0
	for k, other := range h.guests {
		if k.session == key.session {
			n++
			ports += other.ports
		}
	}
	if n >= maxGuests {
		return fault.New("relay", fault.Overloaded, "a session has at most %d listeners here", maxGuests)
	}
	if g.ports > MaxPorts-ports {
		return fault.New("relay", fault.Overloaded, "%d more ports; a session has at most %d here", g.ports, MaxPorts)
	}
	h.guests[key] = g
	return nil
}

// outlive ends a guest with its session, or as soon as it is stopped.
func (h *Hub) outlive(key guestKey, g *guest) {
	select {
	case <-key.session.Done():
	case <-g.ctx.Done():
	}
	h.release(key, g, false)
}

// release ends a guest, or keeps it without a stream until its session has
// connections again.
func (h *Hub) release(key guestKey, g *guest, keep bool) {
	h.mu.Lock()
	g.held, g.epoch = false, key.session.Stats().Epoch
	if !keep && h.guests[key] == g {
		delete(h.guests, key)
	}
	h.mu.Unlock()
	if !keep {
		g.stop()
	}
}
