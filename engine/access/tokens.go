package access

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"maps"
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
	// noteEvery is how often the last use of a token is written down.
	noteEvery = time.Minute
	// format is that of the file of uses. Before it had a number the file was a list of the tokens.
	format = 2
)

// MaxTokens is how many a node may have.
const MaxTokens = 1000

// Token is what a node keeps of a token: a digest, and not the token itself.
type Token struct {
	Name    string
	ID      string            // its public part; may be empty
	Digest  [sha256.Size]byte // SHA-256 of the whole text
	Scopes  []Scope           // at least one
	Rules   []string          // for Submit; none: all
	Expires time.Time         // zero: never
	Used    time.Time         // about when last; zero: never. Of Tokens.List
	gone    chan struct{}     // closed when it is deleted or another
}

// NewToken gives a token a text, which nobody can have again, and its digest.
func NewToken(want Token) (text string, made Token) {
	secret := make([]byte, secretSize)
	rand.Read(secret) // never fails
	want.ID = strings.ToLower(rand.Text()[:idSize])
	text = prefix + want.ID + "_" + base64.RawURLEncoding.EncodeToString(secret)
	want.Digest = sha256.Sum256([]byte(text))
	return text, want
}

// isText reports whether a text has the form of those of NewToken: whoever writes a digest by
// hand cannot make a token of a word that can be guessed.
func isText(text string) bool {
	rest, ok := strings.CutPrefix(text, prefix)
	id, secret, split := strings.Cut(rest, "_")
	return ok && split && len(id) == idSize && len(secret) == base64.RawURLEncoding.EncodedLen(secretSize)
}

// same reports whether two tokens are proved by the same text and may the same.
func (t *Token) same(o *Token) bool {
	return t.Name == o.Name && t.ID == o.ID && t.Digest == o.Digest && slices.Equal(t.Scopes, o.Scopes) && slices.Equal(t.Rules, o.Rules) && t.Expires.Equal(o.Expires)
}

// key names a token for as long as it is proved by the same text.
func (t *Token) key() string { return hex.EncodeToString(t.Digest[:]) }

// Before is a token of a version whose file had them all.
type Before struct {
	Token
	Created time.Time
	By      string // who has made it
}

// Tokens are those of a node, which Set gives, and when they were used, in a file of its state
// directory. All methods may be called at the same time.
type Tokens struct {
	path string
	log  *slog.Logger
	now  func() time.Time

	mu    sync.Mutex
	all   map[string]*Token    // by key
	used  map[string]time.Time // by useOf
	noted time.Time            // when uses were last written down
}

// useOf is what the file calls a token. It has no digest.
func useOf(t *Token) string {
	sum := sha256.Sum256(t.Digest[:])
	return hex.EncodeToString(sum[:idSize])
}

// OpenTokens reads when tokens were used from a file; without one none was. before are the tokens
// that an older version has in it: who takes them over calls Forget. Corrupt: it is no such file.
func OpenTokens(path string, log *slog.Logger) (t *Tokens, before []Before, err error) {
	const op = "read tokens"
	t = &Tokens{path: path, log: log, now: time.Now, all: map[string]*Token{}, used: map[string]time.Time{}}
	data, err := statefile.Read(path)
	if err != nil || data == nil {
		return t, nil, err
	}
	if data = bytes.TrimSpace(data); len(data) > 0 && data[0] == '[' {
		before, err = t.before(data)
		return t, before, err
	}
	var kept uses
	if err := json.Unmarshal(data, &kept); err != nil {
		return nil, nil, fault.New(op, fault.Corrupt, "%s: %v; put back a copy, or remove it, which forgets only when tokens were used", path, err)
	}
	if kept.Format != format {
		return nil, nil, fault.New(op, fault.Unsupported, "%s has format %d, this version knows %d: run the version that has written it", path, kept.Format, format)
	}
	if kept.Used != nil {
		t.used = kept.Used
	}
	return t, nil, nil
}

// uses is the file.
type uses struct {
	Format int                  `json:"format"`
	Used   map[string]time.Time `json:"used"`
}

// before reads the list of an older version.
func (t *Tokens) before(data []byte) (all []Before, err error) {
	const op = "read tokens"
	var list []struct {
		Name    string    `json:"name"`
		ID      string    `json:"id"`
		Hash    string    `json:"sha256"`
		Scopes  []string  `json:"scopes"`
		Rules   []string  `json:"rules"`
		Created time.Time `json:"created"`
		By      string    `json:"by"`
		Expires time.Time `json:"expires"`
		Used    time.Time `json:"used"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fault.New(op, fault.Corrupt, "%s: %v; put back a copy, or remove it and make new tokens", t.path, err)
	}
	for _, k := range list {
		one := Before{Token{Name: k.Name, ID: k.ID, Rules: k.Rules, Expires: k.Expires}, k.Created, k.By}
		if n, err := hex.Decode(one.Digest[:], []byte(k.Hash)); err != nil || n != sha256.Size {
			return nil, fault.New(op, fault.Corrupt, "%s: token %q has no digest", t.path, k.Name)
		}
		for _, text := range k.Scopes {
			s, err := ParseScope(text)
			if err != nil {
				return nil, fault.New(op, fault.Corrupt, "%s: token %q: %w", t.path, k.Name, err)
			}
			one.Scopes = append(one.Scopes, s)
		}
		if !k.Used.IsZero() {
			t.used[useOf(&one.Token)] = k.Used
		}
		all = append(all, one)
	}
	return all, nil
}

// Forget writes the file without the tokens that an older version had in it.
func (t *Tokens) Forget() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.write()
}

// Set says which tokens there are. What is done by one that is none any more, or may
// something else now, ends.
func (t *Tokens) Set(all []Token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := make(map[string]*Token, len(all))
	for _, one := range all {
		if old := t.all[one.key()]; old != nil && old.same(&one) {
			next[one.key()] = old
			continue
		}
		one.gone = make(chan struct{})
		next[one.key()] = &one
	}
	for key, old := range t.all {
		if next[key] != old {
			close(old.gone)
		}
	}
	t.all = next
}

// Until is ctx that ends when a token is deleted, changed or expires, with Unauthenticated as its
// cause: for calls that go on after the token was asked for. id is that of its Caller.
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
		c := *one
		c.Used = t.used[useOf(one)]
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Token) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Whose is the caller that a token's text proves. Unauthenticated: there is no such
// token, or it has expired; why, nobody is told.
func (t *Tokens) Whose(text string) (Caller, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := sha256.Sum256([]byte(text)) // how long it takes to look for that tells nothing of a text
	one := t.all[hex.EncodeToString(sum[:])]
	if one == nil || !isText(text) {
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
	t.used[useOf(one)] = now.UTC()
	if now.Sub(t.noted) >= noteEvery {
		t.noted = now
		if err := t.write(); err != nil {
			t.log.Warn("when tokens were used is not written down", "error", err)
		}
	}
	return Caller{Name: "token " + one.Name, Token: one.Name, ID: one.key(), Scopes: one.Scopes, Rules: one.Rules}, nil
}

// write writes the file anew. t.mu is held.
func (t *Tokens) write() error {
	kept := uses{Format: format, Used: map[string]time.Time{}}
	for _, one := range t.all {
		if at, ok := t.used[useOf(one)]; ok {
			kept.Used[useOf(one)] = at
		}
	}
	t.used = maps.Clone(kept.Used)
	data, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return fault.Wrap("write tokens", t.path, err)
	}
	return statefile.Write(t.path, append(data, '\n'))
}
