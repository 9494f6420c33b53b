package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/engine/task/tasktest"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/spec/fault"
)

func TestMain(m *testing.M) {
	first = 20 * time.Millisecond
	goleak.VerifyTestMain(m)
}

// file is a file of this host with that content, which only this user can read.
func file(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestHTTP: the message is signed as Standard Webhooks has it, and has the same id each
// time it is sent.
func TestHTTP(t *testing.T) {
	key := []byte(strings.Repeat("k", 32))
	var ids []string
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id, at := r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp")
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + at + "." + string(body)))
		if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); r.Header.Get("Webhook-Signature") != want {
			t.Errorf("%q, want %q", r.Header.Get("Webhook-Signature"), want)
		}
		var m message
		if err := json.Unmarshal(body, &m); err != nil || m.Type != "request.post" || m.Text != "a \"file\": in/a.dat" || m.Data.ID != "01000000000000000000000000000000" || m.Data.File != "in/a.dat" || r.Method != "POST" || r.URL.Path != "/x" {
			t.Errorf("%s %s: %s, %v", r.Method, r.URL, body, err)
		}
		ids = append(ids, id)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer s.Close()
	ca := file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	secret := file(t, "whsec_"+base64.StdEncoding.EncodeToString(key)+"\n")
	o := tasktest.On(t, "in/a.dat", "content")
	step := tasktest.Step(t, Tasks(), task.Table{Task: "http", URL: s.URL + "/x", Secret: "file:" + secret, CA: "file:" + ca, Text: `a "file": {path}`, Required: true})
	for range 2 {
		if res, err := step.Run(t.Context(), o); err != nil || res.Warning != "" {
			t.Errorf("%+v, %v", res, err)
		}
	}
	if len(ids) != 2 || ids[0] != ids[1] || !strings.HasPrefix(ids[0], "msg_") {
		t.Errorf("%q", ids)
	}
	other := o.Key
	if other.Key.Requester = "hostx"; idOf(other) == ids[0] {
		t.Error("two requesters have one id")
	}
	// A server that nobody vouches for gets nothing.
	step = tasktest.Step(t, Tasks(), task.Table{Task: "http", URL: s.URL + "/x", Required: true, Attempts: 1})
	if _, err := step.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "certificate") || len(ids) != 2 {
		t.Errorf("%v, %q", err, ids)
	}
}

// TestHTTPFails: a receiver that hangs, fails or is away is a warning, or a failure if the
// rule says so; what may get better is tried again, and nothing else.
func TestHTTPFails(t *testing.T) {
	var calls atomic.Int32
	answers := func(status ...int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			n := int(calls.Add(1)) - 1
			_, _ = io.Copy(io.Discard, r.Body)
			if status[min(n, len(status)-1)] == http.StatusFound {
				w.Header().Set("Location", "/again")
			}
			w.WriteHeader(status[min(n, len(status)-1)])
		}
	}
	hang := func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
	die := func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			c.Close()
		}
	}
	flood := func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		for r.Context().Err() == nil {
			_, _ = w.Write(make([]byte, 64<<10))
		}
	}
	for name, c := range map[string]struct {
		h        http.HandlerFunc
		attempts int
		calls    int32
		fails    bool
	}{
		"500":                {answers(500), 2, 2, true},
		"500, then fine":     {answers(503, 200), 3, 2, false},
		"429":                {answers(429, 204), 3, 2, false},
		"404":                {answers(404), 3, 1, true},
		"a redirect":         {answers(302), 3, 1, true},
		"dies":               {die, 2, 2, true},
		"hangs":              {hang, 3, 1, true}, // for all of the timeout
		"answers for ever":   {flood, 1, 1, false},
		"one attempt, fails": {answers(500), 1, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			calls.Store(0)
			s := httptest.NewServer(c.h)
			defer s.Close()
			for _, required := range []bool{false, true} {
				calls.Store(0)
				table := task.Table{Task: "http", URL: s.URL, Attempts: c.attempts, Required: required}
				if name == "hangs" {
					table.Timeout = task.Duration(time.Second)
				}
				res, err := tasktest.Step(t, Tasks(), table).Run(t.Context(), tasktest.On(t, "a", "content"))
				if (err != nil) != (c.fails && required) || (res.Warning != "") != (c.fails && !required) || calls.Load() != c.calls {
					t.Errorf("required %v: %+v, %v after %d calls", required, res, err, calls.Load())
				}
				if c.fails && !required && len(res.Output) == 0 {
					t.Error("nothing says why")
				}
			}
		})
	}
}

