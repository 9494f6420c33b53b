package carrier

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/pannier/pannier/spec/fault"
)

// Dialer makes connections to one address. It implements flow.Dialer and may
// be used concurrently.
type Dialer struct {
	addr Address
	opts Options
	tls  *tls.Config // nil unless addr.Scheme is TLS
}

// NewDialer checks address and options and makes a Dialer; it does not dial. A
// tls address needs an Identity for lanes, and Pins or RootCAs: there is no
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
	d := &Dialer{addr: a, opts: o}
	switch err = o.checkFor(a); {
	case err != nil:
	case a.Scheme == TLS:
		d.tls, err = o.clientConfig(a.Host)
	case a.Scheme == InMemory && o.Pipe == nil:
		err = fault.New("pipe options", fault.Invalid, `"pipe:" leads nowhere: set Pipe to one made by NewPipe`)
	}
	if err == nil && a.Scheme != Unix && a.Scheme != InMemory && a.Host == "" {
		err = badAddress(address, "no host to dial")
	}
	if err != nil {
		return nil, fault.Wrap("new dialer", address, err)
	}
	return d, nil
}

// Address is where the dialer leads.
func (d *Dialer) Address() Address { return d.addr }

// Single reports whether only one connection can exist at a time: pipes.
func (d *Dialer) Single() bool { return d.addr.Scheme == InMemory }

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
	network, address := d.addr.target()
	var nd net.Dialer
	c, err := nd.DialContext(ctx, network, address)
	if err != nil {
		return nil, d.failure(ctx, err)
	}
	plain := newPlain(c.(halfCloser))
	if d.tls == nil {
		return plain, nil
	}
	raw := newBatcher(plain)
	client := tls.Client(raw, d.tls)
	if err := client.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, d.failure(ctx, err)
	}
	return newTLS(client, raw), nil
}

// failure prefers the reason of ctx: a cancelled dial fails in many ways.
func (d *Dialer) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return failure("dial", d.addr.String(), err)
}
