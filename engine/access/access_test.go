package access

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// TestScopes: who may what, all of it.
func TestScopes(t *testing.T) {
	for _, c := range []struct {
		has  []Scope
		may  string
		name string
	}{
		{nil, "public", ""}, {nil, "public any", "x"},
		{[]Scope{Read}, "public any read", "x"}, {[]Scope{Submit}, "public any submit", "x"},
		{[]Scope{Operate}, "public any read operate", "x"}, {[]Scope{Administer}, "public any read submit operate administer", "x"},
	} {
		var may []string
		for s := Public; s <= Administer; s++ {
			caller := Caller{Name: c.name, Scopes: c.has}
			if caller.May(s) {
				may = append(may, s.String())
			} else if want := fault.Unauthenticated; c.name == "" && !errors.Is(caller.Check(s), want) {
				t.Errorf("nobody and %v: %v", s, caller.Check(s))
			} else if c.name != "" && !errors.Is(caller.Check(s), fault.Permission) {
				t.Errorf("%v and %v: %v", c.has, s, caller.Check(s))
			}
		}
		if got := strings.Join(may, " "); got != c.may {
			t.Errorf("%v may %s, want %s", c.has, got, c.may)
		}
	}
	if (Caller{Name: "x", Scopes: []Scope{Administer}}).May(0) || Scope(0).Valid() || Scope(99).Valid() {
		t.Error("what has no scope is open")
	}
	ci := Caller{Name: "ci", Scopes: []Scope{Submit}, Rules: []string{"a"}}
	if !ci.MaySubmit("a") || ci.MaySubmit("b") || (Caller{Name: "r", Scopes: []Scope{Read}}).MaySubmit("a") {
		t.Error("submit goes by other rules")
	}
}

// TestTokens: a token proves its caller, over a restart too, until it is deleted or has
// expired; a text that differs in anything proves nothing; the file has no secret.
func TestTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	open := func() *Tokens {
		s, err := OpenTokens(path, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	now := time.Now()
	s.now = func() time.Time { return now }
	text, made, err := s.Create(Token{Name: "ci", Scopes: []Scope{Submit}, Rules: []string{"r"}, Expires: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Create(Token{Name: "ci", Scopes: []Scope{Read}}); !errors.Is(err, fault.Exists) {
		t.Errorf("twice: %v", err)
	}
	for _, bad := range []Token{{Name: "", Scopes: []Scope{Read}}, {Name: "a b", Scopes: []Scope{Read}}, {Name: "x"}, {Name: "x", Scopes: []Scope{Read}, Rules: []string{"r"}},
		{Name: "x", Scopes: []Scope{Read}, Expires: now}} {
		if _, _, err := s.Create(bad); !errors.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if c, err := s.Whose(text); err != nil || c.Name != "token ci" || !c.MaySubmit("r") || c.MaySubmit("q") || c.May(Read) {
		t.Errorf("%+v, %v", c, err)
	}
	for i := range text {
		b := []byte(text)
		b[i] ^= 1
		if _, err := s.Whose(string(b)); !errors.Is(err, fault.Unauthenticated) {
			t.Fatalf("%d: %v", i, err)
		}
	}
	for _, bad := range []string{"", text[:len(text)-1], text + "x", "pannier_" + made.ID + "_", strings.TrimPrefix(text, "pannier_")} {
		if _, err := s.Whose(bad); !errors.Is(err, fault.Unauthenticated) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	data, err := os.ReadFile(path)
	if _, secret, _ := strings.Cut(strings.TrimPrefix(text, prefix), "_"); err != nil || strings.Contains(string(data), secret) {
		t.Errorf("the file has the secret, %v: %s", err, data)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	again := open()
	if c, err := again.Whose(text); err != nil || c.Token != "ci" {
		t.Errorf("after a restart: %+v, %v", c, err)
	}
	if again.List()[0].Used.IsZero() {
		t.Error("its use is not noted")
	}
	now = now.Add(time.Hour)
	if _, err := s.Whose(text); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("expired: %v", err)
	}
	if _, err := s.ByID(made.ID); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("expired session: %v", err)
	}
	if err := again.Delete("ci"); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Whose(text); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("deleted: %v", err)
	}
	if err := again.Delete("ci"); !errors.Is(err, fault.NotFound) {
		t.Errorf("twice: %v", err)
	}
	if len(open().List()) != 0 {
		t.Error("deleted, and back after a restart")
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTokens(path, nil); !errors.Is(err, fault.Corrupt) {
		t.Errorf("%v", err)
	}
}

// TestUntil: what is done by a token ends when it is deleted, when it expires, and at once when
// there is none; not when another is deleted.
func TestUntil(t *testing.T) {
	tokens, err := OpenTokens(filepath.Join(t.TempDir(), "t"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	made := func(name string, expires time.Time) string {
		_, one, err := tokens.Create(Token{Name: name, Scopes: []Scope{Read}, Expires: expires})
		if err != nil {
			t.Fatal(err)
		}
		return one.ID
	}
	until := func(id string) context.Context {
		ctx, cancel := tokens.Until(t.Context(), id)
		t.Cleanup(cancel)
		return ctx
	}
	stays, deleted := until(made("stays", time.Now().Add(time.Hour))), until(made("deleted", time.Time{}))
	expires, none := until(made("expires", time.Now().Add(2*time.Second))), until("none")
	if deleted.Err() != nil {
		t.Error("it ends too early")
	}
	if err := tokens.Delete("deleted"); err != nil {
		t.Fatal(err)
	}
	for name, ctx := range map[string]context.Context{"deleted": deleted, "expires": expires, "none": none} {
		select {
		case <-ctx.Done():
		case <-time.After(time.Minute):
		}
		if fault.KindOf(context.Cause(ctx)) != fault.Unauthenticated {
			t.Errorf("%s: %v", name, context.Cause(ctx))
		}
	}
	if stays.Err() != nil {
		t.Errorf("another: %v", context.Cause(stays))
	}
}
