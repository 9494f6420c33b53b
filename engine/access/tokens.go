package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/engine/statefile"
	"github.com/pannier/pannier/spec/fault"
)

const (
	prefix     = "pannier_" // of each token, so that scanners for secrets find one
	secretSize = 32         // bytes from the system's random numbers
	idSize     = 8          // letters and digits
	maxTokens  = 1000
	maxName    = 64
	// noteEvery is how often the last use of a token is written down.
	noteEvery = time.Minute
)

// Token is what the node keeps of a token: not the token itself.
type Token struct {
	Name    string
	ID      string   // its public part
	Scopes  []Scope  // at least one
	Rules   []string // for Submit; none: all
	Created time.Time
	By      string        // who has made it
	Expires time.Time     // zero: never
	Used    time.Time     // about when last; zero: never
	hash    []byte        // SHA-256 of the whole token
	gone    chan struct{} // closed when it is deleted
}

// kept is a token in the file.
type kept struct {
	Name    string    `json:"name"`
	ID      string    `json:"id"`
	Hash    string    `json:"sha256"`
	Scopes  []string  `json:"scopes"`
	Rules   []string  `json:"rules,omitempty"`
	Created time.Time `json:"created"`
	By      string    `json:"by,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
	Used    time.Time `json:"used,omitzero"`
}

// Tokens are a node's, in a file of its state directory. All methods may be called
// at the same time.
type Tokens struct {
	path string
	log  *slog.Logger
	now  func() time.Time

	mu    sync.Mutex
	all   map[string]*Token // by id
	noted time.Time         // when uses were last written down
}

// OpenTokens reads the tokens in a file; one that is not there has none. Corrupt: it
// is no such file.
func OpenTokens(path string, log *slog.Logger) (*Tokens, error) {
	t := &Tokens{path: path, log: log, now: time.Now, all: map[string]*Token{}}
	data, err := statefile.Read(path)
	if err != nil || data == nil {
		return t, err
	}
	var list []kept
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fault.New("read tokens", fault.Corrupt, "%s: %v; put back a copy, or remove it and make new tokens", path, err)
	}
	for _, k := range list {
		hash, err := hex.DecodeString(k.Hash)
		if err != nil || len(hash) != sha256.Size {
			return nil, fault.New("read tokens", fault.Corrupt, "%s: token %q has no digest", path, k.Name)
		}
		one := &Token{Name: k.Name, ID: k.ID, Rules: k.Rules, Created: k.Created, By: k.By, Expires: k.Expires, Used: k.Used, hash: hash, gone: make(chan struct{})}
		for _, text := range k.Scopes {
			s, err := ParseScope(text)
			if err != nil {
				return nil, fault.New("read tokens", fault.Corrupt, "%s: token %q: %w", path, k.Name, err)
			}
			one.Scopes = append(one.Scopes, s)
		}
		t.all[one.ID] = one
	}
	return t, nil
}

// Create makes a token of that name, scopes, rules and end, and returns its text, which
// nobody can have again. Exists: there is one of that name.
func (t *Tokens) Create(want Token) (text string, made Token, err error) {
	const op = "create token"
	switch {
	case want.Name == "" || len(want.Name) > maxName || strings.ContainsFunc(want.Name, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return "", made, fault.New(op, fault.Invalid, "a name has 1 to %d bytes, without spaces and control characters", maxName)
	case len(want.Scopes) == 0:
		return "", made, fault.New(op, fault.Invalid, "say what it may: read, submit, operate, administer")
	case len(want.Rules) > 0 && !slices.Contains(want.Scopes, Submit):
		return "", made, fault.New(op, fault.Invalid, "rules are for scope submit, which the token has not")
	case !want.Expires.IsZero() && !want.Expires.After(t.now()):
		return "", made, fault.New(op, fault.Invalid, "it would have expired at %s already", want.Expires.UTC().Format(time.RFC3339))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.all) >= maxTokens {
		return "", made, fault.New(op, fault.Overloaded, "there are %d tokens: delete some", maxTokens)
	}
	if t.named(want.Name) != nil {
		return "", made, fault.New(op, fault.Exists, "there is a token %q already", want.Name)
	}
	secret := make([]byte, secretSize)
	rand.Read(secret) // never fails
	id := strings.ToLower(rand.Text()[:idSize])
	text = prefix + id + "_" + base64.RawURLEncoding.EncodeToString(secret)
	sum := sha256.Sum256([]byte(text))
	made = Token{Name: want.Name, ID: id, Scopes: slices.Clone(want.Scopes), Rules: slices.Clone(want.Rules), Created: t.now().UTC(), By: want.By, Expires: want.Expires, hash: sum[:], gone: make(chan struct{})}
	one := made
	t.all[id] = &one
	if err := t.write(); err != nil {
		delete(t.all, id)
		return "", Token{}, err
	}
	return text, made, nil
}

// Delete ends a token. NotFound: there is none of that name.
func (t *Tokens) Delete(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.named(name)
	if one == nil {
		return fault.New("delete token", fault.NotFound, "there is no token %q: pannier token list prints them", name)
	}
	delete(t.all, one.ID)
	if err := t.write(); err != nil {
		t.all[one.ID] = one
		return err
	}
	close(one.gone)
	return nil
}

// Until is ctx that ends when a token is deleted or expires, with Unauthenticated as its cause:
// for calls that go on after the token was asked for.
func (t *Tokens) Until(ctx context.Context, id string) (context.Context, context.CancelFunc) {
	t.mu.Lock()
	one := t.all[id]
	t.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	if one == nil {
		cancel(refused())
		return ctx, func() {}
	}
	expires := func() {}
	if !one.Expires.IsZero() {
		ctx, expires = context.WithDeadlineCause(ctx, one.Expires, refused())
	}
	go func() {
		select {
		case <-one.gone:
			cancel(refused())
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil); expires() }
}

// List is all tokens, by name.
func (t *Tokens) List() (all []Token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, one := range t.all {
		all = append(all, *one)
	}
	slices.SortFunc(all, func(a, b Token) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Whose is the caller that a token's text proves. Unauthenticated: there is no such
// token, or it has expired; why, nobody is told.
func (t *Tokens) Whose(text string) (Caller, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rest, ok := strings.CutPrefix(text, prefix)
	id, _, split := strings.Cut(rest, "_")
	one := t.all[id]
	sum := sha256.Sum256([]byte(text))
	if !ok || !split || one == nil || subtle.ConstantTimeCompare(sum[:], one.hash) != 1 {
		return Caller{}, refused()
	}
	return t.caller(one)
}

// ByID is the caller of a token that was proved before, as for a session of a browser.
func (t *Tokens) ByID(id string) (Caller, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.all[id]
	if one == nil {
		return Caller{}, refused()
	}
	return t.caller(one)
}

func refused() error {
	return fault.New("authenticate", fault.Unauthenticated, "the token is unknown or has expired; pannier token list prints those there are")
}

// caller notes the use of a token. t.mu is held.
func (t *Tokens) caller(one *Token) (Caller, error) {
	now := t.now()
	if !one.Expires.IsZero() && !now.Before(one.Expires) {
		return Caller{}, refused()
	}
	one.Used = now.UTC()
	if now.Sub(t.noted) >= noteEvery {
		t.noted = now
		if err := t.write(); err != nil {
			t.log.Warn("when tokens were used is not written down", "error", err)
		}
	}
	return Caller{Name: "token " + one.Name, Token: one.Name, ID: one.ID, Scopes: one.Scopes, Rules: one.Rules}, nil
}

// named is the token of a name. t.mu is held.
func (t *Tokens) named(name string) *Token {
	for _, one := range t.all {
		if one.Name == name {
			return one
		}
	}
	return nil
}

// write writes the file anew. t.mu is held.
func (t *Tokens) write() error {
	list := make([]kept, 0, len(t.all))
	for _, one := range t.all {
		k := kept{Name: one.Name, ID: one.ID, Hash: hex.EncodeToString(one.hash), Rules: one.Rules, Created: one.Created, By: one.By, Expires: one.Expires, Used: one.Used}
		for _, s := range one.Scopes {
			k.Scopes = append(k.Scopes, s.String())
		}
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b kept) int { return strings.Compare(a.Name, b.Name) })
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return fault.Wrap("write tokens", t.path, err)
	}
	return statefile.Write(t.path, append(data, '\n'))
}
