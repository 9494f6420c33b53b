package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/audit"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/spec/adminpb"
)

// tokenHost is a node with a file of its own, so that what is applied is there after a restart.
type tokenHost struct {
	*web
	path string
}

func newTokenHost(t *testing.T, more string) *tokenHost {
	t.Helper()
	h := &tokenHost{web: &web{host: newHost(t, "a")}}
	h.path = filepath.Join(h.dir, "a.toml")
	if err := os.WriteFile(h.path, []byte(h.text(fmt.Sprintf(overTLS, h.dir))+more), 0o600); err != nil {
		t.Fatal(err)
	}
	h.o.Read = func() (*config.Config, error) { return config.Load(h.path) }
	return h
}

func (h *tokenHost) begin() {
	h.t.Helper()
	cfg, err := config.Load(h.path)
	if err != nil {
		h.t.Fatal(err)
	}
	h.start(cfg)
	h.meet()
}

func (h *tokenHost) ended() {
	h.https.CloseIdleConnections()
	h.local.CloseIdleConnections()
	if err := h.end(); err != nil {
		h.t.Error(err)
	}
}

// is asks for something and wants a status and a part of the answer.
func (h *tokenHost) is(code int, part, token, method, path, body string, headers ...string) string {
	h.t.Helper()
	got, header, reply := h.ask(token, method, path, body, headers...)
	if got != code || !strings.Contains(reply, part) {
		h.t.Errorf("%s %s: %d %s, want %d with %q", method, path, got, reply, code, part)
	}
	return header.Get("ETag")
}

func put(text string) string {
	body, _ := json.Marshal(map[string]string{"text": text})
	return string(body)
}

