package host

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// connectTo serves one end of a pair of sockets and makes a client of the other.
func connectTo(server *grpc.Server, ends [2]*net.UnixConn) (*grpc.ClientConn, error) {
	l := &single{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
	l.conn <- ends[1]
	go func() { _ = server.Serve(l) }() // ends with Stop
	return dialOver(ends[0])
}

// dialOver makes a client of a connection. There is no other, so it greets at once, since a server ends
// one that has said nothing for two minutes, and never ends it by itself because nothing was asked for long.
func dialOver(conn net.Conn) (*grpc.ClientConn, error) {
	mine := make(chan net.Conn, 1)
	mine <- conn
	cc, err := grpc.NewClient("passthrough:///driver", append(plugins.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(0),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case c := <-mine:
				return c, nil
			default:
				return nil, fault.New("connect", fault.Lost, "the driver's connection has ended")
			}
		}))...)
	if err == nil {
		cc.Connect()
	}
	return cc, err
}

// single is a listener that has one connection.
type single struct {
	conn   chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (s *single) Accept() (net.Conn, error) {
	select {
	case c := <-s.conn:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *single) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (s *single) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "driver"} }
