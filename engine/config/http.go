package config

import (
	"path/filepath"

	"github.com/pannier/pannier/flow/carrier"
)

// What the section about HTTP means.

const httpHint = `as "unix:///run/pannier/http.sock" or "tls://0.0.0.0:8443"`

// http reads where the node speaks HTTP; there says whether the file has the section.
func (m *meaning) http(v *value, there bool) HTTP {
	t := &m.file.HTTP
	if !there || !v.has("listen") {
		t.Listen = []string{carrier.Unix + "://" + filepath.Join(m.file.Node.State, "http.sock")}
		room := carrier.Unix + "://" + filepath.Join(m.file.Node.State, "a-name-for-a-while") // a socket is made under a longer name
		if _, err := carrier.ParseAddress(room); err != nil {                                 // a state directory too deep for one
			t.Listen = nil
		}
	} else {
		m.httpAddresses(t.Listen, v)
	}
	if !there {
		return HTTP{Listen: t.Listen}
	}
	m.absolute(t.Certificate, v, "certificate")
	m.absolute(t.Key, v, "key")
	switch {
	case v.has("certificate") && !v.has("key"):
		m.add(v.field("certificate").key, "", "key is missing: the file with the certificate's private key")
	case v.has("key") && !v.has("certificate"):
		m.add(v.field("key").key, "", "certificate is missing: the file with the certificate of this key")
	}
	return HTTP{Listen: t.Listen, Certificate: t.Certificate, Key: t.Key}
}

// httpAddresses notes addresses at which a token would be heard by others.
func (m *meaning) httpAddresses(addresses []string, v *value) {
	seen := map[carrier.Address]bool{}
	for i, text := range addresses {
		at := v.field("listen").item(i)
		if m.noted(at) {
			continue
		}
		a, err := carrier.ParseAddress(text)
		switch {
		case err != nil:
			m.add(at.place, httpHint, "%q is no address: write unix:///path for this host, or tls://host:port, where every caller needs a token", text)
		case a.Scheme == carrier.TCP:
			a.Scheme = carrier.TLS
			m.add(at.place, httpHint, "tcp hides nothing, and whoever listens has the tokens: write %q, which speaks HTTPS with the node's own certificate or the one in certificate", a.String())
		case a.Scheme != carrier.TLS && a.Scheme != carrier.Unix:
			m.add(at.place, httpHint, "HTTP is spoken at sockets of this host and over TLS only")
		case a.Scheme == carrier.TLS && v.has("listen") && text != a.String():
			m.add(at.place, httpHint, "the port is missing: %s is where partners call", carrier.DefaultPort)
		case seen[a]:
			m.add(at.place, "", "%s is there twice", a)
		}
		seen[a] = true
	}
}
