package httpd

import (
	"crypto/tls"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// Certificate is what the server proves itself with at tls addresses. It is asked at
// each connection.
type Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// Listen opens "unix:///path" or "tls://host:port". Anything else is fault.Invalid:
// tokens would travel in the clear.
func (s *Server) Listen(address string, cert Certificate) error {
	at, err := carrier.ParseAddress(address)
	if err != nil {
		return err
	}
	var l net.Listener
	switch {
	case at.Scheme == carrier.Unix:
		if l, err = carrier.ListenUnix(at.Path, 0o600); err == nil {
			l = unixListener{l}
		}
	case at.Scheme == carrier.TLS && cert != nil:
		if l, err = net.Listen("tcp", net.JoinHostPort(at.Host, at.Port)); err == nil {
			l = tls.NewListener(newBounded(l, s.conns), &tls.Config{
				MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"},
				GetCertificate: cert,
			})
		}
	default:
		return fault.New("listen", fault.Invalid, "%q: HTTP is spoken at unix:///path and tls://host:port only", address)
	}
	if err != nil {
		return fault.Wrap("listen", address, err)
	}
	s.Add(l)
	return nil
}

// unixListener notes who connects.
type unixListener struct{ net.Listener }

func (l unixListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &unixConn{c, carrier.PeerUID(c)}, nil
}

type unixConn struct {
	net.Conn
	uid int
}

// Files is the certificate of two PEM files, read again when one of them has changed, as
// after a renewal. Files that cannot be read then leave the certificate as it was.
func Files(cert, key string) (Certificate, error) {
	f := &files{cert: cert, key: key}
	if _, err := f.get(nil); err != nil {
		return nil, err
	}
	return f.get, nil
}

type files struct {
	cert, key string

	mu     sync.Mutex
	now    *tls.Certificate
	stamps [2]time.Time
}

func (f *files) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stamps := [2]time.Time{changed(f.cert), changed(f.key)}
	if f.now != nil && stamps == f.stamps {
		return f.now, nil
	}
	if fi, err := os.Stat(f.key); err == nil && fi.Mode().Perm()&0o007 != 0 && f.now == nil {
		return nil, fault.New("read certificate", fault.Permission, "everyone may read %s, which has mode %04o: chmod 0600 it", f.key, fi.Mode().Perm()&fs.ModePerm)
	}
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		if f.now != nil {
			return f.now, nil
		}
		return nil, fault.New("read certificate", fault.Invalid, "%s, %s: %v", f.cert, f.key, err)
	}
	f.now, f.stamps = &c, stamps
	return f.now, nil
}

func changed(path string) time.Time {
	fi, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return fi.ModTime()
}
