package carrier

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/wire"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		os.Exit(child(what))
	}
	goleak.VerifyTestMain(m)
}

func preface() []byte { return wire.Preface[:] }

func writePreface(t testing.TB, c net.Conn) {
	t.Helper()
	if _, err := c.Write(preface()); err != nil {
		t.Fatal(err)
	}
}

func readPreface(t testing.TB, c net.Conn) {
	t.Helper()
	p := make([]byte, len(wire.Preface))
	if _, err := io.ReadFull(c, p); err != nil || !bytes.Equal(p, preface()) {
		t.Fatalf("preface %q, %v", p, err)
	}
}

// running is a listener that serves, and what it handed on.
type running struct {
	*Listener
	lane, http2 chan net.Conn
}

// serve runs a listener until the test ends. Handed-on connections wait in
// channels with room for all that a test makes.
func serve(t testing.TB, address string, o Options) *running {
	t.Helper()
	l, err := Listen(address, o)
	if err != nil {
		t.Fatal(err)
	}
	l.budget.random = func() float64 { return 0.999999 } // no early drops, unless a test wants them
	r := &running{Listener: l, lane: make(chan net.Conn, 100), http2: make(chan net.Conn, 100)}
	done := make(chan error, 1)
	go func() {
		done <- l.Serve(func(c net.Conn) { r.lane <- c }, func(c net.Conn) { r.http2 <- c })
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		for len(r.lane)+len(r.http2) > 0 {
			select {
			case c := <-r.lane:
				_ = c.Close()
			case c := <-r.http2:
				_ = c.Close()
			}
		}
	})
	return r
}

func dial(t testing.TB, l *running, o Options) (net.Conn, error) {
	t.Helper()
	d, err := NewDialer(l.Address().String(), o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Dial(t.Context())
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

// rawDial connects without any of this package.
func rawDial(t testing.TB, l *running) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// halfDial connects and says the first byte of a ClientHello, or of a preface:
// who says nothing may be kept waiting by the kernel.
func halfDial(t testing.TB, l *running) *net.TCPConn {
	t.Helper()
	c, first := rawDial(t, l), preface()[:1]
	if l.tls != nil {
		first = []byte{recordHandshake}
	}
	if _, err := c.Write(first); err != nil {
		t.Fatal(err)
	}
	return c
}

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := template()
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{cert: cert, key: key, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
}

// issue gives id's key a certificate of the authority for name.
func (a *authority) issue(t testing.TB, id *Identity, name string) *Identity {
	t.Helper()
	want := template()
	want.DNSNames = []string{name}
	return recertify(t, id, want, a.cert, a.key)
}

// expired is id's key in a certificate that has run out.
func expired(t testing.TB, id *Identity) *Identity {
	t.Helper()
	want := template()
	want.NotAfter = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	return recertify(t, id, want, want, id.cert.PrivateKey)
}

func recertify(t testing.TB, id *Identity, want, parent *x509.Certificate, signer any) *Identity {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, want, parent, id.cert.Leaf.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := IdentityOf(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: id.cert.PrivateKey})
	if err != nil {
		t.Fatal(err)
	}
	return issued
}