// TestHTTPAway: nobody listens, and a name that is none; the address, in which there may be
// a token, is in no error.
func TestHTTPAway(t *testing.T) {
	for _, at := range []string{freeport.For(t, "127.0.0.1"), "no.such.host.invalid"} {
		_, err := tasktest.Step(t, Tasks(), task.Table{Task: "http", URL: "http://" + at + "/token-canary", Required: true, Attempts: 1}).Run(t.Context(), tasktest.On(t, "a", "content"))
		if err == nil || strings.Contains(err.Error(), "canary") || fault.KindOf(err) == fault.Internal {
			t.Errorf("%s: %v", at, err)
		}
	}
}

// TestHTTPEnds: a node that is told to end does not wait, and nothing is a warning then: it
// is told again after the next start.
func TestHTTPEnds(t *testing.T) {
	came := make(chan struct{}, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		came <- struct{}{}
		<-r.Context().Done()
	}))
	defer s.Close()
	ctx, cancel := contextWith(t)
	go func() { <-came; cancel() }()
	res, err := tasktest.Step(t, Tasks(), task.Table{Task: "http", URL: s.URL}).Run(ctx, tasktest.On(t, "a", "content"))
	if fault.KindOf(err) != fault.Canceled || res.Warning != "" {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestSecretIsRead: a secret that is none, or that others can read, is no reason to send
// without a signature.
func TestSecretIsRead(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("something was sent") }))
	defer s.Close()
	open := file(t, "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 32)))
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for what, path := range map[string]string{"not there": filepath.Join(t.TempDir(), "none"), "open": open, "no secret": file(t, "canary"), "too short": file(t, "whsec_YWJj")} {
		for _, required := range []bool{false, true} {
			res, err := tasktest.Step(t, Tasks(), task.Table{Task: "http", URL: s.URL, Secret: "file:" + path, Required: required}).Run(t.Context(), tasktest.On(t, "a", "content"))
			if (err != nil) != required || (res.Warning != "") == required || err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: %+v, %v", what, res, err)
			}
		}
	}
}

// TestRefused: what cannot work is refused when it is read.
func TestRefused(t *testing.T) {
	mail := task.Table{Task: "mail", URL: "smtp://m.example", From: "a@example.org", To: "b@example.org"}
	with := func(change func(*task.Table)) task.Table {
		m := mail
		change(&m)
		return m
	}
	tasktest.Refused(t, Tasks(), map[string]task.Table{
		"https://hooks.example": {Task: "http", URL: "ftp://x"}, "without user": {Task: "http", URL: "http://u:p@x"}, "url is": {Task: "http"},
		"attempts is -1": {Task: "http", URL: "http://x", Attempts: -1}, "secret is in a file": {Task: "http", URL: "http://x", Secret: "whsec_xyz"}, "no variable {nome}": {Task: "http", URL: "http://x", Text: "{nome}"},
		"url is the mail server": with(func(m *task.Table) { m.URL = "http://x" }), "no port": with(func(m *task.Table) { m.URL = "smtp://x:99999" }),
		"go together": with(func(m *task.Table) { m.User = "me" }), "from is": with(func(m *task.Table) { m.From = "" }), "to is": with(func(m *task.Table) { m.To = "b@example.org\r\nBcc: c@example.org" }),
		"brace": with(func(m *task.Table) { m.Subject = "{" }), "ca is in a file": with(func(m *task.Table) { m.CA = "ca.pem" }),
	})
	if _, err := task.Make(Tasks(), []task.Table{mail}); err != nil {
		t.Error(err)
	}
}
