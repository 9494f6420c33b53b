package relay

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

// Step is one thing that Try has looked at, in the order in which a connection needs
// them.
type Step struct {
	Name string // session, listener, consent, destination
	What string // which one, or what was found; may be empty
	Err  error  // nil: it is as it should be
}

// tryFrom is the client's address in the records of a try.
const tryFrom = "try"

// mostTries is how many destinations of one relay are tried.
const mostTries = 16

// Try makes each step of a connection of a relay of this node, up to the destination,
// where it connects and says nothing; a command is started. to is tried instead of the
// relay's own destinations unless it is zero; a relay whose clients say where to needs
// it. A step that fails is the last one, but for further destinations. NotFound: there
// is no such relay.
func (h *Hub) Try(ctx context.Context, name string, to Endpoint) ([]Step, error) {
	h.mu.Lock()
	run := h.relays[name]
	h.mu.Unlock()
	if run == nil {
		return nil, fault.New("try relay", fault.NotFound, "there is no relay %s", fault.Shown(name))
	}
	wishes := run.wishes(to)
	if len(wishes) == 0 {
		return nil, fault.New("try relay", fault.Invalid, "clients of relay %s say where to: say which destination is to be tried", fault.Shown(name))
	}
	p := run.with
	wait, cancel := context.WithTimeout(ctx, h.cfg.Patience)
	defer cancel()
	s, err := p.session(wait)
	if err != nil {
		return []Step{{"session", run.Partner, err}}, nil
	}
	steps := []Step{{"session", fmt.Sprintf("%s, round trip %v", run.Partner, s.RTT().Round(10*time.Microsecond)), nil}}
	listens := h.tryListener(wait, run)
	if steps = append(steps, listens); listens.Err != nil {
		return steps, nil
	}
	for _, w := range wishes {
		if run.At == There {
			steps = append(steps, h.tryHere(run, w))
		} else {
			steps = append(steps, h.tryThere(ctx, p, run, w)...)
		}
	}
	return steps, nil
}

// tried is a destination with the port that it would have been accepted at.
type tried struct {
	to   Endpoint
	port uint16
}

// wishes are where a relay's connections lead, each once.
func (r *running) wishes(to Endpoint) (all []tried) {
	for _, a := range r.Accept {
		add := func(port uint16) error {
			e := to
			if e.IsZero() {
				e, _ = r.to(port) // without one the zero value
			}
			e = e.at(port)
			same := func(t tried) bool { return t.to.String() == e.String() }
			if !e.IsZero() && len(all) < mostTries && !slices.ContainsFunc(all, same) {
				all = append(all, tried{e, port})
			}
			return nil
		}
		if a.Scheme == Unix {
			_ = add(0)
		} else {
			_ = a.each(add)
		}
	}
	return all
}

// tryListener waits until it is known whether the relay is listened for.
func (h *Hub) tryListener(ctx context.Context, r *running) Step {
	for name := "listener"; ; {
		h.mu.Lock()
		bound, trouble := strings.Join(r.bound, " "), r.trouble
		h.mu.Unlock()
		if r.At == There {
			name = "consent"
		}
		switch {
		case bound != "":
			return Step{name, "listens at " + bound, nil}
		case trouble != nil:
			return Step{name, "", trouble}
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return Step{name, "", fault.New("try relay", fault.Deadline, "%s has not answered yet whether it listens", fault.Shown(r.Partner))}
		}
	}
}

// tryHere connects to a destination of this node.
func (h *Hub) tryHere(r *running, w tried) Step {
	x := wish{connAsk: connAsk{Relay: r.Name, Port: w.port, From: tryFrom}, partner: r.Partner, to: w.to, permit: permit{[]Pattern{patternOf(w.to)}, r.use, r.ProxyProtocol}}
	step := Step{Name: "destination", What: made(w.to.String())}
	if w.to.datagrams() {
		u := &udpExit{wish: x, hub: h}
		if step.Err = u.resolve(); step.Err != nil {
			step.What = w.to.String()
		}
		return step
	}
	c, err := h.connect(x)
	if step.Err = err; err != nil {
		step.What = w.to.String()
	} else {
		_ = c.local.Close()
		c.after()
	}
	return step
}

// tryThere has the partner connect to a destination.
func (h *Hub) tryThere(ctx context.Context, p *partner, r *running, w tried) []Step {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Patience)
	defer cancel()
	e := &entrance{hub: h, relay: r.Name, partner: r.Partner, open: p.open}
	kind, ask := KindConn, connAsk{To: w.to.String(), Port: w.port, From: tryFrom}
	if w.to.datagrams() {
		kind, ask.Datagram = KindUDP, MaxDatagram
	}
	st, answer, err := e.ask(ctx, kind, ask)
	what := w.to.String()
	switch {
	case fault.KindOf(err) == fault.Permission:
		return []Step{{"consent", what, err}}
	case err != nil:
		return []Step{{"consent", what, nil}, {"destination", what, err}}
	}
	part(st)
	return []Step{{"consent", what, nil}, {"destination", made(answer.Address), nil}}
}

// made says what was done with a destination, which is the partner's word if that has done it.
func made(to string) string {
	switch scheme, _, _ := strings.Cut(to, ":"); Scheme(scheme) {
	case UDP:
		return to + ": an address; whether it answers, only a datagram shows"
	case Exec:
		return to + ": started, and its input ended at once; what it does, only a connection shows"
	default:
		return to + ": connected"
	}
}

// partTime is how long the other end of a stream has to end its direction too.
const partTime = time.Second

// part ends a stream that was opened for nothing, in order if the other end does.
func part(st *flow.ByteStream) {
	_ = st.CloseWrite()
	_ = st.SetReadDeadline(time.Now().Add(partTime))
	if _, err := io.CopyN(io.Discard, st, 1<<20); err != io.EOF {
		st.Reset(fault.New("relay", fault.Canceled, "it was only a try"))
		return
	}
	_ = st.Close()
}
