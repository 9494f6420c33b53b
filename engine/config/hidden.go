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

// WithoutAddresses is the text of an object as those may see it who only read: of each
// address, as https://host/path?query, no more than scheme and host, because the rest may
// be a secret. Addresses of nodes have none, and stay.
func WithoutAddresses(text string) string {
	root, wrong := parse([]byte(text))
	if wrong != nil { // it was read before
		return ""
	}
	type cut struct {
		at  span
		new string
	}
	var cuts []cut
	root.each("", func(key string, v *value) {
		c := cut{at: v.place}
		if short := shortened(v.text, key == "url"); v.kind == unstable.String && short != v.text {
			b, _ := json.Marshal(short) // a text of JSON is one of TOML, too
			c.new = string(b)
		} else {
			c.new = text[c.at.offset : c.at.offset+c.at.length]
		}
		cuts = append(cuts, c)
	})
	slices.SortFunc(cuts, func(a, b cut) int { return cmp.Compare(a.at.offset, b.at.offset) })
	var b strings.Builder
	from := 0
	for _, c := range cuts {
		b.WriteString(comment.ReplaceAllStringFunc(text[from:c.at.offset], func(s string) string { return shortened(s, false) }))
		b.WriteString(c.new)
		from = c.at.offset + c.at.length
	}
	b.WriteString(comment.ReplaceAllStringFunc(text[from:], func(s string) string { return shortened(s, false) }))
	return b.String()
}

var (
	comment = regexp.MustCompile(`#[^\n]*`) // where there are no values
	address = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://\S*`)
)

// each calls f with all values that are neither table nor list, and their keys.
func (v *value) each(key string, f func(key string, v *value)) {
	switch v.kind {
	case unstable.Table, unstable.Array:
		for name, field := range v.fields {
			field.each(name, f)
		}
		for _, item := range v.items {
			item.each(key, f)
		}
	default:
		f(key, v)
	}
}

// shortened is a text whose addresses end with their hosts; all of it is one.
func shortened(text string, all bool) string {
	if all && strings.Contains(text, "://") {
		return host(text)
	}
	return address.ReplaceAllStringFunc(text, host)
}

// host is an address without all that comes after its host, or before it.
func host(text string) string {
	scheme, _, _ := strings.Cut(text, "://")
	switch scheme {
	case carrier.TCP, carrier.TLS, carrier.Unix:
		return text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return scheme + "://" + hidden
	case u.User == nil && strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && !u.ForceQuery && u.Fragment == "":
		return text
	}
	return u.Scheme + "://" + u.Host + "/" + hidden
}
