package httpd

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/flow/carrier"
)

// served is a server with a route of each scope, over TLS and a unix socket.
type served struct {
	*Server
	tokens       *access.Tokens
	https, local *http.Client
	address      string // host and port
	allowed      bool   // users of this host

	mu   sync.Mutex
	told []string // of sessions
}

func (s *served) session(who, from string, begun bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from == "" {
		who += " from nowhere"
	}
	s.told = append(s.told, fmt.Sprint(who, " ", begun))
}

func serve(t *testing.T) *served {
	t.Helper()
	dir, err := os.MkdirTemp("", "pn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &served{allowed: true}
	if s.tokens, _, err = access.OpenTokens(filepath.Join(dir, "t"), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if s.Server, err = New(Config{Tokens: s.tokens, Icon: "/icon.svg", Local: func(int) bool { return s.allowed }, Session: s.session}); err != nil {
		t.Fatal(err)
	}
	s.conns = 32 // descriptors of one process are few
	for scope := access.Public; scope <= access.Administer; scope++ {
		s.Mount("/"+scope.String(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
				return
			}
			if r.URL.Query().Has("wait") {
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}
			fmt.Fprint(w, CallerOf(r.Context()).Name)
		}), scope)
	}
	id, err := carrier.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	cert := id.Certificate()
	socket := filepath.Join(dir, "s")
	for _, address := range []string{"unix://" + socket, "tls://127.0.0.1:0"} {
		if err := s.Listen(address, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }); err != nil {
			t.Fatal(err)
		}
	}
	s.address = strings.TrimPrefix(s.Addresses()[1], "tls://")
	over := make(chan error, 1)
	go func() { over <- s.Serve() }()
	t.Cleanup(func() {
		s.Close()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	none := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s.https = &http.Client{CheckRedirect: none, Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	s.local = &http.Client{CheckRedirect: none, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	t.Cleanup(s.https.CloseIdleConnections)
	t.Cleanup(s.local.CloseIdleConnections)
	return s
}

// ask sends a request over TLS, with headers as pairs.
func (s *served) ask(t *testing.T, method, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://"+s.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	a, err := s.https.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []string{"Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Cache-Control"} {
		if a.Header.Get(h) == "" {
			t.Errorf("%s %s: no %s", method, path, h)
		}
	}
	return a, string(body)
}

func (s *served) token(t *testing.T, name string, scopes ...access.Scope) string {
	t.Helper()
	text, made := access.NewToken(access.Token{Name: name, Scopes: scopes})
	s.tokens.Set(append(s.tokens.List(), made))
	return text
}

// TestEachRoute: every route that is not public is refused without a token, with a wrong
// one, and with one of too little scope; it answers one of its scope.
func TestEachRoute(t *testing.T) {
	s := serve(t)
	little, all := s.token(t, "little", access.Submit), s.token(t, "all", access.Administer)
	for _, r := range s.Routes() {
		method, path, ok := strings.Cut(r.Pattern, " ")
		if !ok {
			method, path = "POST", r.Pattern
		}
		if path == "/logout" {
			continue // ends a session whoever it is
		}
		status := func(headers ...string) int { a, _ := s.ask(t, method, path, headers...); return a.StatusCode }
		public := r.Scope == access.Public
		if got := status(); !public && got != 401 || public && path != "/login" && got != 200 {
			t.Errorf("%s: nobody gets %d", r.Pattern, got)
		}
		for _, wrong := range []string{"Bearer nobody", "Bearer " + little + "x", "Basic abc", "Bearer"} {
			if got := status("Authorization", wrong); got != 401 {
				t.Errorf("%s: %s gets %d", r.Pattern, wrong, got)
			}
		}
		want := 403
		if r.Scope <= access.Any || r.Scope == access.Submit {
			want = 200
		}
		if got := status("Authorization", "Bearer "+little); path != "/login" && got != want {
			t.Errorf("%s: a token of submit gets %d, want %d", r.Pattern, got, want)
		}
		if got := status("Authorization", "Bearer "+all); path != "/login" && got != 200 {
			t.Errorf("%s: a token of all gets %d", r.Pattern, got)
		}
	}
	if a, _ := s.ask(t, "GET", "/nowhere"); a.StatusCode != 401 {
		t.Errorf("what is not there: nobody gets %d", a.StatusCode)
	}
}

// TestMountNeedsScope: a route without a scope ends the program when it starts.
func TestMountNeedsScope(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it was mounted")
		}
	}()
	serve(t).Mount("/open", http.NotFoundHandler(), 0)
}

