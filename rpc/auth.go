package rpc

import (
	"context"
	"crypto/tls"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
)

// AuthInfo is what peer.FromContext tells about a connection that belongs to a
// session, at both ends. Connections without a session have
// credentials.TLSInfo, or an AuthInfo that tells only how private they are.
type AuthInfo struct {
	// TLSInfo has the security level of the connection, and its TLS state
	// where the carrier is TLS. Unix sockets and pipes count as private, as
	// in gRPC's local credentials.
	credentials.TLSInfo
	// Session is the session; side effects of the connection's calls run on it.
	Session *flow.Session

	carrier string // "tls", "unix", "pipe", "tcp"
}

// AuthType names the carrier: "tls", "unix", "pipe" or "tcp".
func (a AuthInfo) AuthType() string { return a.carrier }

// ValidateAuthority implements credentials.AuthorityValidator: over TLS with
// names the certificate decides; a pinned key or a local peer may be called
// anything.
func (a AuthInfo) ValidateAuthority(authority string) error {
	if certs := a.State.PeerCertificates; len(certs) > 0 && len(a.State.VerifiedChains) > 0 {
		return a.TLSInfo.ValidateAuthority(authority)
	}
	return nil
}

// sessionConn is a connection of a session that belongs to gRPC.
type sessionConn struct {
	net.Conn
	session *flow.Session
	closed  context.CancelFunc // may be nil
}

func (c sessionConn) Close() error {
	if c.closed != nil {
		c.closed()
	}
	return c.Conn.Close()
}

// passThrough are the transport credentials of connections that are already
// secured, or not, by their carrier: they only say what they are.
type passThrough struct {
	scheme string
	guard  *guard // of a server
}

// Info says "tls" where per-RPC credentials may be sent, "insecure" where gRPC
// shall refuse them.
func (p passThrough) Info() credentials.ProtocolInfo {
	switch p.scheme {
	case carrier.TLS:
		return credentials.ProtocolInfo{SecurityProtocol: "tls"}
	case carrier.Unix, carrier.InMemory:
		return credentials.ProtocolInfo{SecurityProtocol: "local"}
	}
	return credentials.ProtocolInfo{SecurityProtocol: "insecure"}
}

// Clone implements credentials.TransportCredentials.
func (p passThrough) Clone() credentials.TransportCredentials { return p }

// OverrideServerName implements credentials.TransportCredentials; names are
// the carrier's business.
func (passThrough) OverrideServerName(string) error { return nil }

// ClientHandshake implements credentials.TransportCredentials.
func (p passThrough) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return p.describe(conn)
}

// ServerHandshake implements credentials.TransportCredentials.
func (p passThrough) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := p.describe(conn)
	if err != nil {
		return nil, nil, err
	}
	return p.guard.watch(conn, info), info, nil
}

func (p passThrough) describe(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	var session *flow.Session
	inner := conn
	if s, ok := conn.(sessionConn); ok {
		inner, session = s.Conn, s.session
		if c, ok := inner.(*flow.RPCConn); ok {
			inner = c.Conn
		}
	}
	info := AuthInfo{Session: session, carrier: carrierOf(inner, session)}
	info.SecurityLevel = levelOf(info.carrier)
	if c, ok := inner.(interface{ ConnectionState() tls.ConnectionState }); ok {
		info.State = c.ConnectionState()
	}
	switch {
	case session != nil:
		return conn, info, nil
	case info.carrier == carrier.TLS:
		return conn, info.TLSInfo, nil // what interceptors of stock gRPC expect
	case info.SecurityLevel == credentials.NoSecurity:
		return conn, plainInfo{info.CommonAuthInfo, "insecure"}, nil
	}
	return conn, plainInfo{info.CommonAuthInfo, "local"}, nil
}

// plainInfo is the AuthInfo of an ordinary gRPC connection without TLS.
type plainInfo struct {
	credentials.CommonAuthInfo
	kind string
}

func (i plainInfo) AuthType() string             { return i.kind }
func (plainInfo) ValidateAuthority(string) error { return nil }

func carrierOf(conn net.Conn, s *flow.Session) string {
	if _, ok := conn.(interface{ ConnectionState() tls.ConnectionState }); ok {
		return carrier.TLS
	}
	if a := conn.RemoteAddr(); a != nil && (a.Network() == carrier.Unix || a.Network() == carrier.InMemory) {
		return a.Network()
	}
	if s == nil {
		return carrier.TCP
	}
	// A byte stream of a single-pipe session is as private as the session.
	switch p := s.Peer(); {
	case p.Local:
		return carrier.InMemory
	case p.Key != "":
		return carrier.TLS
	}
	return carrier.TCP
}

func levelOf(scheme string) credentials.SecurityLevel {
	if scheme == carrier.TCP {
		return credentials.NoSecurity
	}
	return credentials.PrivacyAndIntegrity
}

// proved is who a connection's peer proved to be: its key ("" unknown) and the
// user of its process (-1 unknown).
func proved(info credentials.AuthInfo) (key string, uid int) {
	switch a := info.(type) {
	case AuthInfo:
		if a.Session != nil {
			peer := a.Session.Peer()
			return peer.Key, peer.UID
		}
	case credentials.TLSInfo:
		if len(a.State.PeerCertificates) > 0 {
			return carrier.KeyOf(a.State.PeerCertificates[0]), -1
		}
	}
	return "", -1
}

// identify is proved for the peer of a call.
func identify(ctx context.Context) (key string, uid int) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", -1
	}
	return proved(p.AuthInfo)
}

// sessionOf is the session that a call came over, nil for ordinary gRPC.
func sessionOf(ctx context.Context) *flow.Session {
	if p, ok := peer.FromContext(ctx); ok {
		if a, ok := p.AuthInfo.(AuthInfo); ok {
			return a.Session
		}
	}
	return nil
}
