package config

import (
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/relay"
)

// What the sections about relays mean: the node's own, and what its partners may ask
// of it.

func (m *meaning) relays(list *value) map[string]relay.Relay {
	all, taken := map[string]*relay.Relay{}, map[spot]string{}
	for i := range m.file.Relay {
		t, v := &m.file.Relay[i], list.item(i)
		r := &relay.Relay{Name: t.Name, Partner: t.Session, At: relay.Place(t.At), Mode: fs.FileMode(t.Mode), Resume: t.Resume, ProxyProtocol: t.Proxy, Limits: m.limits(&t.Limits, v)}
		register(m, all, r, t.Name, "relay", v)
		before := len(m.problems.list)
		m.relay(r, t, v)
		m.free(r, v, taken)
		if err := r.Check(); err != nil && len(m.problems.list) == before && t.Name != "" {
			m.add(v.key, "", "%s", words(err))
		}
	}
	made := map[string]relay.Relay{}
	for name, r := range all {
		made[name] = *r
	}
	return made
}

// relay completes a relay of which the simple values are there.
func (m *meaning) relay(r *relay.Relay, t *relayTable, v *value) {
	known := m.text(v, "session", "the partner at the other end, as \"hostb\"") && m.knownPartner(t.Session, v.field("session"))
	if !v.has("accept") {
		m.add(v.place, acceptHint, "accept is missing: where connections come in")
	}
	for i, text := range t.Accept {
		if at := v.field("accept").item(i); !m.noted(at) {
			e, err := relay.ParseAccept(text)
			if err != nil {
				m.add(at.place, acceptHint, "%q is nothing to accept at: %s", text, words(err))
			}
			r.Accept = append(r.Accept, e)
		}
	}
	if v.isText("to") {
		r.To, _ = m.destination(t.To, v.field("to"))
	}
	m.ports(r, t, v)
	m.from(r, t, v)
	if t.Proxy && r.At == relay.Here {
		m.add(v.field("proxy_protocol").key, "", "the node that connects says whether it writes a PROXY header: put this into the [[relay_policy]] of the partner")
	}
	allow := v.field("allow")
	switch {
	case !v.has("allow"):
		m.add(v.place, "", "allow is missing: a relay that nobody allowed does not exist; write allow = [%q]", t.Session)
	case allow.kind != unstable.Array:
	case known && !slices.Contains(t.Allow, t.Session) && !slices.Contains(t.Allow, engine.AnyPartner):
		m.add(allow.place, "", "it does not allow %q, over whose session it goes", t.Session)
	}
	for i, name := range t.Allow {
		if at := allow.item(i); name != engine.AnyPartner && !m.noted(at) {
			m.knownPartner(name, at)
		}
	}
}

const (
	acceptHint = `as "tcp://127.0.0.1:2200", "udp://127.0.0.1:53", "unix:///run/x.sock", "socks5://127.0.0.1:1080", or a list`
	toHint     = `as "tcp://127.0.0.1:22", "tcp://db:{port}", "udp://127.0.0.1:53", "unix:///run/x.sock", "ftp://127.0.0.1:21" or 'exec:["/usr/bin/program", "argument"]'`
)

// destination reads where a relay leads to.
func (m *meaning) destination(text string, at *value) (relay.Endpoint, bool) {
	e, err := relay.ParseTo(text)
	if err != nil {
		m.add(at.place, toHint, "%q is no destination: %s", text, words(err))
	}
	return e, err == nil
}

// ports are destinations by the port that was accepted at.
func (m *meaning) ports(r *relay.Relay, t *relayTable, v *value) {
	for i := range t.Ports {
		p, at := &t.Ports[i], v.field("ports").item(i)
		if at.kind != unstable.Table {
			continue // noted
		}
		if !at.has("port") {
			m.add(at.place, "", "port is missing: the one that was accepted at")
			continue
		}
		port := uint16(p.Port)
		switch where := at.field("port"); {
		case m.noted(where):
		case p.Port < 1 || p.Port > 65535:
			m.add(where.place, "", "a port is from 1 to 65535")
		case len(r.Accept) > 0 && !slices.ContainsFunc(r.Accept, func(e relay.Endpoint) bool { return accepts(e, port) }):
			m.add(where.place, "", "nothing is accepted at port %d", port)
		case !r.Ports[port].IsZero():
			m.add(where.place, "", "port %d is there twice", port)
		}
		if !m.text(at, "to", "where connections of that port lead") {
			continue
		}
		if e, ok := m.destination(p.To, at.field("to")); ok {
			if r.Ports == nil {
				r.Ports = map[uint16]relay.Endpoint{}
			}
			r.Ports[port] = e
		}
	}
}

func accepts(e relay.Endpoint, port uint16) bool {
	return slices.ContainsFunc(e.Ports, func(p relay.PortRange) bool {
		return p.First <= port && port <= p.Last || p == relay.PortRange{}
	})
}

