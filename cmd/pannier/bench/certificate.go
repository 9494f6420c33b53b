package bench

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// serverName is what the certificate of the raw-tls baseline is for.
const serverName = "bench.pannier.invalid"

// certificateLife is longer than any benchmark.
const certificateLife = 24 * time.Hour

func certificatePath(dir string) string { return filepath.Join(dir, "certificate.pem") }
func keyPath(dir string) string         { return filepath.Join(dir, "key.pem") }

// writeCertificate puts a new key and its self-signed certificate into the
// workspace, where both ends find them.
func writeCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fault.Wrap("make key", "", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{serverName},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return fault.Wrap("make certificate", "", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fault.Wrap("make key", "", err)
	}
	if err := writePEM(certificatePath(dir), "CERTIFICATE", cert); err != nil {
		return err
	}
	return writePEM(keyPath(dir), "PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	return fault.Wrap("write certificate", path, os.WriteFile(path, text, 0o600))
}

func serverTLS(job Job) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(certificatePath(job.Dir), keyPath(job.Dir))
	if err != nil {
		return nil, fault.Wrap("load certificate", job.Dir, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}, nil
}

func clientTLS(job Job) (*tls.Config, error) {
	text, err := os.ReadFile(certificatePath(job.Dir))
	if err != nil {
		return nil, fault.Wrap("load certificate", job.Dir, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fault.New("load certificate", fault.Corrupt, "no certificate in %s", certificatePath(job.Dir))
	}
	return &tls.Config{RootCAs: roots, ServerName: serverName, MinVersion: tls.VersionTLS13}, nil
}
