package admin

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
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
}

// again is when a daemon that has gone is looked for again: it is on this host, and
// back as soon as its manager has started it.
var again = backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}

// Dial makes a client of the daemon at "unix:///path". It connects with the
// first call, which fails at once with *Unreachable when nobody answers there.
func Dial(address string) (*Client, error) {
	at, err := carrier.ParseAddress(address)
	if err != nil {
		return nil, err
	}
	if at.Scheme != carrier.Unix {
		return nil, fault.New("dial daemon", fault.Invalid, "%q: the daemon has unix sockets only: write unix:///path", address)
	}
	c := &Client{address: address}
	c.conn, err = grpc.NewClient("passthrough:"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: time.Second}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.dial(ctx, at.Path) }),
		grpc.WithChainUnaryInterceptor(c.unary), grpc.WithChainStreamInterceptor(c.stream))
	if err != nil {
		return nil, fault.Wrap("dial daemon", address, err)
	}
	c.AdminClient = adminpb.NewAdminClient(c.conn)
	return c, nil
}

// Close ends all calls.
func (c *Client) Close() error { return fault.Wrap("close connection", c.address, c.conn.Close()) }

func (c *Client) dial(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		c.failed.Store(&err)
	} else {
		c.failed.Store(nil)
	}
	return conn, err
}

// fault is FromStatus, with what the system said when nobody could be reached.
// A socket of somebody else is Permission.
func (c *Client) fault(err error) error {
	err = FromStatus(err)
	var u *Unreachable
	if !errors.As(err, &u) {
		return err
	}
	u.Fault.Subject = c.address
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
