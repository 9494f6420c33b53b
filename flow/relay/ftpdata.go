package relay

// Data connections of FTP: what a control connection has announced, once, and nothing else.

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// ftpControls are the control connections of a hub.
type ftpControls struct {
	mu  sync.Mutex
	all map[ftpKey]*ftp
}

// ftpKey finds one. A partner finds its own only, and may well be at both ends of it.
type ftpKey struct {
	partner string
	relay   string
	role    Role
	id      uint64
}

func (f *ftp) key() ftpKey { return ftpKey{f.c.partner, f.c.relay, f.c.role, f.id} }

func (b *ftpControls) add(f *ftp) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.id == 0 || b.all[f.key()] != nil {
		return fault.New("relay FTP", fault.Protocol, "the number of the control connection is 0 or in use")
	}
	if b.all == nil {
		b.all = map[ftpKey]*ftp{}
	}
	b.all[f.key()] = f
	return nil
}

func (b *ftpControls) remove(f *ftp) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.all, f.key())
}

func (b *ftpControls) find(k ftpKey) *ftp {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all[k]
}

// addressOf is a socket's address without its port.
func addressOf(a net.Addr) (netip.Addr, error) {
	if a != nil {
		if at, err := netip.ParseAddrPort(a.String()); err == nil {
			return at.Addr().Unmap(), nil
		}
	}
	return netip.Addr{}, fault.New("relay FTP", fault.Unsupported, "the control connection is not one of TCP, so there is no address for data connections")
}

// offers lets the other end have one connection made to a port. Of what was announced on a
// control connection, only the last counts.
func (f *ftp) offers(port uint16) {
	f.announced(ftpOffer{port, time.Now().Add(f.c.hub.dataWait)}, ftpGate{})
}

func (f *ftp) announced(o ftpOffer, g ftpGate) {
	f.ports.Lock()
	defer f.ports.Unlock()
	if f.gate.close != nil {
		f.gate.close()
	}
	f.offer, f.gate = o, g
}

// take uses the offer up.
func (f *ftp) take(port uint16) error {
	f.ports.Lock()
	defer f.ports.Unlock()
	if port == 0 || f.offer.port != port || time.Now().After(f.offer.until) {
		return fault.New("relay FTP", fault.Permission, "the control connection has not announced port %d, or it is too late", port)
	}
	f.offer = ftpOffer{}
	return nil
}

// listen waits for one data connection beside the socket of the control connection, from
// whoever is at the other end of that, and returns the port. theirs is the one that it
// stands for.
func (f *ftp) listen(theirs uint16) (uint16, error) {
	h := f.c.hub
	ctx, cancel := context.WithTimeout(f.c.ctx, h.dataWait)
	l, err := h.cfg.Network.Listen(ctx, "tcp", net.JoinHostPort(f.here.String(), "0"))
	if err != nil {
		cancel()
		return 0, err
	}
	gate := ftpGate{cancel, make(chan struct{})}
	f.announced(ftpOffer{}, gate)
	if !h.spawn(func() { f.await(ctx, gate, l, theirs) }) {
		cancel()
		close(gate.settled)
		_ = l.Close()
		return 0, errStopping
	}
	return portOf(l.Addr()), nil
}

// await takes the first connection that may come.
func (f *ftp) await(ctx context.Context, gate ftpGate, l net.Listener, theirs uint16) {
	defer gate.close()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	c := f.admit(ctx, l)
	_ = l.Close()
	if c != nil {
		f.c.hub.begins()
		defer f.c.hub.begun()
	}
	d := f.carry(c, theirs)
	close(gate.settled)
	if d != nil {
		d.run()
	}
}

// admit is the first connection that may come; nil: none has come in time.
func (f *ftp) admit(ctx context.Context, l net.Listener) net.Conn {
	for {
		c, err := l.Accept()
		if err != nil {
			switch {
			case ctx.Err() == context.DeadlineExceeded:
				f.refused("", fault.New("relay FTP", fault.Deadline, "no data connection has come within %v", f.c.hub.dataWait))
			case ctx.Err() == nil:
				f.refused("", err)
			}
			return nil
		}
		from, err := addressOf(c.RemoteAddr())
		if err == nil && from == f.there {
			return c
		}
		abort(c)
		f.refused(origin(c.RemoteAddr()), fault.New("relay FTP", fault.Permission, "data connections come from %s, as the control connection", f.there))
	}
}

// refused counts and records a data connection that did not come about, which somebody
// has begun.
func (f *ftp) refused(from string, err error) {
	f.c.hub.refused(f.c.use, f.c.role, f.c.relay, f.c.partner, from, f.c.to, err)
}

