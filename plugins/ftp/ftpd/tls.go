package ftpd

import (
	"crypto/tls"
	"slices"
)

// security is the TLS of a server, whose certificate is that of the files, or one that is
// made now.
func security(certFile, keyFile string) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case certFile == "":
		c, err := selfMade()
		if err != nil {
			return nil, err
		}
		t.Certificates = []tls.Certificate{*c}
		return t, nil
	case keyFile == "":
		keyFile = certFile
	}
	f := &files{cert: certFile, key: keyFile}
	t.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.get() }
	_, err := f.get()
	return t, err
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
