package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// maxDialing is how many destinations are being connected to for one partner at
// a time; more are refused at once, so that a flood of opens costs little.
const maxDialing = 512

// exitConn connects to what a partner asks for.
func (h *Hub) exitConn(name string, _ *flow.Session, in *flow.Incoming) {
	x, err := h.examine(name, in, false)
	if err != nil {
		h.turnDown(in, x, err)
		return
	}
	p := h.partner(name)
	defer p.dialing.Add(-1)
	if err = p.dials(); err == nil {
		err = x.use.enter()
	}
	if err != nil {
		h.turnDown(in, x, err)
		return
	}
	c, err := h.connect(x)
	reply := connAnswer{}
	if err == nil && x.to.Scheme == FTP {
		reply.Control = rand.Uint64()
		err = c.speakFTP(reply.Control, x.connAsk)
	}
	if err == nil {
		reply.Address = c.to
		c.st, err = answer(in, &reply)
	}
	if err != nil {
		x.use.leave()
		if c != nil {
			abort(c.local)
			c.after()
		}
		h.turnDown(in, x, err)
		return
	}
	c.run()
}

// dials counts one that is being connected to, which the caller takes off again, also after an error.
func (p *partner) dials() error {
	if p.dialing.Add(1) > maxDialing {
		return fault.New("relay", fault.Overloaded, "%d connections are being made for this partner", maxDialing)
	}
	return nil
}

// wish is what a partner has asked for and may have.
type wish struct {
	connAsk
	partner string
	to      Endpoint
	permit
}

// examine reads an open and finds what allows it.
func (h *Hub) examine(name string, in *flow.Incoming, udp bool) (wish, error) {
	x := wish{partner: name}
	if err := decodeMeta(in.Meta, &x.connAsk); err != nil {
		return x, err
	}
	return x, h.judge(&x, udp)
}

// judge finds what allows a wish.
func (h *Hub) judge(x *wish, udp bool) (err error) {
	if x.To == "" {
		err = h.own(x)
	} else if x.to, err = ParseTo(x.To); err == nil {
		x.permit, err = h.permitDial(x.partner, x.Relay, x.to)
	}
	if err == nil && (x.to.datagrams() != udp || x.to.Same) {
		err = fault.New("relay", fault.Protocol, "the destination does not fit the stream")
	}
	return err
}

// own completes a wish that comes from a listener which this node has asked for.
func (h *Hub) own(x *wish) error {
	r, err := h.relay(x.partner, x.Relay)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(r.Accept, func(a Endpoint) bool { return a.Scheme == Unix && x.Port == 0 || a.takes(x.Port) }) {
		return fault.New("relay", fault.Permission, "this node has not asked to listen at port %d", x.Port)
	}
	if x.to, err = r.to(x.Port); err != nil {
		return err
	}
	x.permit = permit{[]Pattern{patternOf(x.to)}, r.use, r.ProxyProtocol}
	return nil
}

// turnDown refuses a stream and records that.
func (h *Hub) turnDown(in *flow.Incoming, x wish, err error) {
	in.Refuse(err)
	to := x.To
	if to == "" {
		to = x.to.String()
	}
	h.refused(x.use, Exit, x.Relay, x.partner, x.From, to, err)
}

// answer accepts a stream. If its partner has ceased to be one since it was opened, it ends when it comes to the books.
func answer(in *flow.Incoming, o any) (*flow.ByteStream, error) {
	meta, err := wire.AppendMeta(nil, o)
	if err != nil {
		return nil, err
	}
	return in.AcceptBytes(meta)
}

// connect makes the connection of a wish.
func (h *Hub) connect(x wish) (*conn, error) {
	ctx, cancel := context.WithTimeout(h.ctx, h.cfg.DialTimeout)
	defer cancel()
	c := &conn{hub: h, role: Exit, relay: x.Relay, partner: x.partner, from: x.From, to: x.to.String(), use: x.use, after: func() {}}
	switch x.to.Scheme {
	case Exec:
		child, err := h.run(x)
		if err != nil {
			return nil, err
		}
		c.local, c.after = child.conn, child.conclude
		return c, nil
	case Unix:
		raw, err := h.cfg.Network.Dial(ctx, "unix", x.to.Path)
		if err != nil {
			return nil, connectFailed(ctx, x.to.String(), err)
		}
		return c.takes(raw, x)
	}
	raw, err := h.dial(ctx, "tcp", x)
	if err != nil {
		return nil, err
	}
	if a := raw.RemoteAddr(); a != nil {
		c.to = string(x.to.Scheme) + "://" + a.String()
	}
	return c.takes(raw, x)
}

// takes is the connection with its socket, whose first bytes are the PROXY header if there
// is to be one. A server of FTP would read it as commands.
func (c *conn) takes(raw net.Conn, x wish) (*conn, error) {
	local, ok := raw.(halfCloser)
	if !ok {
		_ = raw.Close()
		return nil, fault.New("connect", fault.Internal, "a connection without half-close")
	}
	if x.proxy && x.to.Scheme != FTP {
		if err := tellProxy(raw, x.connAsk, c.hub.cfg.DialTimeout); err != nil {
			abort(raw)
			return nil, err
		}
	}
	c.local = local
	return c, nil
}

// dial connects to the addresses that a wish's host has now, one after another.
func (h *Hub) dial(ctx context.Context, network string, x wish) (net.Conn, error) {
	all, err := h.addresses(ctx, x.permit, x.to)
	if err != nil {
		return nil, err
	}
	for i, a := range all {
		var c net.Conn
		if c, err = h.dialOne(ctx, network, a, len(all)-i); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// dialOne tries one of n addresses, in its share of the time that is left.
func (h *Hub) dialOne(ctx context.Context, network string, a netip.AddrPort, n int) (net.Conn, error) {
	if by, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(by)/time.Duration(n))
		defer cancel()
	}
	c, err := h.cfg.Network.Dial(ctx, network, a.String())
	if err != nil {
		return nil, connectFailed(ctx, a.String(), err)
	}
	return c, nil
}

// connectFailed is an error of a destination, in kinds that a client understands.
func connectFailed(ctx context.Context, to string, err error) error {
	kind := destinationKind(err)
	if ctx.Err() != nil && kind != fault.Refused && kind != fault.NotFound {
		kind = fault.Deadline
	}
	return &fault.Error{Op: "connect", Kind: kind, Subject: to, Err: err}
}

// destinationKind is the kind of what the system says of a destination. Permission is what a
// policy says: a socket or program that this node may not use refuses it.
func destinationKind(err error) fault.Kind {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fault.Refused
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fault.NotFound
	}
	return fault.KindOf(err)
}

// listenKind is the kind of what went wrong with a listener.
func listenKind(err error) fault.Kind {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fault.Exists
	}
	return fault.KindOf(err)
}
