package admin

import (
	"context"
	"io/fs"
	"net"
	"os"
	"slices"

	"google.golang.org/grpc/credentials"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// Access says who may use the socket: the user of this process, root, and
// those named here. The zero value is the default.
type Access struct {
	Mode  fs.FileMode // of the socket's file; default 0600
	Users []int       // user ids, beside the process's own and 0
}

// Listener is a socket for Serve. Who calls is known by what the kernel says
// of the connection (SO_PEERCRED), not by the mode alone: that is for who may
// try.
type Listener struct {
	net.Listener
	access Access
}

// Listen opens "unix:///path". A socket that a dead process has left is
// replaced; a live one is fault.Exists. Anything but a unix socket is fault.Invalid.
func Listen(address string, a Access) (*Listener, error) {
	at, err := carrier.ParseAddress(address)
	if err != nil {
		return nil, err
	}
	if at.Scheme != carrier.Unix {
		return nil, fault.New("listen", fault.Invalid, "the admin service has unix sockets only: write unix:///path")
	}
	if a.Mode == 0 {
		a.Mode = 0o600
	}
	l, err := carrier.ListenUnix(at.Path, a.Mode)
	if err != nil {
		return nil, fault.Wrap("listen", address, err)
	}
	return &Listener{l, a}, nil
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	uid := carrier.PeerUID(c)
	return &userConn{c, user{uid, l.access.Allows(uid)}}, nil
}

// Allows reports whether that user may call. Where the system does not say who
// it is, the mode decides, if it lets nobody but the owner through.
func (a Access) Allows(uid int) bool {
	if uid < 0 {
		return a.Mode&^0o600 == 0
	}
	return uid == 0 || uid == os.Geteuid() || slices.Contains(a.Users, uid)
}

// userConn is a connection of a known user.
type userConn struct {
	net.Conn
	user user
}

// user is who calls. It implements credentials.AuthInfo.
type user struct {
	uid     int
	allowed bool
}

func (user) AuthType() string { return "unix user" }

// userCredentials tell the calls of a connection whose it is. They let everyone
// connect: a call can be told why it is refused.
type userCredentials struct{}

func (userCredentials) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	u, ok := c.(*userConn)
	if !ok {
		return nil, nil, fault.New("admin service", fault.Internal, "a %T is not of Listen", c)
	}
	return c, u.user, nil
}

func (userCredentials) ClientHandshake(_ context.Context, _ string, _ net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, fault.New("admin service", fault.Unsupported, "these are a server's")
}

func (userCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix user"}
}

func (c userCredentials) Clone() credentials.TransportCredentials { return c }
func (userCredentials) OverrideServerName(string) error           { return nil }