// from is which clients are let in.
func (m *meaning) from(r *relay.Relay, t *relayTable, v *value) {
	if v.has("from") && r.At == relay.There {
		m.add(v.field("from").key, "", "from is for relays that are accepted here; the partner's node knows who comes to it")
	}
	for i, text := range t.From {
		at := v.field("from").item(i)
		if m.noted(at) {
			continue
		}
		p, err := relay.ParseFrom(text)
		if err != nil {
			m.add(at.place, `as "192.0.2.7" or "10.0.0.0/8"`, "%s", words(err))
		}
		r.From = append(r.From, p)
	}
}

// spot is a place of a node, that of a partner or, without one, this one.
type spot struct{ partner, place string }

// free notes where two relays would listen at the same place. taken has who is there.
func (m *meaning) free(r *relay.Relay, v *value, taken map[spot]string) {
	var of spot
	if r.At == relay.There {
		of.partner = r.Partner
	}
	for i, e := range r.Accept {
		for _, of.place = range places(e) {
			at := v.field("accept").item(i)
			if other, is := taken[of]; is && !m.noted(at) {
				m.add(at.place, "", "%s is where relay %q accepts%s", of.place, other, atPartner(of.partner))
			}
			taken[of] = r.Name
		}
	}
}

func atPartner(name string) string {
	if name == "" {
		return ""
	}
	return " at " + strconv.Quote(name)
}

// places are the sockets that an endpoint listens at; port 0 is nobody's.
func places(e relay.Endpoint) (all []string) {
	scheme := e.Scheme
	switch scheme {
	case relay.Unix:
		return []string{e.String()}
	case relay.SOCKS5, relay.HTTP:
		scheme = relay.TCP
	}
	for _, r := range e.Ports {
		for p := max(1, int(r.First)); p <= int(r.Last); p++ {
			all = append(all, string(scheme)+"://"+e.Host+":"+strconv.Itoa(p))
		}
	}
	return all
}

func (m *meaning) policy(list *value) (all []relay.Allow) {
	for i := range m.file.Policy {
		t, v := &m.file.Policy[i], list.item(i)
		if m.text(v, "partner", "who may ask, as \"hostb\", or \"*\" for every partner") && t.Partner != engine.AnyPartner {
			m.knownPartner(t.Partner, v.field("partner"))
		}
		if v.isText("relay") && t.Relay != engine.AnyPartner {
			m.name(t.Relay, v.field("relay"))
		}
		if !v.has("dial") && !v.has("listen") {
			m.add(v.place, "", "it allows nothing: write dial, what is connected to for the partner, or listen, what is listened at for it")
		}
		m.patterns(t.Dial, v, "dial")
		m.patterns(t.Listen, v, "listen")
		if t.Proxy && !slices.ContainsFunc(t.Dial, takesProxy) {
			m.add(v.field("proxy_protocol").key, "", "dial has neither tcp:// nor unix://: there is nobody to send a PROXY header to")
		}
		all = append(all, relay.Allow{Partner: t.Partner, Relay: t.Relay, Dial: t.Dial, Listen: t.Listen, ProxyProtocol: t.Proxy, Limits: m.limits(&t.Limits, v)})
	}
	return all
}

// takesProxy reports whether a destination of a pattern can be sent a PROXY header.
func takesProxy(pattern string) bool {
	return strings.HasPrefix(pattern, string(relay.TCP)+":") || strings.HasPrefix(pattern, string(relay.Unix)+":")
}

func (m *meaning) patterns(texts []string, v *value, name string) {
	for i, text := range texts {
		at := v.field(name).item(i)
		if m.noted(at) {
			continue
		}
		if _, err := relay.ParsePattern(text); err != nil {
			m.add(at.place, `as "tcp://10.0.0.0/8:22", "tcp://*.example:80,443", "udp://127.0.0.1:53", "ftp://10.0.0.7:21", "unix:///run/app/*" or 'exec:["/bin/program"]'`,
				"%q is no pattern: %s", text, words(err))
		}
	}
}

func (m *meaning) limits(t *limitsTable, v *value) relay.Limits {
	if v = v.field("limits"); v.kind == unstable.Table {
		atLeast(m, v, "conns", t.Conns, 1, "1")
		atLeast(m, v, "opens", t.Opens, 1, "1")
		atLeast(m, v, "bytes", max(t.Bytes, -t.Bytes), 1, "1B, or \"none\"")
		atLeast(m, v, "datagram", t.Datagram, 1, "1")
		atLeast(m, v, "sources", t.Sources, 1, "1")
		atLeast(m, v, "amplify", t.Amplify, 1, "1")
		atLeast(m, v, "weight", t.Weight, 1, "1")
		if v.has("weight") && t.Weight > flow.MaxWeight {
			m.add(v.field("weight").place, "", "a weight is at most %d", flow.MaxWeight)
		}
		if v.has("datagram") && t.Datagram > relay.MaxDatagram {
			m.add(v.field("datagram").place, "", "a datagram has at most %d bytes", relay.MaxDatagram)
		}
	}
	return relay.Limits{
		Conns: t.Conns, Opens: t.Opens, Bytes: int64(t.Bytes), Rate: int64(t.Rate), Life: time.Duration(t.Life), Idle: time.Duration(t.Idle),
		Half: time.Duration(t.Half), Datagram: t.Datagram, Sources: t.Sources, Amplify: t.Amplify, Weight: t.Weight,
	}
}
