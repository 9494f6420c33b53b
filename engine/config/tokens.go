package config

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
)

// What the sections about tokens mean. They have digests: what proves a token is in no file.

func (m *meaning) tokens(list *value) (all []access.Token) {
	taken, digests := map[string]*access.Token{}, map[[sha256.Size]byte]string{}
	for i := range m.file.Token {
		t, v := &m.file.Token[i], list.item(i)
		one := &access.Token{Name: t.Name, ID: t.ID, Rules: t.Rules, Expires: time.Time(t.Expires)}
		register(m, taken, one, t.Name, access.Kind, v)
		if i == access.MaxTokens {
			m.add(v.key, "", "there are more than %d tokens: delete some", access.MaxTokens)
		}
		m.tokenScopes(one, t, v)
		if m.text(v, "expires", "when it ends, as \"2030-12-31T00:00:00Z\", or \"never\"") && t.ID != "" {
			m.word(t.ID, v.field("id"))
		}
		if m.text(v, "sha256", "the digest of its text, as pannier export --tokens prints it where pannier token create has made it") {
			m.tokenDigest(one, t, v, digests)
		}
		all = append(all, *one)
	}
	return all
}

// tokenDigest reads the one of a token, which no other may have.
func (m *meaning) tokenDigest(one *access.Token, t *tokenTable, v *value, digests map[[sha256.Size]byte]string) {
	at := v.field("sha256").place
	if n, err := hex.Decode(one.Digest[:], []byte(t.SHA256)[:min(len(t.SHA256), 2*sha256.Size)]); err != nil || n != sha256.Size || len(t.SHA256) != 2*sha256.Size {
		m.add(at, "never write the token itself here", "this is no SHA-256: write the 64 hexadecimal digits that printf %%s TOKEN | sha256sum prints")
		return
	}
	if other, is := digests[one.Digest]; is {
		m.add(at, "each token has a text of its own: pannier token create makes one", "token %s has that digest already", other)
	}
	digests[one.Digest] = t.Name
}

// tokenScopes reads what a token may.
func (m *meaning) tokenScopes(one *access.Token, t *tokenTable, v *value) {
	var names []string
	for _, s := range access.Scopes() {
		names = append(names, s.String())
	}
	if len(t.Scopes) == 0 && !m.noted(v.field("scopes")) {
		m.add(v.field("scopes").key, "scopes: "+listed(names), "scopes is missing: what it may, as [\"read\"]")
	}
	for i, text := range t.Scopes {
		at := v.field("scopes").item(i)
		if m.noted(at) {
			continue
		}
		s, err := access.ParseScope(text)
		if err != nil {
			m.add(at.place, "scopes: "+listed(names), "%q is no scope%s", text, meant(text, names))
			continue
		}
		one.Scopes = append(one.Scopes, s)
	}
	if len(t.Rules) > 0 && !slices.Contains(t.Scopes, access.Submit.String()) {
		m.add(v.field("rules").key, "", "rules are for scope submit, which the token has not")
	}
	if v.has("rules") && len(t.Rules) == 0 && !m.noted(v.field("rules")) {
		m.add(v.field("rules").key, "", "without a rule here it could submit by all: write which, or leave rules out")
	}
	if in := m.source(v.place.offset); in.start > 0 && !in.applying {
		return // it was applied before: that a rule has gone ends no token, which may then submit by one rule less
	}
	for i, name := range t.Rules {
		if at := v.field("rules").item(i); !m.noted(at) {
			m.anyRule(name, at)
		}
	}
}

// expiry is when a token ends; zero: never.
type expiry time.Time

func (e *expiry) UnmarshalText(b []byte) error {
	if string(b) == access.Never {
		*e = expiry{}
		return nil
	}
	at, err := time.Parse(time.RFC3339, string(b))
	if err != nil {
		return fault.New("read expiry", fault.Invalid, "%q is no time: write one as \"2030-12-31T00:00:00Z\", or \"never\"", b)
	}
	*e = expiry(at)
	return nil
}

// ObjectName is a name as an object can have it, for one of a version whose tokens could have others.
func ObjectName(name string) string {
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/?#%\`, r) || r <= ' ' || r == 0x7f {
			return '-'
		}
		return r
	}, name)
	if name == "" || strings.Trim(name, ".*") == "" {
		name = "token-" + strings.ReplaceAll(name, "*", "-")
	}
	return name[:min(len(name), lifecycle.MaxName)]
}
