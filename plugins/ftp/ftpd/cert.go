package ftpd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"log/slog"
	"math/big"
	"os"
	"sync"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// files are a certificate and its key, which are read again when they have changed.
type files struct {
	cert, key string

	mu    sync.Mutex
	last  *tls.Certificate
	times [2]time.Time
}

// changed says whether the files are others than at the last call.
func (f *files) changed() bool {
	var now [2]time.Time
	for i, name := range []string{f.cert, f.key} {
		if fi, err := os.Stat(name); err == nil {
			now[i] = fi.ModTime()
		}
	}
	was := f.times
	f.times = now
	return was != now
}

// get is the certificate. While the files make no sense, as when one of them has been
// replaced, it is the one before.
func (f *files) get() (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.changed() && f.last != nil {
		return f.last, nil
	}
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err == nil {
		f.last = &c
		announce(&c, false)
		return f.last, nil
	}
	if fault.KindOf(err) == fault.Internal { // package tls says no kinds
		err = fault.New("read certificate", fault.Invalid, "%w", err)
	}
	if f.last != nil {
		slog.Warn("FTP goes on with the certificate that it has", "error", err)
		return f.last, nil
	}
	return nil, fault.Wrap("ftp server option cert", f.cert, err)
}

// announce has the certificate's SHA-256 in the log, for those who pin it.
func announce(c *tls.Certificate, selfMade bool) {
	sum := sha256.Sum256(c.Certificate[0])
	slog.Info("FTP's certificate", "sha256", hex.EncodeToString(sum[:]), "self-made", selfMade)
}

// selfMade is a certificate that nobody has signed.
func selfMade() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fault.Wrap("make certificate", "", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "ftp"}, DNSNames: []string{"ftp"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fault.Wrap("make certificate", "", err)
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	announce(c, true)
	return c, nil
}
