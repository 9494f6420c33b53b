package httpd

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// TestOwn: who takes Ed25519 is shown the node's certificate, and a browser, which does not, one
// that it takes, and the same after a restart.
func TestOwn(t *testing.T) {
	id, err := carrier.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	program := &tls.ClientHelloInfo{SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.Ed25519}}
	browser := &tls.ClientHelloInfo{SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256}}
	path := filepath.Join(t.TempDir(), "http.pem")
	var shown []byte
	for range 2 {
		cert, print, err := Own(id.Certificate(), path)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := cert(program); err != nil || !bytes.Equal(c.Certificate[0], id.Certificate().Certificate[0]) {
			t.Errorf("a program: %v", err)
		}
		c, err := cert(browser)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || len(leaf.DNSNames) != 2 || len(print) != len("sha256:")+64 {
			t.Errorf("%T for %q, %s", leaf.PublicKey, leaf.DNSNames, print)
		}
		if shown != nil && !bytes.Equal(shown, leaf.Raw) {
			t.Error("it is another one after a restart")
		}
		shown = leaf.Raw
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Own(id.Certificate(), path); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("a broken file: %v", err)
	}
}

// TestOwnNames: there is a certificate whatever the host is called.
func TestOwnNames(t *testing.T) {
	for host, names := range map[string]int{"hosta.example": 2, "": 1, "é": 1, "a b": 1, "(none)": 2, "a\nb": 1} {
		text, err := newCertificate(host)
		if err != nil {
			t.Errorf("%q: %v", host, err)
			continue
		}
		pair, err := tls.X509KeyPair(text, text)
		if err != nil || len(pair.Leaf.DNSNames) != names {
			t.Errorf("%q: %v", host, err)
		}
	}
}

// TestOwnTaken: a node with a key that browsers take has one certificate, and no file of another.
func TestOwnTaken(t *testing.T) {
	text, err := newCertificate("hosta.example")
	if err != nil {
		t.Fatal(err)
	}
	node, err := tls.X509KeyPair(text, text)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "http.pem")
	cert, _, err := Own(node, path)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := cert(&tls.ClientHelloInfo{SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}}); err != nil || !bytes.Equal(c.Certificate[0], node.Certificate[0]) {
		t.Errorf("another one: %v", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("there is one for browsers: %v", err)
	}
}
