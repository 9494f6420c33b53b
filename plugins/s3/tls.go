package s3

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// parsePins reads SHA-256 of certificates in hexadecimal, separated by commas.
func parsePins(text string) ([][]byte, error) {
	var pins [][]byte
	for _, s := range strings.Split(text, ",") {
		s = strings.NewReplacer(":", "", " ", "").Replace(strings.TrimPrefix(s, "sha256:"))
		pin, err := hex.DecodeString(s)
		if err != nil || len(pin) != sha256.Size {
			return nil, fault.New("s3 option pin", fault.Invalid, "%s is no SHA-256 in hexadecimal", fault.Shown(s))
		}
		pins = append(pins, pin)
	}
	return pins, nil
}

// security is the TLS configuration: certificates are those of the system, of
// a file, or the pinned ones and no others.
func security(roots *x509.CertPool, pins [][]byte) *tls.Config {
	t := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if pins != nil {
		t.InsecureSkipVerify = true // instead: the certificate is a pinned one
		t.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return fault.New("s3 certificate", fault.Unauthenticated, "the server has none")
			}
			sum := sha256.Sum256(s.PeerCertificates[0].Raw)
			if !slices.ContainsFunc(pins, func(p []byte) bool { return string(p) == string(sum[:]) }) {
				return fault.New("s3 certificate", fault.Unauthenticated, "the server's has SHA-256 %s, which is not pinned", fault.Shown(hex.EncodeToString(sum[:])))
			}
			return nil
		}
	}
	return t
}
