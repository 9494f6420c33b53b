// Package testcert makes certificates for servers of tests. Each is its own authority, so that
// whoever trusts its file trusts the server.
package testcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Cert is a certificate, in files that only this user may read.
type Cert struct {
	File   string      // the certificate: cert.pem
	Key    string      // its key: key.pem
	Both   string      // the key, and behind it the certificate: both.pem
	Pin    string      // SHA-256 of the certificate, in hex
	Server *tls.Config // of a server that has it
}

// New makes one in a directory, for a day and for these host names and addresses.
func New(t testing.TB, dir string, hosts ...string) *Cert {
	t.Helper()
	return Until(t, dir, time.Now().Add(24*time.Hour), hosts...)
}

// Until is New with another end.
func Until(t testing.TB, dir string, end time.Time, hosts ...string) *Cert {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if end.Before(begin) {
		begin = end
	}
	is := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: begin.Add(-time.Hour), NotAfter: end,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			is.IPAddresses = append(is.IPAddresses, ip)
		} else {
			is.DNSNames = append(is.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, is, is, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	sum := sha256.Sum256(der)
	c := &Cert{
		File: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), Both: filepath.Join(dir, "both.pem"), Pin: hex.EncodeToString(sum[:]),
		Server: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
	}
	if err := errors.Join(os.WriteFile(c.File, public, 0o600), os.WriteFile(c.Key, private, 0o600), os.WriteFile(c.Both, append(private, public...), 0o600)); err != nil {
		t.Fatal(err)
	}
	return c
}
