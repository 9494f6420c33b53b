package access

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Kind is what a token is among the sections of a node's file and what is applied.
const Kind = "token"

// Never is how it is written that a token does not end.
const Never = "never"

// Section is a token as a section of a node's file, which is how it is applied.
func (t *Token) Section() string {
	quote := func(v any) string { // a text of JSON, and a list of them, is one of TOML, too
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		_ = e.Encode(v) // texts and lists of them
		return strings.ReplaceAll(strings.TrimSpace(b.String()), "\x7f", `\u007f`)
	}
	var scopes []string
	for _, s := range t.Scopes {
		scopes = append(scopes, s.String())
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[[%s]]\nname = %s\nscopes = %s\n", Kind, quote(t.Name), quote(scopes))
	if len(t.Rules) > 0 {
		fmt.Fprintf(&b, "rules = %s\n", quote(t.Rules))
	}
	expires := Never
	if !t.Expires.IsZero() {
		expires = t.Expires.UTC().Format(time.RFC3339Nano)
	}
	fmt.Fprintf(&b, "expires = %q\n", expires)
	if t.ID != "" {
		fmt.Fprintf(&b, "id = %s\n", quote(t.ID))
	}
	fmt.Fprintf(&b, "sha256 = \"%x\"\n", t.Digest)
	return b.String()
}
