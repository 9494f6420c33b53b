package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
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
// expired; a text that differs in anything proves nothing; the file has no secret, and no digest.
func TestTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	open := func() *Tokens {
		s, before, err := OpenTokens(path, slog.New(slog.DiscardHandler))
		if err != nil || before != nil {
			t.Fatal(before, err)
		}
		return s
	}
	s := open()
	now := time.Now()
	s.now = func() time.Time { return now }
	text, made := NewToken(Token{Name: "ci", Scopes: []Scope{Submit}, Rules: []string{"r"}, Expires: now.Add(time.Hour)})
	s.Set([]Token{made})
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
	if _, secret, _ := strings.Cut(strings.TrimPrefix(text, prefix), "_"); err != nil || strings.Contains(string(data), secret) || strings.Contains(string(data), made.key()) {
		t.Errorf("the file has what is not for it, %v: %s", err, data)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	again := open()
	again.Set([]Token{made})
	if used := again.List()[0].Used; used.IsZero() {
		t.Error("its use is not noted")
	}
	c, err := again.Whose(text)
	if err != nil || c.Token != "ci" {
		t.Errorf("after a restart: %+v, %v", c, err)
	}
	now = now.Add(time.Hour)
	if _, err := s.Whose(text); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("expired: %v", err)
	}
	if _, err := s.ByID(c.ID); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("expired session: %v", err)
	}
	again.Set(nil)
	if _, err := again.Whose(text); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("deleted: %v", err)
	}
	for text, kind := range map[string]fault.Kind{"{": fault.Corrupt, `{"format":3}`: fault.Unsupported, `[{"name":"x","sha256":"00"}]`: fault.Corrupt, "[": fault.Corrupt} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := OpenTokens(path, nil); !errors.Is(err, kind) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestWords: a digest that somebody has written by hand makes no token of a word.
func TestWords(t *testing.T) {
	s, _, err := OpenTokens(filepath.Join(t.TempDir(), "t"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"secret", "pannier_secret", "pannier_abcdefgh_secret", "pannier__" + strings.Repeat("a", 43)} {
		s.Set([]Token{{Name: "x", Scopes: []Scope{Administer}, Digest: sha256.Sum256([]byte(word))}})
		if _, err := s.Whose(word); !errors.Is(err, fault.Unauthenticated) {
			t.Errorf("%q is a token: %v", word, err)
		}
	}
}

// TestSet: who is proved by the same text and may the same goes on; of a token that has changed,
// what was begun by it ends, and what it may is what it may now; another text is another token.
func TestSet(t *testing.T) {
	s, _, err := OpenTokens(filepath.Join(t.TempDir(), "t"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	text, one := NewToken(Token{Name: "one", Scopes: []Scope{Read}})
	s.Set([]Token{one})
	c, err := s.Whose(text)
	if err != nil {
		t.Fatal(err)
	}
	goesOn, cancel := s.Until(t.Context(), c.ID)
	defer cancel()
	_, other := NewToken(Token{Name: "other", Scopes: []Scope{Read}})
	s.Set([]Token{other, one})
	if goesOn.Err() != nil {
		t.Error("another token ends it")
	}
	less := one
	less.Scopes = []Scope{Submit}
	s.Set([]Token{less})
	<-goesOn.Done()
	if c, err := s.ByID(c.ID); err != nil || c.May(Read) || !c.May(Submit) {
		t.Errorf("a session, after it was changed: %+v, %v", c, err)
	}
	_, rotated := NewToken(less)
	rotated.ID = one.ID
	s.Set([]Token{rotated})
	if _, err := s.ByID(c.ID); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("a session outlives its token's text: %v", err)
	}
}

// TestUntil: what is done by a token ends when it is deleted, when it expires, and at once when
// there is none; not when another is deleted.
func TestUntil(t *testing.T) {
	tokens, _, err := OpenTokens(filepath.Join(t.TempDir(), "t"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	made := func(name string, expires time.Time) string {
		_, one := NewToken(Token{Name: name, Scopes: []Scope{Read}, Expires: expires})
		tokens.Set(append(tokens.List(), one))
		return one.key()
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
	tokens.Set(slices.DeleteFunc(tokens.List(), func(one Token) bool { return one.Name == "deleted" }))
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