// TestTokenObjects: a token is an object: it is listed, changed, exported, applied elsewhere and deleted
// with a revision, as the others are, and by those only who administer. Nothing has its text.
func TestTokenObjects(t *testing.T) {
	filed, inFile := access.NewToken(access.Token{Name: "filed", Scopes: []access.Scope{access.Read}})
	a := newTokenHost(t, inFile.Section())
	a.begin()
	ci := a.token("ci", `"read"`, "")
	_, _, before := a.ask("", "GET", "/v1/tokens", "")
	if strings.Contains(before, ci) || !strings.Contains(before, `"revision":"1"`) || !strings.Contains(before, `"user `) {
		t.Errorf("tokens: %s", before)
	}
	_, _, reply := a.ask("", "GET", "/v1/objects/token/ci", "")
	var o struct{ Text string }
	if err := json.Unmarshal([]byte(reply), &o); err != nil || strings.Contains(reply, ci) || !strings.Contains(o.Text, "sha256 = \"") {
		t.Fatal(reply, err)
	}
	for _, scope := range []string{"read", "submit", "operate", "administer"} {
		token := a.token(scope, fmt.Sprintf("%q", scope), "")
		if scope == "administer" {
			a.is(200, "sha256", token, "GET", "/v1/objects/token/ci", "")
			continue
		}
		for _, c := range [][3]string{{"GET", "/v1/objects?kind=token", ""}, {"GET", "/v1/objects/token/ci", ""}, {"PUT", "/v1/objects/token/ci", put(o.Text)}, {"DELETE", "/v1/objects/token/ci", ""}, {"POST", "/v1/objects:apply", put(o.Text)}, {"GET", "/v1/tokens", ""}} {
			a.is(403, "", token, c[0], c[1], c[2])
		}
		if code, _, reply := a.ask(token, "GET", "/v1/objects", ""); strings.Contains(reply, `"token"`) || strings.Contains(reply, "sha256 =") || (code == 200) != (scope != "submit") {
			t.Errorf("%s sees tokens: %d %s", scope, code, reply)
		}
	}
	a.is(200, "", ci, "GET", "/v1/requests", "") // and may not administer, yet
	a.is(403, "", ci, "GET", "/v1/tokens", "")
	tag := a.is(200, "", "", "GET", "/v1/objects/token/ci", "")
	more := strings.Replace(o.Text, `"read"`, `"administer"`, 1)
	now := a.is(200, "token ci has changed", "", "PUT", "/v1/objects/token/ci", put(more), "If-Match", tag)
	a.is(200, "", ci, "GET", "/v1/tokens", "")
	a.is(412, "has changed it", "", "PUT", "/v1/objects/token/ci", put(o.Text), "If-Match", tag)
	a.is(412, "has changed it", "", "DELETE", "/v1/objects/token/ci", "", "If-Match", tag)
	a.is(412, "has changed it", "", "DELETE", "/v1/tokens/ci?revision=1", "")
	a.is(412, "already", "", "PUT", "/v1/objects/token/ci", put(more), "If-None-Match", "*")
	a.is(409, "already", "", "POST", "/v1/tokens", `{"name":"ci","scopes":["read"]}`)
	a.is(409, "pannier reload", "", "DELETE", "/v1/tokens/filed", "")
	a.is(200, "", filed, "GET", "/v1/requests", "")
	for text, want := range map[string]string{
		strings.Replace(o.Text, `"read"`, `"raed"`, 1):                        `objects:3:11: \"raed\" is no scope; did you mean \"read\"?`,
		strings.Replace(o.Text, "expires", "expire", 1):                       `did you mean \"expires\"?`,
		o.Text[:strings.Index(o.Text, "sha256")] + "sha256 = \"" + ci[:8]:     `objects:`,
		strings.Replace(o.Text, `"ci"`, `"other"`, 1):                         "token ci has that digest already",
		strings.Replace(o.Text, "expires", "rules = [\"pusch\"]\nexpires", 1): `did you mean \"push\"?`,
	} {
		a.is(400, want, "", "POST", "/v1/objects:apply", put(text))
	}
	a.ended()
	a.begin()
	a.is(200, "", ci, "GET", "/v1/tokens", "")
	a.is(200, "", filed, "GET", "/v1/requests", "")

	b := newTokenHost(t, "")
	b.begin()
	b.is(401, "", ci, "GET", "/v1/requests", "")
	b.is(200, "token ci is new", "", "POST", "/v1/objects:apply", put(more))
	b.is(200, "", ci, "GET", "/v1/tokens", "")
	b.ended()

	a.is(200, "token ci is gone", "", "DELETE", "/v1/objects/token/ci", "", "If-Match", now)
	a.is(401, "", ci, "GET", "/v1/requests", "")
	if err := os.WriteFile(a.path, []byte(a.text(fmt.Sprintf(overTLS, a.dir))), 0o600); err != nil {
		t.Fatal(err)
	}
	a.is(200, "token filed is gone", "", "POST", "/v1/reload", "{}")
	a.is(401, "", filed, "GET", "/v1/requests", "")
	a.ended()
	a.begin()
	a.is(401, "", ci, "GET", "/v1/requests", "")
	a.ended()
}