// TestLocal: the user of the socket counts, and a token that is sent counts more.
func TestLocal(t *testing.T) {
	s := serve(t)
	get := func(headers ...string) (int, string) {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://x/any", nil)
		if len(headers) > 0 {
			r.Header.Set(headers[0], headers[1])
		}
		a, err := s.local.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		b, _ := io.ReadAll(a.Body)
		return a.StatusCode, string(b)
	}
	if code, body := get(); code != 200 || body != fmt.Sprint("user ", os.Geteuid()) {
		t.Error(code, body)
	}
	if code, _ := get("Authorization", "Bearer wrong"); code != 401 {
		t.Errorf("a wrong token: %d", code)
	}
	s.allowed = false
	if code, body := get(); code != 403 || !strings.Contains(body, "may not run this node") {
		t.Errorf("a stranger: %d %s", code, body)
	}
}

// TestCrossOrigin: a page of another site can make a browser send nothing that changes
// something, not even with the session's cookie.
func TestCrossOrigin(t *testing.T) {
	s := serve(t)
	cookie := s.cookie(t, s.token(t, "b", access.Administer))
	for _, foreign := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
		if a, body := s.ask(t, "POST", "/administer", append(foreign, "Cookie", cookie)...); a.StatusCode != 403 || !strings.Contains(body, "another site") || !strings.Contains(body, "own page") {
			t.Errorf("%v: %d %s", foreign, a.StatusCode, body)
		}
	}
	if a, body := s.ask(t, "POST", "/administer", "Sec-Fetch-Site", "same-origin", "Cookie", cookie); a.StatusCode != 200 || body != "token b" {
		t.Errorf("the own page: %d %s", a.StatusCode, body)
	}
}

// cookie logs in.
func (s *served) cookie(t *testing.T, token string) string {
	t.Helper()
	a, err := s.https.PostForm("https://"+s.address+"/login", url.Values{"token": {token}})
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	if a.StatusCode != http.StatusSeeOther || len(a.Cookies()) != 1 {
		t.Fatalf("log in: %d, %v", a.StatusCode, a.Cookies())
	}
	c := a.Cookies()[0]
	if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || strings.Contains(c.Value, token) {
		t.Errorf("%+v", c)
	}
	return c.Name + "=" + c.Value
}

// TestNext: who logs in goes on to the page that was asked for, and nowhere else.
func TestNext(t *testing.T) {
	s := serve(t)
	token := s.token(t, "b", access.Read)
	for next, want := range map[string]string{
		"": "/", "/read": "/read", "/transfers?q=a&x=%2F#top": "/transfers?q=a&x=%2F#top",
		"https://elsewhere.test/": "/", "//elsewhere.test/": "/", "/\\elsewhere.test": "/", "\\\\elsewhere.test": "/", "/%2F/elsewhere.test": "/", "javascript:alert(1)": "/", "read": "/",
		"/\t/elsewhere.test": "/", "///elsewhere.test": "/", "/" + strings.Repeat("x", mostNext): "/", "/%zz": "/",
	} {
		a, err := s.https.PostForm("https://"+s.address+"/login", url.Values{"token": {token}, "next": {next}})
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if got := a.Header.Get("Location"); a.StatusCode != http.StatusSeeOther || got != want {
			t.Errorf("%.50q leads to %.50q, want %q", next, got, want)
		}
		_, form := s.ask(t, "GET", "/login?next="+url.QueryEscape(next))
		if has := strings.Contains(form, `name="next"`); has != (want != "/") {
			t.Errorf("%.50q is in the form: %v", next, has)
		}
	}
	if _, form := s.ask(t, "GET", "/login?next="+url.QueryEscape(`/"><script>`)); strings.Contains(form, "<script") {
		t.Error(form)
	}
}

