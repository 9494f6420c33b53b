package ftp

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
	"sync"

	"github.com/pannier/pannier/spec/fault"
)

// tickets hands the TLS session of a control connection to its data connections: servers
// as vsftpd refuse one that begins a session of its own. Sessions of data connections are
// not kept, because servers as proftpd compare with the control connection's.
type tickets struct {
	mu   sync.Mutex
	last *tls.ClientSessionState
}

func (t *tickets) get() (*tls.ClientSessionState, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last, t.last != nil
}

type controlTickets struct{ *tickets }

func (controlTickets) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

func (t controlTickets) Put(_ string, s *tls.ClientSessionState) {
	if s == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = s
}

type dataTickets struct{ *tickets }

func (t dataTickets) Get(string) (*tls.ClientSessionState, bool) { return t.get() }
func (dataTickets) Put(string, *tls.ClientSessionState)          {}

// parsePins reads SHA-256 of certificates in hexadecimal, separated by commas.
func parsePins(text string) ([][]byte, error) {
	var pins [][]byte
	for _, s := range strings.Split(text, ",") {
		s = strings.NewReplacer(":", "", " ", "").Replace(strings.TrimPrefix(s, "sha256:"))
		pin, err := hex.DecodeString(s)
		if err != nil || len(pin) != sha256.Size {
			return nil, fault.New("ftp option pin", fault.Invalid, "%s is no SHA-256 in hexadecimal", fault.Shown(s))
		}
		pins = append(pins, pin)
	}
	return pins, nil
}

// security is the TLS configuration for a host: certificates are those of the system, of
// a file, or the pinned ones and no others.
func security(host string, roots *x509.CertPool, pins [][]byte) *tls.Config {
	t := &tls.Config{ServerName: host, RootCAs: roots, MinVersion: tls.VersionTLS12}
	if pins != nil {
		t.InsecureSkipVerify = true // instead: the certificate is a pinned one
		t.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return fault.New("ftp certificate", fault.Unauthenticated, "the server has none")
			}
			sum := sha256.Sum256(s.PeerCertificates[0].Raw)
			if !slices.ContainsFunc(pins, func(p []byte) bool { return string(p) == string(sum[:]) }) {
				return fault.New("ftp certificate", fault.Unauthenticated, "the server's has SHA-256 %s, which is not pinned", fault.Shown(hex.EncodeToString(sum[:])))
			}
			return nil
		}
	}
	return t
}
