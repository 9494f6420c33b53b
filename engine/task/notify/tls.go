package notify

import (
	"crypto/tls"
	"crypto/x509"
	"errors"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
)

// tls is what a server has to prove: its name, by an authority of the system or of ca.
func (c common) tls(name string) (*tls.Config, error) {
	cfg := &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}
	if c.ca == "" {
		return cfg, nil
	}
	text, err := task.ReadFile(c.ca)
	if err != nil {
		return nil, err
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(text) {
		return nil, &fault.Error{Op: "read authorities", Kind: fault.Invalid, Subject: c.ca, Err: errors.New("it has no certificate in PEM")}
	}
	return cfg, nil
}