// TestSession: a browser logs in with a token, and is out when it says so, and when the
// token is deleted; one that knows none is led to the form.
func TestSession(t *testing.T) {
	s := serve(t)
	a, _ := s.ask(t, "GET", "/read", "Accept", "text/html")
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/login?next=%2Fread" {
		t.Errorf("%d to %s", a.StatusCode, a.Header.Get("Location"))
	}
	if a, _ := s.ask(t, "GET", "/read", "Accept", "application/json"); a.StatusCode != 401 {
		t.Errorf("a program is told %d", a.StatusCode)
	}
	wrong, err := s.https.PostForm("https://"+s.address+"/login", url.Values{"token": {"<script>"}})
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(wrong.Body)
	wrong.Body.Close()
	if wrong.StatusCode != 401 || strings.Contains(string(body), "<script") || len(wrong.Cookies()) != 0 {
		t.Errorf("a wrong token: %d %s", wrong.StatusCode, body)
	}
	token := s.token(t, "b", access.Read)
	first, second := s.cookie(t, token), s.cookie(t, token)
	if a, _ := s.ask(t, "POST", "/logout", "Cookie", first); a.StatusCode != http.StatusSeeOther {
		t.Errorf("log out: %d", a.StatusCode)
	}
	for cookie, want := range map[string]int{first: 401, second: 200, cookieName + "=": 401} {
		if a, _ := s.ask(t, "GET", "/read", "Cookie", cookie); a.StatusCode != want {
			t.Errorf("%d, want %d", a.StatusCode, want)
		}
	}
	s.ask(t, "POST", "/logout", "Cookie", first) // which is over, and told once
	s.mu.Lock()
	if got := strings.Join(s.told, ", "); got != "token b true, token b true, token b false" {
		t.Errorf("told of sessions: %s", got)
	}
	s.mu.Unlock()
	s.tokens.Set(nil)
	if a, _ := s.ask(t, "GET", "/read", "Cookie", second); a.StatusCode != 401 {
		t.Errorf("its token is gone: %d", a.StatusCode)
	}
}

// TestPlainPages: a browser is told on a page what it may not see and what is not there, with a way
// on; a program gets JSON, or a status.
func TestPlainPages(t *testing.T) {
	s := serve(t)
	html := []string{"Accept", "text/html,*/*", "Cookie", s.cookie(t, s.token(t, "little", access.Submit))}
	a, body := s.ask(t, "GET", "/read", html...)
	if a.StatusCode != 403 || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") || !strings.Contains(body, "<h1>Not allowed</h1>") || !strings.Contains(body, `action="/logout"`) || strings.Contains(body, `{"error"`) {
		t.Errorf("a token of submit: %d %s", a.StatusCode, body)
	}
	for _, path := range []string{"/login", "/read"} { // or it asks for /favicon.ico, which is not to be had
		if _, body := s.ask(t, "GET", path, html...); !strings.Contains(body, `<link rel="icon" href="/icon.svg"`) {
			t.Errorf("%s names no icon: %s", path, body)
		}
	}
	a, body = s.ask(t, "GET", "/nowhere%3Cscript%3E", html...)
	if a.StatusCode != 404 || !strings.Contains(body, "There is no page /nowhere&lt;script&gt;.") || !strings.Contains(body, `href="/"`) {
		t.Errorf("no page: %d %s", a.StatusCode, body)
	}
	little := s.token(t, "program", access.Submit)
	if a, body := s.ask(t, "GET", "/read", "Authorization", "Bearer "+little); a.StatusCode != 403 || !strings.Contains(body, `"kind":"permission denied"`) {
		t.Errorf("a program: %d %s", a.StatusCode, body)
	}
	if _, body := s.ask(t, "GET", "/read", "Accept", "text/html", "Authorization", "Bearer "+little); strings.Contains(body, "/logout") {
		t.Errorf("who has not logged in: %s", body)
	}
}

// TestBounds: a header and a body beyond the limit are refused, and a place is for one
// connection.
func TestBounds(t *testing.T) {
	s := serve(t)
	token := "Bearer " + s.token(t, "b", access.Administer)
	if a, err := s.https.Do(must(http.NewRequest("GET", "https://"+s.address+"/any?"+strings.Repeat("x", 2*maxHeader), nil))); err == nil {
		a.Body.Close()
		if a.StatusCode < 400 {
			t.Errorf("a long header: %d", a.StatusCode)
		}
	}
	r := must(http.NewRequest("POST", "https://"+s.address+"/administer", strings.NewReader(strings.Repeat("x", maxBody+1))))
	r.Header.Set("Authorization", token)
	if a, err := s.https.Do(r); err == nil {
		defer a.Body.Close()
		if said, err := io.ReadAll(a.Body); a.StatusCode != http.StatusRequestEntityTooLarge || err != nil || !strings.Contains(string(said), "the limit is 4194304") {
			t.Errorf("a long body: %d", a.StatusCode)
		}
	}
}

