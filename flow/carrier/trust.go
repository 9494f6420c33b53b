package carrier

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Nothing here resumes tls sessions: connections are few and long, and a
// ticket would carry a decision made under older pins. Should one be resumed all the
// same, VerifyConnection still asks for the key, because it runs on every handshake.

// clientConfig is the tls.Config of a dialer. Trust is pins, or roots, or both.
func (o Options) clientConfig(host string) (*tls.Config, error) {
	if len(o.Pins) == 0 && o.RootCAs == nil {
		return nil, fault.New("tls options", fault.Invalid, "nothing says which server is the right one: set Pins to its key, or RootCAs to the authority of its certificate")
	}
	if o.Identity == nil && o.speaks(ProtocolLane) {
		return nil, fault.New("tls options", fault.Invalid, "lanes need an Identity: the server asks for our key")
	}
	cfg := &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		NextProtos:                  o.Protocols,
		ServerName:                  host,
		RootCAs:                     o.RootCAs,
		InsecureSkipVerify:          o.RootCAs == nil, // VerifyConnection checks the pin instead
		VerifyConnection:            o.verifyServer,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	}
	if o.ServerName != "" {
		cfg.ServerName = o.ServerName
	}
	if o.Identity != nil {
		cert := o.Identity.Certificate()
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return cfg, nil
}

func (o Options) verifyServer(s tls.ConnectionState) error {
	key, err := provenKey(s)
	switch {
	case err != nil:
		return err
	case len(o.Pins) > 0 && !o.Pins.Has(key):
		return refusal(key, "the server has another key than the pinned ones")
	case !o.speaks(s.NegotiatedProtocol):
		return fault.New("tls handshake", fault.Unsupported, "the server speaks none of %q", o.Protocols)
	}
	return nil
}

// serverConfig is the tls.Config of a listener: for each client the one of the protocol it offers.
func (o Options) serverConfig() (*tls.Config, error) {
	if o.Identity == nil {
		return nil, fault.New("tls options", fault.Invalid, "a tls listener needs an Identity: LoadOrCreateIdentity keeps one in a file")
	}
	lanes := o.speaks(ProtocolLane)
	if lanes && len(o.Pins) == 0 && o.AuthorizeKey == nil {
		return nil, fault.New("tls options", fault.Invalid, "nothing says whose lanes are allowed: set Pins or AuthorizeKey, or leave %q out of Protocols", ProtocolLane)
	}
	lane, http2 := o.laneConfig(), o.http2Config()
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			switch {
			case lanes && slices.Contains(hello.SupportedProtos, ProtocolLane):
				return lane, nil
			case o.speaks(ProtocolHTTP2) && slices.Contains(hello.SupportedProtos, ProtocolHTTP2):
				return http2, nil
			}
			return nil, fault.New("tls handshake", fault.Unsupported, "the client speaks none of %q", o.Protocols)
		},
	}, nil
}

func (o Options) laneConfig() *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		Certificates:                []tls.Certificate{o.Identity.Certificate()},
		NextProtos:                  []string{ProtocolLane},
		ClientAuth:                  tls.RequireAnyClientCert, // whose key VerifyConnection checks
		VerifyConnection:            o.verifyLane,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	}
}

func (o Options) verifyLane(s tls.ConnectionState) error {
	key, err := provenKey(s)
	switch {
	case err != nil:
		return err
	case o.Pins.Has(key):
		return nil
	case o.AuthorizeKey == nil:
		return stranger{refusal(key, "the client's key is not among the pinned ones"), key}
	}
	if err := o.AuthorizeKey(key); err != nil {
		return stranger{fault.Wrap("authorize key", key, err), key}
	}
	return nil
}

func (o Options) http2Config() *tls.Config {
	cfg := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           o.GRPCCertificates,
		NextProtos:             []string{ProtocolHTTP2},
		ClientAuth:             o.GRPCClientAuth,
		ClientCAs:              o.ClientCAs,
		SessionTicketsDisabled: true,
	}
	if len(cfg.Certificates) == 0 {
		cfg.Certificates = []tls.Certificate{o.Identity.Certificate()}
	}
	if o.GRPCClientAuth == tls.NoClientCert && o.ClientCAs != nil {
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return cfg
}

// provenKey is the key of the peer's certificate. That the peer holds its
// private key has been checked by crypto/tls, whatever else is skipped.
func provenKey(s tls.ConnectionState) (string, error) {
	if len(s.PeerCertificates) == 0 {
		return "", refusal("", "the peer has no certificate")
	}
	leaf := s.PeerCertificates[0]
	key := KeyOf(leaf)
	return key, checkValidity(leaf, key, time.Now())
}

// checkValidity is for certificates that no chain is verified for. It names
// the clock, because that is what is wrong more often than the certificate.
func checkValidity(leaf *x509.Certificate, key string, now time.Time) error {
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return refusal(key, "the peer's certificate is valid from "+leaf.NotBefore.UTC().Format(time.RFC3339)+
			" to "+leaf.NotAfter.UTC().Format(time.RFC3339)+", and this clock says "+now.UTC().Format(time.RFC3339))
	}
	return nil
}

func refusal(key, why string) error {
	e := fault.New("tls handshake", fault.Unauthenticated, "%s", why)
	e.Subject = key
	return e
}
