package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Client is a daemon's service. Errors of its calls, streams included, are as
// FromStatus has them.
type Client struct {
	adminpb.AdminClient
	address string
	conn    *grpc.ClientConn
	failed  atomic.Pointer[error] // of the last try to connect
	another atomic.Pointer[error] // why the last that answered is not the daemon that was meant; nil: it is
}

// again is when a daemon that has gone is looked for again: it is on this host, and
// back as soon as its manager has started it.
var again = backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}

// Dial makes a client of the daemon at "unix:///path". It connects with the
// first call, which fails at once with *Unreachable when nobody answers there.
func Dial(address string) (*Client, error) { return DialWith(address, Proof{}) }

// Proof is what a client and a daemon that is elsewhere know each other by.
type Proof struct {
	Token string // of the client
	Key   string // of the daemon's certificate, "sha256:..."; empty: an authority that this host trusts has signed it
}

// DialWith is Dial, and for "tls://host:port" a client of a node's HTTP server.
func DialWith(address string, p Proof) (*Client, error) {
	const op = "dial daemon"
	at, err := carrier.ParseAddress(address)
	if err != nil {
		return nil, err
	}
	c := &Client{address: address}
	var options []grpc.DialOption
	switch {
	case at.Scheme == carrier.Unix:
		options = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.dial(ctx, "unix", at.Path) })}
	case at.Scheme != carrier.TLS:
		return nil, fault.New(op, fault.Invalid, "%q: a daemon is called at unix:///path, or with a token at tls://host:port", address)
	case p.Token == "":
		return nil, fault.New(op, fault.Invalid, "%s is called with a token: name its file, which only you can read, with --token-file or PANNIER_TOKEN_FILE", address)
	default:
		secure, err := tlsOf(at.Host, p.Key)
		if err != nil {
			return nil, err
		}
		options = []grpc.DialOption{grpc.WithTransportCredentials(&proving{credentials.NewTLS(secure), &c.another}), grpc.WithPerRPCCredentials(bearer(p.Token)),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return c.dial(ctx, "tcp", net.JoinHostPort(at.Host, at.Port))
			})}
	}
	c.conn, err = grpc.NewClient("passthrough:"+address, append(options, grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: connectTime}),
		grpc.WithChainUnaryInterceptor(c.unary), grpc.WithChainStreamInterceptor(c.stream))...)
	if err != nil {
		return nil, fault.Wrap("dial daemon", address, err)
	}
	c.AdminClient = adminpb.NewAdminClient(c.conn)
	return c, nil
}

// connectTime is how long one try to connect may take at least.
const connectTime = 5 * time.Second

// tlsOf is how a daemon proves itself: by its key, or as the host of its name.
func tlsOf(host, key string) (*tls.Config, error) {
	c := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS13}
	if key == "" {
		return c, nil
	}
	pins, err := carrier.ParsePins(key)
	if err != nil {
		return nil, err
	}
	c.InsecureSkipVerify = true // the key says more than a name
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 || !slices.Contains(pins, carrier.KeyOf(s.PeerCertificates[0])) {
			return fault.New("check daemon", fault.Unauthenticated, "it has another key than %s", key)
		}
		return nil
	}
	return c, nil
}

// proving notes why a daemon could not prove itself: gRPC tells it as text only.
type proving struct {
	credentials.TransportCredentials
	another *atomic.Pointer[error]
}

func (p *proving) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := p.TransportCredentials.ClientHandshake(ctx, authority, conn)
	var untrusted *tls.CertificateVerificationError
	if err != nil && (errors.As(err, &untrusted) || errors.Is(err, fault.Unauthenticated)) {
		p.another.Store(&err)
	} else {
		p.another.Store(nil)
	}
	return secure, info, err
}

func (p *proving) Clone() credentials.TransportCredentials {
	return &proving{p.TransportCredentials.Clone(), p.another}
}

// bearer is the token of each call. It travels over TLS only.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

// Close ends all calls.
func (c *Client) Close() error { return fault.Wrap("close connection", c.address, c.conn.Close()) }

func (c *Client) dial(ctx context.Context, network, to string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, to)
	if err != nil {
		c.failed.Store(&err)
	} else {
		c.failed.Store(nil)
	}
	return conn, err
}

// fault is FromStatus, with what the system said when nobody could be reached.
// A socket of somebody else is Permission, a daemon that is not the one that was meant
// Unauthenticated.
func (c *Client) fault(err error) error {
	err = FromStatus(err)
	var u *Unreachable
	if !errors.As(err, &u) {
		return err
	}
	u.Fault.Subject = c.address
	if p := c.another.Load(); p != nil {
		e := fault.New("prove daemon", fault.Unauthenticated, "%w", *p)
		e.Subject = c.address
		return e
	}
	if p := c.failed.Load(); p != nil {
		var op *net.OpError
		if errors.As(*p, &op) {
			u.Fault.Err = op.Err // without the path again
		}
		if errors.Is(*p, fs.ErrPermission) {
			u.Fault.Kind = fault.Permission
			return u.Fault
		}
	}
	return err
}

func (c *Client) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
	return c.fault(invoke(ctx, method, req, reply, cc, o...))
}

func (c *Client) stream(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, d, cc, method, o...)
	if err != nil {
		return nil, c.fault(err)
	}
	return &clientStream{s, c}, nil
}

// clientStream is a stream whose errors are faults.
type clientStream struct {
	grpc.ClientStream
	c *Client
}

func (s *clientStream) RecvMsg(m any) error { return s.c.fault(s.ClientStream.RecvMsg(m)) }
func (s *clientStream) SendMsg(m any) error { return s.c.fault(s.ClientStream.SendMsg(m)) }
