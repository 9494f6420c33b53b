package web_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/web"
	"github.com/pannier/pannier/spec/fault"
)

// pages are all that show something.
var pages = []string{"/transfers", "/transfers?q=a&state=failed&page=2", "/errors", "/partners", "/folders", "/times", "/transfers/00000100000000000000000000000001", "/nothing"}

// Beside check 39 of the scorecard, which asks a daemon: from here to TestNoInline: what another site, a name or a
// stranger may try.

func TestHeaders(t *testing.T) {
	s := newSite(t)
	s.engine.Set(request(1))
	for _, path := range append(pages, "/", "/assets/page.css", "/assets/none", "/words", "/transfers/zz") {
		a, _ := s.do(http.MethodGet, path, "")
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
			"X-Frame-Options":         "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
		} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("GET %s, %s: %s is %q", path, a.Status, name, got)
			}
		}
	}
}

func TestOtherSites(t *testing.T) {
	s := newSite(t)
	r := request(1, fails(fault.IO, "disk"))
	s.engine.Set(r)
	form := url.Values{"word": {"retry"}, "id": {r.Key.ID.String() + ":1:here"}}.Encode()
	for _, h := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
		{"Sec-Fetch-Site", "cross-site", "HX-Request", "true"},
	} {
		for _, path := range []string{"/words", "/partners/there/test"} {
			if a, _ := s.do(http.MethodPost, path, form, h...); a.StatusCode != http.StatusForbidden {
				t.Errorf("POST %s with %q: %s", path, h, a.Status)
			}
		}
	}
	if got := s.engine.Requests()[0].State; got != lifecycle.InError {
		t.Errorf("the request is %v", got)
	}
	if a, text := s.do(http.MethodPost, "/words", form, "Sec-Fetch-Site", "same-origin"); a.StatusCode != http.StatusOK {
		t.Errorf("from the page itself: %s: %s", a.Status, text)
	}
	if got := s.engine.Requests()[0].State; got != lifecycle.ToSubmit {
		t.Errorf("the request is %v", got)
	}
	if a, _ := s.do(http.MethodGet, "/words?"+form, ""); a.StatusCode == http.StatusOK {
		t.Error("a word was taken from an address")
	}
}

func TestScopes(t *testing.T) {
	s := newSite(t)
	r := request(1, fails(fault.IO, "disk"))
	s.engine.Set(r)
	form := url.Values{"word": {"retry"}, "id": {r.Key.ID.String() + ":1:here"}}.Encode()
	for _, c := range []struct {
		name      string
		who       *web.Caller
		get, post int
	}{
		{"nobody", nil, http.StatusUnauthorized, http.StatusUnauthorized},
		{"no scope", &web.Caller{Name: "x"}, http.StatusForbidden, http.StatusForbidden},
		{"submit", &web.Caller{Name: "x", Submit: true}, http.StatusForbidden, http.StatusForbidden},
		{"read", &web.Caller{Name: "x", Read: true, Submit: true}, http.StatusOK, http.StatusForbidden},
	} {
		s.as(c.who)
		for _, path := range []string{"/transfers", "/transfers/" + r.Key.ID.String(), "/errors", "/partners"} {
			if a, text := s.do(http.MethodGet, path, ""); a.StatusCode != c.get || c.get == http.StatusOK && strings.Contains(text, "<button name=\"word\"") {
				t.Errorf("%s: GET %s: %s", c.name, path, a.Status)
			}
		}
		for _, path := range []string{"/live/transfers", "/live/errors", "/live/partners", "/live/transfers/" + r.Key.ID.String()} {
			if c.get != http.StatusOK {
				if a, _ := s.do(http.MethodGet, path, ""); a.StatusCode != c.get {
					t.Errorf("%s: GET %s: %s", c.name, path, a.Status)
				}
			}
		}
		for _, path := range []string{"/words", "/partners/there/test"} {
			if a, _ := s.do(http.MethodPost, path, form); a.StatusCode != c.post {
				t.Errorf("%s: POST %s: %s", c.name, path, a.Status)
			}
		}
	}
	if got := s.engine.Requests()[0].State; got != lifecycle.InError {
		t.Errorf("the request is %v", got)
	}
}

