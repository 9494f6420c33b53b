package plugins

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/pannier/pannier/flow/flowtest/testcert"
)

// TestHandshake: a server whose TLS is too old, or that has none of the ciphers, disagrees; one that goes away, or does not answer in
// time, does not.
func TestHandshake(t *testing.T) {
	cert := testcert.New(t, t.TempDir(), "127.0.0.1")
	as := func(change func(*tls.Config)) func(net.Conn) {
		return func(c net.Conn) {
			conf := cert.Server.Clone()
			change(conf)
			_ = tls.Server(c, conf).Handshake()
			_ = c.Close()
		}
	}
	late, cancel := context.WithCancel(t.Context())
	for name, c := range map[string]struct {
		ctx       context.Context
		serve     func(net.Conn)
		disagreed bool
	}{
		"old": {t.Context(), as(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), true},
		"no suite": {t.Context(), as(func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA}
		}), true},
		"nonsense": {t.Context(), func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1<<10))
			_, _ = c.Write([]byte{22, 3, 3, 0, 4, 2, 0, 0, 0}) // a ServerHello of nothing
			_, _ = io.Copy(io.Discard, c)                      // the client's alert, too
			_ = c.Close()
		}, true},
		"gone": {t.Context(), func(c net.Conn) { _ = c.Close() }, false},
		"reset": {t.Context(), func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1)) // or else the dialling may hear of it
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}, false},
		"late": {late, func(net.Conn) { cancel() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				if conn, err := l.Accept(); err == nil {
					c.serve(conn)
				}
			}()
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			err = tls.Client(conn, &tls.Config{ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}).HandshakeContext(c.ctx)
			if h := (Unshaken{err}); err == nil || h.Disagreed() != c.disagreed || !errors.Is(h, err) {
				t.Errorf("%v: disagreed %v", err, h.Disagreed())
			}
		})
	}
}
