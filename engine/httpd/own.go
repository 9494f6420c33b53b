package httpd

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/statefile"
	"github.com/pannier/pannier/spec/fault"
)

// Own is the certificate of a node that was given none for HTTP: its own, which programs know
// by its key; and for callers that do not take Ed25519, as no browser does, one of P-256, which is
// kept in a file of the state directory, so that a browser that was told to trust it goes on to.
// It is made when there is no such file. The text is the fingerprint of what browsers are shown,
// as they show it: the SHA-256 of the whole certificate.
func Own(node tls.Certificate, path string) (Certificate, string, error) {
	if _, ok := node.PrivateKey.(ed25519.PrivateKey); !ok {
		return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &node, nil }, fingerprint(node), nil
	}
	text, err := statefile.Read(path)
	if err != nil {
		return nil, "", err
	}
	if text == nil {
		host, _ := os.Hostname() // one without a name does without
		if text, err = newCertificate(host); err != nil {
			return nil, "", fault.Wrap("make certificate", path, err)
		}
		if err := statefile.Write(path, text); err != nil {
			return nil, "", err
		}
	}
	other, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, "", fault.New("read certificate", fault.Corrupt, "%s: %v; without the file another one is made", path, err)
	}
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if slices.Contains(hello.SignatureSchemes, tls.Ed25519) {
			return &node, nil
		}
		return &other, nil
	}, fingerprint(other), nil
}

func fingerprint(c tls.Certificate) string {
	sum := sha256.Sum256(c.Certificate[0])
	return "sha256:" + hex.EncodeToString(sum[:])
}

// newCertificate is a key and a certificate for it, in PEM. It has the host's name, for who makes
// an authority of it, if a certificate can have that name, and no end that anybody would have to
// think of.
func newCertificate(host string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // browsers refuse another one of the same issuer and number
	if err != nil {
		return nil, err
	}
	names := []string{"localhost"}
	if host != "" && !strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' }) {
		names = append(names, host)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "pannier"}, DNSNames: names,
		NotBefore: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: private})
	if err == nil {
		err = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return b.Bytes(), err
}