// No name in an address leads to a file of the host's.
func TestNoFiles(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{
		"/assets/../web.go", "/assets/%2e%2e/%2e%2e/etc/passwd", "/assets/..%2f..%2fetc%2fpasswd", "/assets//etc/passwd", "/assets/README.md", "/assets/",
		"/transfers/..%2f..%2fetc%2fpasswd", "/transfers/%00", "/partners/..%2f..%2fetc/test",
	} {
		if a, text := s.do(http.MethodGet, path, ""); a.StatusCode < 300 || strings.Contains(text, "root:") {
			t.Errorf("GET %s: %s: %.80s", path, a.Status, text)
		}
	}
}

// What others have named stays text: in pages, titles, attributes, parts and streams.
func TestNames(t *testing.T) {
	s := newSite(t)
	cause := "</script><script>alert(1)</script>\r\nevent: rows\r\ndata: forged\rdata: forged"
	r := request(1, called(hostile), fails(fault.IO, cause), func(s *engine.Status) { s.Spec.Info = hostile })
	s.engine.Set(r)
	s.engine.SetPartner(engine.PartnerStatus{Name: "far", Failure: lifecycle.Failure{Kind: fault.IO, Cause: hostile, At: time.Now()}}, nil)
	own := regexp.MustCompile(`<script src="/assets/[a-z]+\.js\?v=[0-9a-f]+" defer></script>`)
	texts := map[string]string{}
	for _, path := range []string{"/transfers", "/transfers?q=" + url.QueryEscape(hostile), "/transfers/" + r.Key.ID.String(), "/errors", "/partners"} {
		texts[path] = own.ReplaceAllString(s.get(path), "")
	}
	for _, path := range []string{"/live/transfers", "/live/transfers/" + r.Key.ID.String(), "/live/errors", "/live/partners"} {
		texts[path] = s.first(path)
	}
	_, texts["a word"] = s.do(http.MethodPost, "/words", url.Values{"word": {hostile}, "id": {hostile}}.Encode(), "HX-Request", "true")
	_, texts["a form"] = s.do(http.MethodPost, "/words", url.Values{"word": {"retry"}, "id": {hostile}}.Encode(), "HX-Request", "true")
	for path, text := range texts {
		if strings.Contains(text, "<img") || strings.Contains(text, "<script") || strings.Contains(text, `onerror="`) {
			t.Errorf("%s: a name is not text:\n%s", path, text)
		}
		if !strings.Contains(text, "&lt;img src=x") && !strings.HasSuffix(path, "/errors") { // causes are without names
			t.Errorf("%s: the name is not there", path)
		}
		for line := range strings.SplitSeq(text, "\n") {
			if strings.HasPrefix(path, "/live") && (strings.Contains(line, "\r") || line == "data: forged") {
				t.Errorf("%s: a cause has made a field of its own: %q", path, line)
			}
		}
	}
}

// A name that could be taken for another is in quotes, and each part of it that stands in a line of its
// own in quotes of its own.
func TestQuotes(t *testing.T) {
	s := newSite(t)
	names := []struct{ name, want string }{
		{"mv/\u202eevil.txt", `title="&#34;mv/\u202eevil.txt&#34;"><small><bdi>mv/</bdi></small><bdi>&#34;\u202eevil.txt&#34;</bdi>`},
		{"a\u200bb/plain.txt", `title="&#34;a\u200bb/plain.txt&#34;"><small><bdi>&#34;a\u200bb/&#34;</bdi></small><bdi>plain.txt</bdi>`},
		{"mv/ x", `<small><bdi>mv/</bdi></small><bdi>&#34; x&#34;</bdi>`},
		{"Größe.txt", `title="Größe.txt"><bdi>Größe.txt</bdi>`},
	}
	for i, c := range names {
		s.engine.Set(request(i+1, called(c.name)))
	}
	text := s.get("/transfers")
	for _, c := range names {
		if !strings.Contains(text, c.want) {
			t.Errorf("%q is not shown as %s", c.name, c.want)
		}
	}
}

