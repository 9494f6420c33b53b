package config

import (
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/guest"
)

// What the sections about listeners mean.

const userHint = `as users = [ { name = "acme", keys = "file:/etc/pannier/acme.keys", partner = "hostb", rule = "invoices" } ]`

func (m *meaning) listeners(list *value) (all []Listener) {
	taken := map[string]bool{}
	for i := range m.file.Listener {
		t, v := &m.file.Listener[i], list.item(i)
		l := Listener{Plugin: t.Plugin, Args: t.Args, SHA256: strings.ToLower(t.SHA256), Address: t.Listen, Memory: int64(t.Memory), Files: t.Files}
		l.Options = m.options(t.Options, v)
		m.program(t.Plugin, t.Args, l.SHA256, v)
		m.confined(t.Memory, t.Files, v)
		if m.text(v, "listen", `where clients connect, as "0.0.0.0:2222"`) {
			at := v.field("listen")
			if _, _, err := net.SplitHostPort(t.Listen); err != nil {
				m.add(at.place, `as "0.0.0.0:2222" or "[::1]:21"`, "%q is no address and port", t.Listen)
			} else if taken[t.Listen] {
				m.add(at.place, "", "another listener has it")
			}
			taken[t.Listen] = true
		}
		if !v.has("users") {
			m.add(v.key, userHint, "users is missing: who may log in")
		}
		names := map[string]bool{}
		for j := range t.Users {
			at := v.field("users").item(j)
			u := m.guest(&t.Users[j], at)
			if names[u.Name] && u.Name != "" {
				m.add(at.field("name").place, "", "there is a user %q already", u.Name)
			}
			names[u.Name] = true
			l.Users = append(l.Users, u)
		}
		all = append(all, l)
	}
	return all
}

// guest is a user that may log in at a listener.
func (m *meaning) guest(t *userTable, v *value) guest.User {
	u := guest.User{Name: t.Name, Partner: t.Partner}
	if m.text(v, "name", "who it is") {
		m.word(t.Name, v.field("name")) // whatever foreign clients call themselves, as DOMAIN\user
	}
	u.Keys, u.Password = m.secret(t.Keys, v, "keys"), m.secret(t.Password, v, "password")
	if !v.has("keys") && !v.has("password") {
		m.add(v.place, userHint, "neither keys nor password: nobody could prove to be this user")
	}
	if m.text(v, "partner", "who gets its uploads, and has its downloads") {
		m.knownPartner(t.Partner, v.field("partner"))
	}
	if m.text(v, "rule", "the one to send uploads by, or to receive downloads by") {
		if r := m.userRule(t.Rule, t.Partner, v.field("rule")); r != nil && r.Direction == engine.Receive {
			u.Get = t.Rule
		} else {
			u.Send = t.Rule
		}
	}
	if v.isText("get") {
		at := v.field("get")
		r := m.userRule(t.Get, t.Partner, at)
		switch {
		case r != nil && r.Direction != engine.Receive:
			m.add(at.place, "", "get is for downloads, and the direction of rule %q is send", t.Get)
		case u.Get != "":
			m.add(at.place, "", "rule is one for downloads, too: write the one for uploads there")
		}
		u.Get = t.Get
	}
	if t.Wait > 0 {
		u.Wait = time.Duration(t.Wait)
	}
	return u
}

// userRule is a rule that a user of a listener may have.
func (m *meaning) userRule(name, partner string, at *value) *engine.Rule {
	if m.noted(at) {
		return nil
	}
	r := m.rules[name]
	switch {
	case r == nil:
		names := sorted(m.rules)
		m.add(at.place, "rules: "+listed(names), "no rule is called %q%s", name, meant(name, names))
	case r.Bridge != "":
		m.add(at.place, "", "the root of rule %q is at a bridge: foreign clients need a directory of this host", name)
	case m.partners[partner] != nil && !r.Allows(partner):
		m.add(at.place, "partners of the rule: "+listed(r.Partners), "rule %q is not for partner %q", name, partner)
	}
	return r
}

// secret is the path of a file, written as "file:/PATH".
func (m *meaning) secret(text string, v *value, name string) string {
	if !v.isText(name) {
		return ""
	}
	path, ok := strings.CutPrefix(text, "file:")
	if !ok || !filepath.IsAbs(path) {
		m.add(v.field(name).place, `as "file:/etc/pannier/`+name+`"`, "%s is in a file, which is named by its whole path", name)
	}
	return path
}