// TestTokensBefore: the tokens of a version that kept them in a file of their own go on, with their
// revisions, whatever their names and rules are; the file has no digest any more.
func TestTokensBefore(t *testing.T) {
	h := newTokenHost(t, "")
	made := func(name string, scopes []access.Scope, rules ...string) (string, map[string]any) {
		text, one := access.NewToken(access.Token{Name: name, Scopes: scopes, Rules: rules})
		k := map[string]any{"name": name, "id": one.ID, "sha256": fmt.Sprintf("%x", one.Digest), "created": time.Now(), "by": "user 7", "rules": rules, "used": time.Now()}
		for _, s := range scopes {
			k["scopes"] = append(asTexts(k["scopes"]), s.String())
		}
		return text, k
	}
	ci, one := made("ci", []access.Scope{access.Read})
	slash, two := made("team/ci", []access.Scope{access.Read})
	dash, three := made("team-ci", []access.Scope{access.Read})
	gone, four := made("gone", []access.Scope{access.Read, access.Submit}, "a rule that has gone")
	data, err := json.Marshal([]any{one, two, three, four})
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(h.dir, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(node.TokensPath(state), data, 0o600); err != nil {
		t.Fatal(err)
	}
	h.write("x", "x")
	for range 2 { // the second time they are objects
		h.begin()
		for _, text := range []string{ci, slash, dash, gone} {
			h.is(200, "", text, "GET", "/v1/requests", "")
		}
		h.is(403, "", gone, "POST", "/v1/requests", `{"partner":"a","rule":"push","source":"x","target":"y"}`) // by no rule, and not by all
		h.is(200, `"by":"user 7"`, "", "GET", "/v1/objects/token/team-ci-2", "")
		if kept, err := os.ReadFile(node.TokensPath(state)); err != nil || strings.Contains(string(kept), "sha256") || !strings.Contains(string(kept), "used") {
			t.Errorf("%s %v", kept, err)
		}
		h.ended()
	}
}

func asTexts(v any) []string {
	all, _ := v.([]string)
	return all
}

// TestPutAnswers: who puts an object is told what it has made, whoever changes it right after, and what is
// different for the node then; two who put it with the tags they were given lose nothing of each other's.
func TestPutAnswers(t *testing.T) {
	h := newTokenHost(t, "")
	h.begin()
	ctx, client := h.grpc(h.token("x", `"administer"`, ""))
	const each = 20
	done := make(chan error, 2)
	for who := range 2 {
		go func() {
			done <- func() error {
				for i := range each {
					text := fmt.Sprintf("%sconcurrent = %d\n", branch, 1+who*each+i)
					o, err := client.PutObject(ctx, &adminpb.PutObjectRequest{Kind: "partner", Name: "branch", Text: text})
					if err != nil {
						return err
					}
					if o.GetText() != text || !strings.Contains(strings.Join(o.GetNotes(), " "), "partner branch") {
						return fmt.Errorf("it was told of %q, notes %q", o.GetText(), o.GetNotes())
					}
				}
				return nil
			}()
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if _, err := client.DeleteObject(context.WithoutCancel(ctx), &adminpb.DeleteObjectRequest{Kind: "partner", Name: "branch"}); err != nil {
		t.Error(err)
	}
	h.ended()
}

// TestSessionsAudited: the audit log has when a browser has begun and ended a session, and with which token.
func TestSessionsAudited(t *testing.T) {
	h := newTokenHost(t, "[audit]\nenabled = true\nsync = \"each\"\n")
	h.begin()
	token := h.token("olga", `"read"`, "")
	browser := *h.https
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	cookie := ""
	asks := func(want int, method, path, form string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "https://"+h.port+path, strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Cookie", cookie)
		a, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if a.StatusCode != want {
			t.Errorf("%s %s: %s", method, path, a.Status)
		}
		if path == "/login" {
			cookie, _, _ = strings.Cut(a.Header.Get("Set-Cookie"), ";")
		}
	}
	asks(303, "POST", "/login", url.Values{"token": {token}}.Encode())
	asks(200, "GET", "/v1/requests", "")
	asks(303, "POST", "/logout", "")
	asks(401, "GET", "/v1/requests", "")
	h.ended()
	var got []string
	for r, err := range audit.Read(node.AuditDir(filepath.Join(h.dir, "state"))) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(r.Do, "log") && r.Error == "" {
			got = append(got, r.Who+" "+r.Do)
			if !strings.HasPrefix(r.Detail, "from 127.0.0.1:") {
				t.Errorf("%+v", r)
			}
		}
		if strings.Contains(fmt.Sprint(r), token) || strings.Contains(fmt.Sprint(r), "sha256 =") {
			t.Errorf("a token is recorded: %+v", r)
		}
	}
	if strings.Join(got, ", ") != "token olga login, token olga logout" {
		t.Errorf("recorded: %v", got)
	}
}

// TestObjectsDuringReload: what is applied is told while a reload takes its time, and what that is not
// done with is not told yet.
func TestObjectsDuringReload(t *testing.T) {
	h := newTokenHost(t, "")
	reads, goes := make(chan struct{}), make(chan struct{})
	h.o.Read = func() (*config.Config, error) {
		close(reads)
		<-goes
		return config.Load(h.path)
	}
	h.begin()
	h.is(200, "", "", "PUT", "/v1/objects/partner/branch", put(branch))
	done := make(chan error, 1)
	go func() { _, err := h.node.ReadAgain(); done <- err }()
	<-reads
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client, err := admin.Dial("unix://" + filepath.Join(h.dir, "state", "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	o, err := client.GetObject(ctx, &adminpb.ObjectName{Kind: "partner", Name: "branch"})
	if err != nil || o.GetRevision() != 1 {
		t.Errorf("%v, %v", o, err)
	}
	close(goes)
	if err := <-done; err != nil {
		t.Error(err)
	}
	h.ended()
}