// TestOtherName: a file that has another name at the other end is told from others of the same name here.
func TestOtherName(t *testing.T) {
	s := newSite(t)
	as := func(source, target string, side lifecycle.Side) func(*engine.Status) {
		return func(s *engine.Status) { s.Spec.Source, s.Spec.Target, s.Side = name(source), name(target), side }
	}
	s.engine.Set(request(1, as("day/a.bin", "b<i>.bin", lifecycle.Sender)))
	s.engine.Set(request(2, as("day/c.bin", "d.bin", lifecycle.Receiver)))
	s.engine.Set(request(3, called("same.bin")))
	text := s.get("/transfers")
	for _, want := range []string{
		`<small><bdi>as b&lt;i&gt;.bin</bdi></small><small><bdi>day/</bdi></small><bdi>a.bin</bdi>`,
		`<small><bdi>from day/c.bin</bdi></small><bdi>d.bin</bdi>`,
		`title="same.bin"><bdi>same.bin</bdi>`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s in\n%s", want, text)
		}
	}
}

// TestClock: the zone of a schedule without one has no name that means something.
func TestClock(t *testing.T) {
	for zone, want := range map[string]string{"Local": "by this node's clock", "Europe/Berlin": "Europe/Berlin"} {
		if got := web.ClockOf(zone); got != want {
			t.Errorf("%s: %q", zone, got)
		}
	}
}

// first is what a stream says at first.
func (s *site) first(path string) string {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.server.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	client := http.Client{}
	defer client.CloseIdleConnections()
	a, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer a.Body.Close()
	if got := a.Header.Get("Content-Type"); got != "text/event-stream" {
		s.t.Fatalf("GET %s: %s", path, got)
	}
	b := make([]byte, 1<<20)
	n, err := io.ReadAtLeast(a.Body, b, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b[:n])
}

// Nothing of a page is a script or style that the policy refuses.
func TestNoInline(t *testing.T) {
	s := newSite(t)
	s.engine.Set(request(1, runs(1)))
	s.engine.Set(request(2, fails(fault.IO, "disk")))
	for _, path := range pages {
		_, text := s.do(http.MethodGet, path, "")
		for _, bad := range []string{" style=", "<style", " onclick", " onload", "javascript:", "hx-on", "hx-vals='js", "<script>"} {
			if strings.Contains(text, bad) {
				t.Errorf("GET %s has %q", path, bad)
			}
		}
	}
}

func TestLogin(t *testing.T) {
	s := newSite(t)
	if _, body := s.do(http.MethodGet, "/transfers", ""); !strings.Contains(body, `<form method="post" action="/logout">`) {
		t.Error("nobody can log out")
	}
	s.as(&web.Caller{Name: "user 0", Read: true})
	if _, body := s.do(http.MethodGet, "/transfers", ""); strings.Contains(body, "Log out") {
		t.Error("who comes by a unix socket can log out")
	}
	page, err := web.New(web.Config{Admin: s.client, Caller: func(*http.Request) (web.Caller, bool) { return web.Caller{}, false }, Login: "/login"})
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	s.server.Config.Handler = page
	if a, _ := s.do(http.MethodGet, "/transfers?q=a", ""); a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/login?next=%2Ftransfers%3Fq%3Da" {
		t.Errorf("%s to %q", a.Status, a.Header.Get("Location"))
	}
	if a, _ := s.do(http.MethodPost, "/words", "", "HX-Request", "true"); a.StatusCode != http.StatusUnauthorized || a.Header.Get("HX-Redirect") != "/login" {
		t.Errorf("%s, %v", a.Status, a.Header)
	}
	if a, _ := s.do(http.MethodGet, "/live/transfers", "", "Sec-Fetch-Dest", "empty"); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("a stream: %s", a.Status)
	}
}

