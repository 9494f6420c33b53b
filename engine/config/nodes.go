package config

import (
	"log/slog"
	"slices"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/flow/carrier"
)

// What the sections about nodes mean: this one and its partners.

func (m *meaning) node(t *nodeTable, v *value) Node {
	if m.text(v, "name", "what partners call this node") {
		m.name(t.Name, v.field("name"))
	}
	m.absolute(t.State, v, "state")
	m.listen(t.Listen, v)
	m.admin(t, v)
	atLeast(m, v, "concurrent", t.Concurrent, 1, "1")
	atLeast(m, v, "serving", t.Serving, 1, "1")
	atLeast(m, v, "patience", int64(t.Patience), int64(time.Second), "1s")
	atLeast(m, v, "retention", int64(t.Retention), int64(lifecycle.MinRetention), "1h: calls for a request may still be on their way")
	atLeast(m, v, "failed_retention", int64(t.Failed), int64(lifecycle.MinRetention), "1h: calls for a request may still be on their way")
	atLeast(m, v, "hops", t.Hops, 1, "1")
	if v.has("hops") && t.Hops > engine.MaxHops {
		m.add(v.field("hops").place, "", "hops is %d: write at most %d", t.Hops, engine.MaxHops)
	}
	return Node{
		Name: t.Name, State: t.State, Listen: t.Listen, Admin: t.Admin, Concurrent: t.Concurrent, Serving: t.Serving,
		Bandwidth: m.timetable(t.Bandwidth, v), Patience: time.Duration(t.Patience), Retention: time.Duration(t.Retention),
		Failed: time.Duration(t.Failed), Hops: t.Hops,
		Drain: time.Duration(t.Drain), Log: slog.Level(t.Log), LogFormat: string(t.LogFormat),
	}
}

func (m *meaning) listen(addresses []string, v *value) {
	seen := map[carrier.Address]bool{}
	for i, text := range addresses {
		at := v.field("listen").item(i)
		if m.noted(at) {
			continue
		}
		a, ok := m.address(text, at)
		if ok && seen[a] {
			m.add(at.place, "", "%s is there twice", a)
		}
		seen[a] = true
	}
}

// admin checks where operators call. It is a socket, because who may open it is
// the operating system's decision.
func (m *meaning) admin(t *nodeTable, v *value) {
	at := "admin"
	if !v.has(at) {
		t.Admin = socketIn(t.State)
		at = "state" // the socket's path may be too long
	}
	if v.has(at) && !v.isText(at) {
		return
	}
	switch a, err := carrier.ParseAddress(t.Admin); {
	case err != nil && v.has(at) && !m.noted(v.field(at)):
		m.add(v.field(at).place, "as \"unix:///run/pannier/admin.sock\"", "admin cannot be %q: %s", t.Admin, unaccepted(err))
	case err == nil && a.Scheme != carrier.Unix:
		m.add(v.field(at).place, "as \"unix:///run/pannier/admin.sock\"", "operators call through a socket of this host only")
	}
}

const askForKey = "at the partner, \"pannier id\" prints it"

func (m *meaning) partner(t *partnerTable, v *value) {
	p := &engine.Partner{Name: t.Name, Address: t.Address, Bandwidth: m.timetable(t.Bandwidth, v), Pool: t.Pool, Concurrent: t.Concurrent, Open: t.Open, ThirdParty: t.ThirdParty}
	m.knownPool(t.Pool, v)
	register(m, m.partners, p, t.Name, "partner", v)
	var at carrier.Address
	if v.isText("address") {
		at, _ = m.address(t.Address, v.field("address"))
	}
	for i, text := range t.Key {
		m.key(p, text, v.field("key").item(i))
	}
	if v.isText("user") {
		m.user(t, v.field("user"))
	}
	if len(t.Key) == 0 && (!v.has("key") || !m.noted(v.field("key"))) && t.Name != m.file.Node.Name {
		switch {
		case at.Proves():
			m.add(v.field("address").place, askForKey, "key is missing: over %s a partner is known by its key", at.Scheme)
		case !v.has("address") && !v.has("user"):
			m.add(v.place, askForKey, "key is missing: a partner without an address calls, and is known by its key or, over a unix socket, by its user")
		}
	}
	atLeast(m, v, "concurrent", t.Concurrent, 1, "1")
	atLeast(m, v, "open", t.Open, 1, "1")
}

// thirdParty notes rules that are not there, by which requests are to be made for a partner.
func (m *meaning) thirdParty(t *partnerTable, v *value) {
	names := sorted(m.rules)
	for i, name := range t.ThirdParty {
		if at := v.field("third_party").item(i); m.rules[name] == nil && !m.noted(at) {
			m.add(at.place, "rules: "+listed(names), "no rule is called %q%s", name, meant(name, names))
		}
	}
}

// user notes which partner calls as that user of this host. A user is one
// partner.
func (m *meaning) user(t *partnerTable, at *value) {
	switch whose, taken := m.users[t.User]; {
	case t.User == "":
		m.add(at.place, "", "write the name or number of a user of this host")
	case taken:
		m.add(at.place, "", "this is the user of %q already", whose)
	default:
		m.users[t.User] = t.Name
	}
}

// key adds a key to a partner's. A key is one node.
func (m *meaning) key(p *engine.Partner, text string, at *value) {
	if m.noted(at) {
		return
	}
	pins, err := carrier.ParsePins(text)
	if err != nil {
		m.add(at.place, askForKey, "this is no key: %s", words(err))
		return
	}
	switch whose, taken := m.keys[pins[0]]; {
	case taken && whose == m.file.Node.Name && p.Name != whose:
		m.add(at.place, askForKey, "this is the key of this node, %q, itself", whose)
		return
	case taken && (whose != m.file.Node.Name || slices.Contains(p.Keys, pins[0])):
		m.add(at.place, "", "this is a key of %q already", whose)
		return
	}
	m.keys[pins[0]] = p.Name
	p.Keys = append(p.Keys, pins[0])
}
