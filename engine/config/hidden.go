package config

import (
	"cmp"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/pannier/pannier/flow/carrier"
)

// hidden stands for what WithoutAddresses has left out. It is no part of any address, so
// that a text with it is refused and not applied.
const hidden = "%hidden%"

// WithoutAddresses is the text of an object as those may see it who only read: of a url no more
// than scheme and host, of a command the program, of what a message says, and of another value
// with an address in it, and the digest of a token, nothing, because the rest may be a secret; and no comment. Addresses of nodes have no secrets,
// and stay. It goes by the values that the text has, however they are written.
func WithoutAddresses(text string) string {
	root, wrong := parse([]byte(text))
	if wrong != nil { // it was read before
		return ""
	}
	values := root.values()
	var b strings.Builder
	from := 0
	for _, v := range values {
		b.WriteString(comment.ReplaceAllString(text[from:v.place.offset], ""))
		from = v.place.offset + v.place.length
		if short := v.public(); short != v.text {
			quoted, _ := json.Marshal(short) // a text of JSON is one of TOML, too
			b.Write(quoted)
		} else {
			b.WriteString(text[v.place.offset:from])
		}
	}
	b.WriteString(comment.ReplaceAllString(text[from:], ""))
	again, wrong := parse([]byte(b.String()))
	if wrong != nil || !slices.EqualFunc(again.values(), values, func(is, was placed) bool { return is.text == was.public() && is.name == was.name }) {
		return "" // a form that this does not know shows nothing
	}
	return b.String()
}

var comment = regexp.MustCompile(`[ \t]*#[^\n]*`) // where there are no values

// placed is a value that is neither table nor list, its key, and which item of that it is.
type placed struct {
	*value
	name string
	item int
}

// values are all of them, as the text has them.
func (v *value) values() (all []placed) {
	var add func(v *value, name string, item int)
	add = func(v *value, name string, item int) {
		switch v.kind {
		case unstable.Table, unstable.Array:
			for name, field := range v.fields {
				add(field, name, 0)
			}
			for i, item := range v.items {
				add(item, name, i)
			}
		default:
			all = append(all, placed{v, name, item})
		}
	}
	add(v, "", 0)
	slices.SortFunc(all, func(a, b placed) int { return cmp.Compare(a.place.offset, b.place.offset) })
	return all
}

// public is what those may see of a value who only read.
func (p placed) public() string {
	switch {
	case p.kind != unstable.String:
		return p.text
	case p.name == "url":
		return host(p.text)
	case p.name == "argv" && p.item > 0, p.name == "text", p.name == "subject", p.name == "sha256":
		return hidden
	case p.name == "address" && isNode(p.text), !strings.Contains(p.text, "://"):
		return p.text
	}
	return hidden
}

// leftOut notes values that are what somebody was shown who may not see them.
func (m *meaning) leftOut(root *value) {
	for _, v := range root.values() {
		if v.kind == unstable.String && strings.Contains(v.text, hidden) && !m.noted(v.value) {
			m.add(v.place, "", "%s was read by somebody who may not see it whole: write what stands for %s", v.name, hidden)
		}
	}
}

// isNode reports whether a text is the address of a node, and nothing else.
func isNode(text string) bool {
	_, err := carrier.ParseAddress(text)
	return err == nil
}

// host is an address without all that comes after its host, or before it.
func host(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return hidden
	case u.User == nil && strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && !u.ForceQuery && u.Fragment == "":
		return text
	}
	return u.Scheme + "://" + u.Host + "/" + hidden
}