func TestFilter(t *testing.T) {
	s := newSite(t)
	for i := range 120 {
		s.engine.Set(request(i+1, ends))
	}
	s.engine.Set(request(201, runs(1), called("Movie.mov")))
	s.engine.Set(request(202, fails(fault.NoSpace, `writing "a" at 12: disk full`)))
	s.engine.Set(request(203, fails(fault.NoSpace, `writing "b" at 99: disk full`), func(s *engine.Status) { s.Spec.Partner = "far" }))
	s.engine.Set(request(204, fails(fault.Canceled, "not wanted")))
	s.engine.Set(request(205, func(s *engine.Status) {
		s.State, s.Reason, s.Owner = lifecycle.Interrupted, lifecycle.Stopped, lifecycle.Requester
	}))
	s.engine.Set(request(206, func(s *engine.Status) {
		s.Key.Requester, s.Role, s.Side, s.Spec.Rule = "there", lifecycle.Requested, lifecycle.Receiver, "in"
	}))
	rows := regexp.MustCompile(`<tr id="r0000([0-9a-f]{2})`)
	for query, want := range map[string][]string{
		"":                                  {"ce", "cd", "cc", "cb", "ca", "c9", "78", "77"},
		"?page=3":                           {"1a", "19"},
		"?page=99":                          {"1a", "19"}, // the last there is
		"?page=x&state=whatever":            {"ce", "cd"},
		"?q=movie":                          {"c9"},
		"?q=0000cb":                         {"cb"},
		"?q=DISK+full":                      {"cb", "ca"},
		"?q=full+writing":                   {"cb", "ca"},
		"?q=disk+far":                       {"cb"}, // a cause and a partner
		"?q=disk+movie":                     nil,
		"?q=" + strings.Repeat("disk+", 16): {"cb", "ca"},
		"?q=" + strings.Repeat("disk+", 16) + "full": nil,
		"?state=failed":           {"cb", "ca"},
		"?state=cancelled":        {"cc"},
		"?state=paused":           {"cd"},
		"?state=running":          {"c9"},
		"?state=waiting":          {"ce"},
		"?partner=far":            {"cb"},
		"?rule=in":                {"ce"},
		"?way=in":                 {"ce"},
		"?q=no+such+file":         nil,
		"?state=done&q=00120.bin": {"78"},
	} {
		var got []string
		for _, m := range rows.FindAllStringSubmatch(s.get("/transfers"+query), -1) {
			got = append(got, m[1])
		}
		if len(got) < len(want) || !slices.Equal(got[:len(want)], want) || want == nil && got != nil {
			t.Errorf("%s: %v, want first %v", query, got, want)
		}
	}
	if a, _ := s.do(http.MethodGet, "/transfers?q=+movie+&partner=&rule=", "", "HX-Request", "true"); a.Header.Get("HX-Push-Url") != "/transfers?q=movie" {
		t.Errorf("the address is %q", a.Header.Get("HX-Push-Url"))
	}
	if a, _ := s.do(http.MethodGet, "/transfers?q=movie&partner=", "", "HX-Request", "true", "HX-Current-URL", s.server.URL+"/transfers?q=movie"); len(a.Header.Values("HX-Push-Url")) != 0 {
		t.Errorf("the address is %q once more", a.Header.Get("HX-Push-Url"))
	}
}

func TestErrors(t *testing.T) {
	s := newSite(t)
	for i := range 7 {
		s.engine.Set(request(i+1, fails(fault.NoSpace, fmt.Sprintf("writing %q at %d: disk full", name(fmt.Sprintf("file-%05d.bin", i+1)), i*1000))))
	}
	s.engine.Set(request(100, fails(fault.Permission, "not allowed")))
	text := s.get("/errors")
	if !strings.Contains(text, "8 transfers have failed, for 2 reasons") || !strings.Contains(text, "Retry all 7") {
		t.Fatal(text)
	}
	form := regexp.MustCompile(`name="cause" value="([0-9a-f]+)"><button id="retry-[0-9a-f]+" name="word" value="retry" aria-label="Retry all 7`).FindStringSubmatch(text)
	if form == nil {
		t.Fatal(text)
	}
	_, told := s.do(http.MethodPost, "/words", url.Values{"word": {"retry"}, "all": {"1"}, "state": {"failed"}, "cause": {form[1]}}.Encode(), "HX-Request", "true")
	if !strings.Contains(told, "7 transfers retried.") {
		t.Error(told)
	}
	for _, r := range s.engine.Requests() {
		if want := map[bool]lifecycle.State{true: lifecycle.InError, false: lifecycle.ToSubmit}[r.Failure.Kind == fault.Permission]; r.State != want {
			t.Errorf("%v is %v, want %v", r.Key.ID, r.State, want)
		}
	}
}