// carry has the other end connect to a port that the control connection has announced
// there. nil: it has not.
func (f *ftp) carry(accepted net.Conn, port uint16) *conn {
	if accepted == nil {
		return nil
	}
	from := origin(accepted.RemoteAddr())
	var d *conn
	err := f.c.use.enter()
	if err == nil {
		if d, err = f.dataConn(f.c.use, accepted); err == nil {
			err = f.open(d, dataAsk{Relay: f.c.relay, Control: f.id, Active: f.c.role == Exit, Port: port, From: from})
		}
		if err != nil {
			f.c.use.leave()
		}
	}
	if err != nil {
		abort(accepted)
		f.refused(from, err)
		return nil
	}
	f.live.Add(1)
	return d
}

// dataConn is a data connection that has its place in a usage, for its socket.
func (f *ftp) dataConn(use *usage, c net.Conn) (*conn, error) {
	local, ok := c.(halfCloser)
	if !ok {
		return nil, fault.New("relay FTP", fault.Internal, "a connection without half-close")
	}
	return &conn{hub: f.c.hub, role: f.c.role, relay: f.c.relay, partner: f.c.partner, use: use, local: local, after: func() { f.live.Add(-1) }}, nil
}

// between notes who is at the ends of a data connection: near is the socket's peer.
func (c *conn) between(near, far string) {
	if c.role == Exit {
		near, far = far, near
	}
	c.from, c.to = near, "tcp://"+far
}

// open opens the stream of a data connection, on the session of its control connection.
func (f *ftp) open(d *conn, ask dataAsk) error {
	meta, err := wire.AppendMeta(nil, &ask)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(f.c.ctx, f.c.hub.cfg.Patience)
	defer cancel()
	st, err := openOn(ctx, f.c.partner, f.c.st.Session(), flow.Open{Kind: KindData, Meta: meta, Class: wire.ClassRelay, Resume: f.c.st.Resumes()})
	if err != nil {
		return err
	}
	var answer connAnswer
	if err := decodeMeta(st.Meta(), &answer); err != nil {
		st.Reset(err)
		return err
	}
	d.st = st
	d.between(ask.From, answer.Address)
	return nil
}

// connectData connects to what a control connection has announced here, for a partner to
// which a data connection has come: to the server or, Active, to the client.
func (h *Hub) connectData(name string, _ *flow.Session, in *flow.Incoming) {
	var ask dataAsk
	err := decodeMeta(in.Meta, &ask)
	k := ftpKey{name, ask.Relay, Exit, ask.Control}
	if ask.Active {
		k.role = Entry
	}
	refuse := func(use *usage, to string, err error) {
		in.Refuse(err)
		h.refused(use, k.role, ask.Relay, name, ask.From, to, err)
	}
	if err != nil {
		refuse(nil, "", err)
		return
	}
	f := h.controls.find(k)
	if f == nil {
		refuse(nil, "", fault.New("relay FTP", fault.NotFound, "there is no such control connection, or it is over"))
		return
	}
	to := netip.AddrPortFrom(f.there, ask.Port)
	use, err := f.consent(ask.Port)
	if err != nil {
		refuse(use, "tcp://"+to.String(), err)
		return
	}
	if err = use.enter(); err == nil {
		if err = f.join(use, in, to, ask.From); err != nil {
			use.leave()
		}
	}
	if err != nil {
		refuse(use, "tcp://"+to.String(), err)
	}
}

// consent reports whether a data connection to a port may be made here, and what counts it.
func (f *ftp) consent(port uint16) (*usage, error) {
	if f.c.role == Entry { // the client itself has said where, and it is itself
		return f.c.use, f.take(port)
	}
	x := wish{connAsk: f.ask, partner: f.c.partner}
	if err := f.c.hub.judge(&x, false); err != nil {
		return f.c.use, err
	}
	if !slices.ContainsFunc(x.patterns, func(p Pattern) bool { return p.has(x.to.Host, f.there) }) {
		return x.use, notAllowed(x.to)
	}
	return x.use, f.take(port)
}

// join connects, answers and relays. It has its place in use.
func (f *ftp) join(use *usage, in *flow.Incoming, to netip.AddrPort, from string) error {
	h := f.c.hub
	p := h.partner(f.c.partner)
	defer p.dialing.Add(-1)
	if err := p.dials(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.cfg.DialTimeout)
	defer cancel()
	raw, err := h.cfg.Network.DialFrom(ctx, "tcp", f.here, to.String())
	if err != nil {
		return connectFailed(ctx, to.String(), err)
	}
	d, err := f.dataConn(use, raw)
	if err == nil {
		d.st, err = answer(in, &connAnswer{Address: to.String()})
	}
	if err != nil {
		abort(raw)
		return err
	}
	d.between(to.String(), from)
	f.live.Add(1)
	d.run()
	return nil
}
