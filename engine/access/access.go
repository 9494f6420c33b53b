// Package access is who may ask what of a node: scopes, callers, and the tokens
// by which callers from elsewhere prove that they are allowed to.
package access

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// Scope is what an operation asks of its caller. The zero value is none: whoever
// registers an operation with it has forgotten to think.
type Scope uint8

const (
	// Public is for what says nothing of the node: a login page, whether it lives.
	Public Scope = 1 + iota
	// Any is for what every known caller may, or what decides further in.
	Any
	// Read sees requests, partners, rules and figures.
	Read
	// Submit registers requests.
	Submit
	// Operate pauses, resumes, cancels and retries requests, and tests partners. It reads, too.
	Operate
	// Administer does everything.
	Administer
)

var names = map[Scope]string{Public: "public", Any: "any", Read: "read", Submit: "submit", Operate: "operate", Administer: "administer"}

func (s Scope) String() string {
	if n := names[s]; n != "" {
		return n
	}
	return fmt.Sprintf("scope %d", uint8(s))
}

// Valid reports whether the scope is one of those above.
func (s Scope) Valid() bool { return names[s] != "" }

// Scopes are those that a token can have.
func Scopes() []Scope { return []Scope{Read, Submit, Operate, Administer} }

// ParseScope reads the name of a scope that a token can have.
func ParseScope(text string) (Scope, error) {
	for _, s := range Scopes() {
		if s.String() == text {
			return s, nil
		}
	}
	return 0, fault.New("read scope", fault.Invalid, "%q is no scope: write read, submit, operate or administer", text)
}

// Caller is who calls, as far as it was proved. The zero value is nobody.
type Caller struct {
	Name   string   // as "user 0" or "token ci", for logs and people; empty: nobody
	Token  string   // name of the token; empty: a user of this host
	ID     string   // of the token and its text, for Tokens.ByID; not for others' eyes
	Scopes []Scope  // what it may
	Rules  []string // for Submit: by which rules; none: all
}

// Local is a user of this host who may run the node.
func Local(uid int) Caller {
	return Caller{Name: fmt.Sprintf("user %d", uid), Scopes: []Scope{Administer}}
}

// May reports whether the caller has a scope.
func (c Caller) May(s Scope) bool {
	has := func(one Scope) bool { return slices.Contains(c.Scopes, one) }
	switch s {
	case Public:
		return true
	case Any:
		return c.Name != ""
	case Read:
		return has(Read) || has(Operate) || has(Administer)
	case Submit, Operate, Administer:
		return has(s) || has(Administer)
	}
	return false
}

// MaySubmit reports whether the caller may register a request by a rule.
func (c Caller) MaySubmit(rule string) bool {
	return c.May(Submit) && (c.May(Administer) || len(c.Rules) == 0 || slices.Contains(c.Rules, rule))
}

// Check is Unauthenticated for nobody and Permission for who lacks the scope.
func (c Caller) Check(s Scope) error {
	const op = "authorize"
	switch {
	case c.May(s):
		return nil
	case c.Name == "":
		return fault.New(op, fault.Unauthenticated, "send a token: Authorization: Bearer TOKEN; pannier token create makes one")
	}
	return fault.New(op, fault.Permission, "%s may not do this: it takes scope %v, and it has %s", c.Name, s, scopeList(c.Scopes))
}

func scopeList(all []Scope) string {
	text := make([]string, len(all))
	for i, s := range all {
		text[i] = s.String()
	}
	if len(text) == 0 {
		return "none"
	}
	return strings.Join(text, ", ")
}

type callerKey struct{}

// With is a context whose calls are that caller's.
func With(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf is who calls; nobody if the context does not say.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