func TestWords(t *testing.T) {
	s := newSite(t)
	s.engine.Set(request(1, runs(1)))
	s.engine.Set(request(2))
	s.engine.Set(request(3, ends))
	ids := func(n ...int) url.Values {
		v := url.Values{}
		for _, i := range n {
			r := request(i)
			v.Add("id", r.Key.ID.String()+":1:here")
		}
		return v
	}
	say := func(word string, v url.Values, want ...string) {
		t.Helper()
		v.Set("word", word)
		_, told := s.do(http.MethodPost, "/words", v.Encode(), "HX-Request", "true")
		for _, w := range want {
			if !strings.Contains(told, w) {
				t.Errorf("%s: %q is not in %s", word, w, told)
			}
		}
	}
	say("pause", ids(1, 2, 3), "2 transfers paused.", "1 could not be:", "00000300: ")
	say("resume", ids(1), "1 transfer resumed.")
	say("cancel", ids(1, 2), "2 transfers cancelled.")
	if r := s.engine.Requests()[0]; !strings.Contains(r.Failure.Cause, "by olga") {
		t.Errorf("the cause is %q", r.Failure.Cause)
	}
	say("explode", ids(1), "is no word")
	say("retry", url.Values{}, "choose transfers first")
	say("retry", url.Values{"all": {"1"}, "q": {"no such file"}}, "nothing any more")
	say("cancel", url.Values{"all": {"1"}}, "nothing any more") // what is over is not asked
	many := url.Values{}
	for range 5_001 {
		many.Add("id", "0:1:h")
	}
	say("retry", many, "at most 5000")
	say("retry", url.Values{"id": {strings.Repeat("a", 5<<20)}}, "too large")
	a, text := s.do(http.MethodPost, "/words", url.Values{"word": {"cancel"}, "id": {ids(3).Get("id")}}.Encode())
	if a.StatusCode != http.StatusConflict || !strings.Contains(text, "<!doctype html>") || !strings.Contains(text, "<h1>Not everything worked</h1>") {
		t.Errorf("without a script: %s: %.100s", a.Status, text)
	}
	if _, text := s.do(http.MethodPost, "/partners/there/test", "", "HX-Request", "true"); !strings.Contains(text, "there answers") {
		t.Error(text)
	}
	s.engine.SetPartner(engine.PartnerStatus{Name: "far"}, fault.New("reach", fault.Lost, "nobody answers there"))
	if _, text := s.do(http.MethodPost, "/partners/far/test", "", "HX-Request", "true"); !strings.Contains(text, "nobody answers there") {
		t.Error(text)
	}
}

// TestTooManyForOneWord: of all that match, those beyond the limit are left, and how many is said.
func TestTooManyForOneWord(t *testing.T) {
	s := newSite(t)
	web.LimitWords(s.page, 3)
	for i := range 5 {
		s.engine.Set(request(i+1, fails(fault.IO, "disk")))
	}
	s.engine.Set(request(6, ends)) // matches, and nothing can be done with it: not one that is left
	for i, want := range []string{
		"3 transfers retried. 2 more match, which is too many for one word: say it again.</p>", "2 transfers retried.</p>", "there is nothing any more that this could be done with</p>",
	} {
		_, told := s.do(http.MethodPost, "/words", url.Values{"word": {"retry"}, "all": {"1"}}.Encode(), "HX-Request", "true")
		if !strings.Contains(told, want) {
			t.Errorf("time %d: %q is not in %s", i+1, want, told)
		}
		left := 0
		for _, r := range s.engine.Requests() {
			if r.State == lifecycle.InError {
				left++
			}
		}
		if left != []int{2, 0, 0}[i] {
			t.Errorf("time %d: %d have failed still", i+1, left)
		}
	}
}

