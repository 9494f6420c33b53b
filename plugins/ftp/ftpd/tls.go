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
	"slices"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// security is the TLS of a server, whose certificate is that of the files, or one that is
// made now. Its SHA-256 is in the log, for those who pin it.
func security(certFile, keyFile string) (*tls.Config, error) {
	var cert tls.Certificate
	var err error
	switch {
	case certFile == "" && keyFile != "":
		return nil, badOption("key", "there is no cert that it is of")
	case certFile == "":
		cert, err = selfMade()
	default:
		if keyFile == "" {
			keyFile = certFile
		}
		cert, err = tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil && fault.KindOf(err) == fault.Internal { // package tls says no kinds
			err = fault.New("read certificate", fault.Invalid, "%w", err)
		}
	}
	if err != nil {
		return nil, fault.Wrap("ftp server option cert", certFile, err)
	}
	sum := sha256.Sum256(cert.Certificate[0])
	slog.Info("FTP's certificate", "sha256", hex.EncodeToString(sum[:]), "self-made", certFile == "")
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// selfMade is a certificate that nobody has signed.
func selfMade() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "ftp"}, DNSNames: []string{"ftp"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// continuing is the TLS of one client. The tickets of its connections have its id in them,
// and a data connection that comes with one of those continues the control connection's
// session; one of another client's begins a session of its own. A control connection always
// does.
func continuing(base *tls.Config, id []byte, data bool) *tls.Config {
	t := base.Clone()
	ours := func(extra []byte) bool { return string(extra) == string(id) }
	t.WrapSession = func(cs tls.ConnectionState, s *tls.SessionState) ([]byte, error) {
		if !slices.ContainsFunc(s.Extra, ours) {
			s.Extra = append(s.Extra, id)
		}
		return base.EncryptTicket(cs, s)
	}
	t.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		s, err := base.DecryptTicket(ticket, cs)
		if err != nil || s == nil || !data || !slices.ContainsFunc(s.Extra, ours) {
			return nil, nil // a new session, then
		}
		return s, nil
	}
	return t
}
