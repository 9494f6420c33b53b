package web_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/admin/admintest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/web"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a page over a node without bytes, and who calls it.
type site struct {
	t      testing.TB
	engine *admintest.Engine
	client adminpb.AdminClient
	page   *web.Page
	server *httptest.Server

	mu     sync.Mutex
	caller *web.Caller // nil: nobody
}

var operator = web.Caller{Name: "olga", Read: true, Submit: true, Operate: true, LoggedIn: true}

// newSite serves the page of a node "here" with the partners "there" and "far".
func newSite(t testing.TB, wrap ...func(adminpb.AdminClient) adminpb.AdminClient) *site {
	t.Helper()
	s := &site{t: t, caller: &operator}
	rules := map[string]*engine.Rule{
		"out": {Name: "out", Direction: engine.Send, Partners: []string{engine.AnyPartner}, Root: t.TempDir(), Quota: sideeffect.NoQuota},
		"in":  {Name: "in", Direction: engine.Receive, Partners: []string{engine.AnyPartner}, Root: t.TempDir(), Quota: sideeffect.NoQuota},
	}
	s.engine = admintest.New("here", engine.Book{
		Partners: map[string]*engine.Partner{"there": {Name: "there", Address: "tls://there:6610"}, "far": {Name: "far"}}, Rules: rules,
	})
	s.client = serveAdmin(t, s.engine)
	for _, w := range wrap {
		s.client = w(s.client)
	}
	s.serve(s.client)
	return s
}

// serve serves the page.
func (s *site) serve(client adminpb.AdminClient) {
	s.t.Helper()
	var err error
	s.page, err = web.New(web.Config{Admin: client, Caller: s.who, Logout: "/logout"})
	if err != nil {
		s.t.Fatal(err)
	}
	s.server = httptest.NewServer(s.page)
	s.t.Cleanup(func() { s.page.Close(); s.server.Close() })
}

// siteOf serves the page of a real node that has its files in dir.
func siteOf(t testing.TB, dir string) *site {
	t.Helper()
	client, err := admin.Dial("unix://" + filepath.Join(dir, "state", "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	s := &site{t: t, client: client, caller: &operator}
	s.serve(client)
	return s
}

// shortDir is a directory with a name that leaves room for those of sockets.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "web")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// serveAdmin is a client of an engine's admin service.
func serveAdmin(t testing.TB, e admin.Engine) *admin.Client {
	t.Helper()
	address := "unix://" + filepath.Join(shortDir(t), "s")
	l, err := admin.Listen(address, admin.Access{})
	if err != nil {
		t.Fatal(err)
	}
	server, err := admin.New(admin.Config{Engine: e, Node: "here", Key: "sha256:00", Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	client, err := admin.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func (s *site) who(*http.Request) (web.Caller, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.caller == nil {
		return web.Caller{}, false
	}
	return *s.caller, true
}

// as says who calls from now on.
func (s *site) as(c *web.Caller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.caller = c
}

// do makes a call; headers come in pairs. Redirects are not followed.
func (s *site) do(method, path, body string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.server.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	a, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return a, string(text)
}

func (s *site) get(path string, headers ...string) string {
	s.t.Helper()
	a, text := s.do(http.MethodGet, path, "", headers...)
	if a.StatusCode != http.StatusOK {
		s.t.Fatalf("GET %s: %s: %s", path, a.Status, text)
	}
	return text
}

// request is the n-th of "here" to "there".
func request(n int, change ...func(*engine.Status)) engine.Status {
	var s engine.Status
	s.Key = lifecycle.Key{Requester: "here", ID: lifecycle.ID{byte(n >> 16), byte(n >> 8), byte(n), 15: 1}}
	s.Role, s.Side, s.State, s.Phase = lifecycle.Requester, lifecycle.Sender, lifecycle.ToSubmit, lifecycle.Accepted
	s.Spec = lifecycle.Spec{Partner: "there", Rule: "out", Source: name(fmt.Sprintf("file-%05d.bin", n)), Target: name(fmt.Sprintf("file-%05d.bin", n)), Follow: s.Key.ID}
	s.File, s.Size = s.Spec.Source, 1<<20
	s.Registered = time.Now().Add(-time.Hour).Add(time.Duration(n) * time.Millisecond)
	s.Changed = time.Now().Add(-time.Minute)
	s.Due = s.Changed
	for _, c := range change {
		c(&s)
	}
	return s
}

func name(s string) relpath.Path {
	p, err := relpath.Parse(s)
	if err != nil {
		panic(err)
	}
	return p
}

func called(file string) func(*engine.Status) {
	return func(s *engine.Status) { s.Spec.Source, s.Spec.Target, s.File = name(file), name(file), name(file) }
}

func runs(at int64) func(*engine.Status) {
	return func(s *engine.Status) {
		s.State, s.Phase, s.Rank, s.Attempt, s.Due = lifecycle.Running, lifecycle.Moving, at, 1, time.Time{}
		s.Live = &engine.Live{Doing: "moving bytes", Since: time.Now(), Durable: at, Received: at, Total: s.Size, Rate: 100 << 10, Limit: "bandwidth of the partner"}
	}
}

func fails(kind fault.Kind, cause string) func(*engine.Status) {
	return func(s *engine.Status) {
		s.State, s.Phase, s.Due, s.Attempt = lifecycle.InError, lifecycle.Moving, time.Time{}, 1
		s.Failure = lifecycle.Failure{Kind: kind, Cause: cause, At: time.Now().Add(-time.Minute)}
	}
}

func ends(s *engine.Status) {
	s.State, s.Phase, s.Due, s.Rank, s.Attempt, s.Verified = lifecycle.Done, lifecycle.Finished, time.Time{}, s.Size, 1, "blocks+root"
}

const hostile = `<img src=x onerror="document.title='owned'"><script>document.title='owned'<_script>`