// TestRate: how fast a transfer is and how long it takes are in the list, on its page and in the
// streams of both, counted from what has arrived; what does not move has neither.
func TestRate(t *testing.T) {
	moves := func(received, total int64, rate float64) func(*engine.Status) {
		return func(st *engine.Status) {
			runs(1 << 20)(st)
			st.Size, st.Live.Received, st.Live.Total, st.Live.Rate = 60<<20, received, total, rate
		}
	}
	for i, c := range []struct {
		name string
		now  func(*engine.Status)
		want string // empty: nothing is shown
	}{
		{"40 MiB to go at 512 KiB/s", moves(20<<20, 60<<20, 512<<10), "512 KiB/s · 1 min 20 s left"},
		{"more is safe than has arrived: 59 MiB at 1 MiB/s", moves(0, 60<<20, 1<<20), "1.0 MiB/s · 59 s left"},
		{"18 GiB at 2.5 MiB/s", moves(2<<30, 20<<30, 2.5*(1<<20)), "2.5 MiB/s · 2 h 2 min left"},
		{"nobody knows how much it is", moves(20<<20, -1, 512<<10), "512 KiB/s"},
		{"all is there", moves(60<<20, 60<<20, 512<<10), "512 KiB/s"},
		{"it stands", moves(20<<20, 60<<20, 0), ""},
		{"it waits", func(st *engine.Status) { moves(20<<20, 60<<20, 512<<10)(st); st.State = lifecycle.ToSubmit }, ""},
	} {
		s := newSite(t)
		r := request(i+1, c.now)
		s.engine.Set(r)
		id := r.Key.ID.String()
		for where, text := range map[string]string{
			"the list": s.get("/transfers"), "its page": s.get("/transfers/" + id),
			"the stream of the list": s.told("/live/transfers", "rows"), "the stream of its page": s.told("/live/transfers/"+id, "head"),
		} {
			shown := ""
			if m := regexp.MustCompile(`<span class="rate">([^<]*)</span>`).FindStringSubmatch(text); m != nil {
				shown = m[1]
			}
			if shown != c.want {
				t.Errorf("%s: %s shows %q, want %q", c.name, where, shown, c.want)
			}
		}
	}
}

// told is what a stream says first in the place whose name ends so.
func (s *site) told(path, place string) (text string) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.server.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	a, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer a.Body.Close()
	here := false
	for lines := bufio.NewScanner(a.Body); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			here = strings.HasSuffix(name, place)
		} else if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && here {
			text += data + "\n"
		} else if text != "" {
			return text
		}
	}
	s.t.Fatalf("GET %s says nothing of %s", path, place)
	return ""
}

// What a page weighs, with all it needs.
func TestWeight(t *testing.T) {
	s := newSite(t)
	for i := range 200 {
		s.engine.Set(request(i, runs(int64(i))))
	}
	total := 0
	weigh := func(path string) string {
		a, text := s.do(http.MethodGet, path, "", "Accept-Encoding", "gzip")
		if a.StatusCode != http.StatusOK || a.Header.Get("Content-Encoding") != "gzip" {
			t.Fatalf("GET %s: %s, %s", path, a.Status, a.Header.Get("Content-Encoding"))
		}
		total += len(text)
		z, err := gzip.NewReader(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		return string(plain)
	}
	page := weigh("/transfers")
	files := regexp.MustCompile(`(?:href|src)="(/assets/[^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(files) != 5 {
		t.Fatalf("%d files", len(files))
	}
	for _, f := range files {
		weigh(f[1])
	}
	t.Logf("%d bytes", total)
	if total > 100_000 {
		t.Errorf("the first page is %d bytes", total)
	}
}

// events reads what a stream says once it has begun, until the test is over.
func (s *site) events(path string) <-chan string {
	s.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.server.URL, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
	names := make(chan string, 1000)
	lines := bufio.NewScanner(c)
	for lines.Scan() && lines.Text() != ": " { // it has looked for the first time then
	}
	go func() {
		defer close(names)
		for lines.Scan() {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				names <- name
			}
		}
	}()
	return names
}

// A stream says what has changed, where it is shown, and nothing else.
func TestStream(t *testing.T) {
	s := newSite(t)
	s.engine.Set(request(1, runs(1000)))
	s.engine.Set(request(2, runs(1000)))
	page := s.get("/transfers")
	have := regexp.MustCompile(`sse-connect="(/live/[^"]+)"`).FindStringSubmatch(page)[1]
	names := s.events(have)
	s.engine.Set(request(2, runs(500_000)))
	want := "r00000200000000000000000000000001-1-"
	if got := <-names; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "-progress") && !strings.HasSuffix(got, "-why") {
		t.Errorf("the first word is about %s", got)
	}
	s.engine.Set(request(3))
	for name := range names {
		if strings.HasPrefix(name, "r00000100") {
			t.Errorf("nothing has changed of %s", name)
		}
		if name == "rows" {
			break
		}
	}
	s.page.Close()
	for range names {
	}
}

// deaf opens a stream and reads nothing of it.
func (s *site) deaf() (hangUp func()) {
	c, err := net.Dial("tcp", strings.TrimPrefix(s.server.URL, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	_ = c.(*net.TCPConn).SetReadBuffer(4096)
	fmt.Fprintf(c, "GET /live/transfers HTTP/1.1\r\nHost: x\r\n\r\n")
	return func() { c.Close() }
}