func must(r *http.Request, err error) *http.Request {
	if err != nil {
		panic(err)
	}
	return r
}

// TestSilentClients: who connects and says nothing, or a byte at a time, keeps its place a
// while; others are served meanwhile, until all places are taken, and again afterwards.
func TestSilentClients(t *testing.T) {
	s := serve(t)
	token := s.token(t, "b", access.Read)
	var silent []net.Conn
	for range s.conns - 2 {
		c, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, c)
		if _, err := c.Write([]byte{22}); err != nil { // the first byte of a handshake
			t.Fatal(err)
		}
	}
	if a, _ := s.ask(t, "GET", "/read", "Authorization", "Bearer "+token); a.StatusCode != 200 {
		t.Errorf("beside silent clients: %d", a.StatusCode)
	}
	if s.http.ReadHeaderTimeout == 0 || s.http.IdleTimeout == 0 {
		t.Error("silent clients stay for ever")
	}
	for _, c := range silent {
		c.Close()
	}
	s.https.CloseIdleConnections()
	for begun := time.Now(); ; {
		r := must(http.NewRequestWithContext(t.Context(), "GET", "https://"+s.address+"/read", nil))
		r.Header.Set("Authorization", "Bearer "+token)
		if a, err := s.https.Do(r); err == nil {
			a.Body.Close()
			break
		} else if time.Since(begun) > time.Minute {
			t.Fatal(err)
		}
	}
}

// TestNobodysCalls: a gRPC call of nobody is refused before its body comes, for which there is no
// deadline: its connection's place is not held by it.
func TestNobodysCalls(t *testing.T) {
	s := serve(t)
	s.cfg.Admin = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // as long as it takes
	})
	body, end := io.Pipe()
	defer end.Close()
	r := must(http.NewRequestWithContext(t.Context(), "POST", "https://"+s.address+"/pannier.admin.v1.Admin/Get", body))
	r.Header.Set("Content-Type", "application/grpc")
	late := time.AfterFunc(30*time.Second, func() { end.Close() })
	a, err := s.https.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	if !late.Stop() || a.Header.Get("Grpc-Status") != "16" {
		t.Errorf("it was waited for: %v", a.Header)
	}
}

// TestSessionEnds: what a browser follows ends when it logs out, and what another one with the
// same token follows does not.
func TestSessionEnds(t *testing.T) {
	s := serve(t)
	token := s.token(t, "b", access.Read)
	first, second := s.cookie(t, token), s.cookie(t, token)
	over := make(chan string, 2)
	for _, cookie := range []string{first, second} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		r := must(http.NewRequestWithContext(ctx, "GET", "https://"+s.address+"/read?wait", nil))
		r.Header.Set("Cookie", cookie)
		a, err := s.https.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer a.Body.Close()
			text, _ := io.ReadAll(a.Body)
			over <- string(text)
		}()
	}
	s.ask(t, "POST", "/logout", "Cookie", first)
	if text := <-over; text != "token b" {
		t.Errorf("it went on after the log out: %q", text)
	}
	if len(over) > 0 {
		t.Error("another session's is over, too")
	}
	s.ask(t, "POST", "/logout", "Cookie", second)
	<-over
}

// TestSessionTime: what a session has asked for ends when its time does.
func TestSessionTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newSessions(time.Now)
		one, ok := all.of(all.begin("token"))
		if !ok {
			t.Fatal("no session")
		}
		ctx, stop := one.during(t.Context(), time.Now())
		defer stop()
		began := time.Now()
		<-ctx.Done()
		if took := time.Since(began); took != sessionTime {
			t.Errorf("it ends after %v", took)
		}
	})
}

// TestSessionsOfOthers: who logs in again and again with one token logs nobody else out.
func TestSessionsOfOthers(t *testing.T) {
	now := time.Now()
	all := newSessions(func() time.Time { return now })
	first := all.begin("operator")
	var last string
	for range 2 * maxSessions {
		now = now.Add(time.Millisecond)
		last = all.begin("attacker")
	}
	if len(all.all) != maxSessions {
		t.Errorf("%d sessions", len(all.all))
	}
	for _, cookie := range []string{first, last} {
		if _, ok := all.of(cookie); !ok {
			t.Error("a session is gone")
		}
	}
}
