package carrier

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"github.com/pannier/pannier/flow/loopback"
	"github.com/pannier/pannier/spec/fault"
)

// Dialer makes connections to one address. It implements flow.Dialer and may
// be used concurrently.
type Dialer struct {
	addr Address
	opts Options
	tls  *tls.Config   // nil unless the server proves its key
	turn chan struct{} // one token: held while the connection over one pipe is open
	used bool          // stdio has had its connection; guarded by turn
}

// NewDialer checks address and options and makes a Dialer; it does not dial. An
// address whose server proves a key needs an Identity for lanes, and Pins or RootCAs: there is no
// dialing of servers that are not known.
func NewDialer(address string, o Options) (*Dialer, error) {
	a, err := ParseAddress(address)
	if err != nil {
		return nil, err
	}
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	if len(o.Protocols) == 0 {
		o.Protocols = []string{ProtocolLane}
	}
	d := &Dialer{addr: a, opts: o, turn: make(chan struct{}, 1)}
	switch err = o.checkFor(a); {
	case err != nil:
	case a.onePipe() && o.RootCAs != nil && o.ServerName == "":
		err = fault.New("tls options", fault.Invalid, "RootCAs need a ServerName to verify, and %s has no host to take it from", a.String())
	case a.Proves():
		d.tls, err = o.clientConfig(a.Host)
	case a.Scheme == InMemory && o.Pipe == nil:
		err = fault.New("pipe options", fault.Invalid, `"pipe:" leads nowhere: set Pipe to one made by NewPipe`)
	}
	if err == nil && (a.Scheme == TCP || a.Scheme == TLS) && a.Host == "" {
		err = badAddress(address, "no host to dial")
	}
	if err != nil {
		return nil, fault.Wrap("new dialer", address, err)
	}
	return d, nil
}

// Address is where the dialer leads.
func (d *Dialer) Address() Address { return d.addr }

// Single reports whether only one connection can exist at a time: pipes. While it does,
// Dial fails with Overloaded.
func (d *Dialer) Single() bool { return d.addr.Single() }

// Dial makes a connection. It is a Conn; over tls it also has
// ConnectionState() tls.ConnectionState, and Conn.Protocol says what the server
// picked. It takes at most HandshakeTimeout.
//
// Errors: Unauthenticated (the server did not prove the right key), Unsupported
// (it speaks another protocol), Refused of the peer (it sent an alert), Lost,
// NotFound, Deadline, Canceled. That the server refuses this node's key shows at the first Read.
func (d *Dialer) Dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.opts.HandshakeTimeout)
	defer cancel()
	if d.addr.Scheme == InMemory {
		return d.opts.Pipe.Dial(ctx)
	}
	c, err := d.connect(ctx)
	if err != nil {
		return nil, d.failure(ctx, err)
	}
	plain := newPlain(c)
	if d.tls == nil {
		return plain, nil
	}
	raw := newBatcher(plain)
	client := tls.Client(raw, d.tls)
	if err := client.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		err = d.failure(ctx, err)
		if f := new(fault.Error); errors.As(err, &f) {
			switch f.Kind {
			case fault.Internal:
				f.Kind = fault.Protocol // crypto/tls has no type for what is no handshake
			case fault.Lost:
				f.Advice = "it ended in the TLS handshake: where the peer listens at tcp://, dial that"
			}
		}
		return nil, err
	}
	return newTLS(client, raw), nil
}

// connect makes the connection that tls is spoken over, if it is.
func (d *Dialer) connect(ctx context.Context) (HalfCloser, error) {
	if d.addr.onePipe() {
		return d.connectOnePipe(ctx)
	}
	network, address := d.addr.target()
	nd := net.Dialer{Control: loopback.Control}
	c, err := nd.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return c.(HalfCloser), nil
}

// connectOnePipe does not touch the pipe once ctx has ended: stdio has one connection only.
func (d *Dialer) connectOnePipe(ctx context.Context) (HalfCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case d.turn <- struct{}{}:
	default:
		return nil, fault.New("open pipe", fault.Overloaded, "a pipe has one connection at a time")
	}
	if d.used {
		<-d.turn
		return nil, fault.New("open stdio", fault.Lost, "%w", errOver)
	}
	c, err := openOnePipe(ctx, d.addr, d.opts, false)
	d.used = d.addr.Scheme == Stdio && !errors.Is(err, errTerminal)
	if err != nil {
		<-d.turn
		return nil, err
	}
	withTurn(c, d.turn)
	switch {
	case d.addr.Scheme == FIFO || d.addr.Scheme == TTY:
		return c, nil
	case d.tls != nil:
		return &prologue{fileConn: c, begins: beginsTLS}, nil
	case d.opts.speaks(ProtocolLane):
		return &prologue{fileConn: c, begins: beginsLane}, nil
	}
	return c, nil
}

// failure prefers the reason of ctx: a cancelled dial fails in many ways.
func (d *Dialer) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return failure("dial", d.addr.String(), err)
}
