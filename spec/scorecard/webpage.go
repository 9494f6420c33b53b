package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/engine/web"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

var webPage = check{
	id: 39, title: "the web page of a daemon: forms of other sites, frames, script in names, callers without a token or with too small a one, paths of files: refused or text; the policy is on each response",
	unit: "findings", n: counts{reduced: 1, full: 1},
	mutant:  "other sites' forms are taken; no policy; names are not escaped, in pages and in streams; whoever has no token is the operator; assets are files of the host",
	several: []string{"origin", "policy", "names", "stream", "auth", "path"},
	edits: []edit{
		{"engine/httpd/httpd.go", "	if err := s.guard.Check(r); err != nil {\n", "	if err := s.guard.Check(r); err != nil && !mutant(\"39 origin\") {\n"},
		{"engine/web/web.go", "		inner.ServeHTTP(w, r)\n", "		if mutant(\"39 origin\") {\n			next.ServeHTTP(w, r)\n			return\n		}\n		inner.ServeHTTP(w, r)\n"},
		{"engine/web/web.go", "		h.Set(\"Content-Security-Policy\", Policy)\n", "		h.Set(\"Content-Security-Policy\", map[bool]string{false: Policy}[mutant(\"39 policy\")])\n"},
		{"engine/web/visit.go", "	writeCompressed(v.w, v.r, code, b.Bytes())\n", "	if mutant(\"39 names\") {\n		writeCompressed(v.w, v.r, code, bytes.ReplaceAll(b.Bytes(), []byte(\"&lt;\"), []byte(\"<\")))\n		return\n	}\n	writeCompressed(v.w, v.r, code, b.Bytes())\n"},
		{"engine/web/live.go", "	data = strings.NewReplacer(", "	if mutant(\"39 stream\") {\n		data = strings.ReplaceAll(data, \"&lt;\", \"<\")\n	}\n	data = strings.NewReplacer("},
		{"engine/httpd/httpd.go", "	return access.Caller{}, nil\n", "	if mutant(\"39 auth\") {\n		return access.Local(0), nil\n	}\n	return access.Caller{}, nil\n"},
		{"engine/web/assets.go", "	if !ok {\n		http.NotFound(w, r)\n", "	if !ok && mutant(\"39 path\") {\n		http.ServeFile(w, r, r.PathValue(\"name\"))\n		return\n	}\n	if !ok {\n		http.NotFound(w, r)\n"},
	},
	run: runWebPage,
}

// webNames are names of files that would be markup. That of a file that is not there
// is in the cause of its failure, too.
var webNames = []string{
	"<script>fetch('x')<_script>", "a<!--", "<img src=x onerror=fetch(0)>", "\"><svg onload=fetch(0)>", "<_title><script>", "d</script><script>x", "{{.}}<b>", "<iframe srcdoc=x>",
}

// webRun is a daemon that speaks HTTP, and what was found.
type webRun struct {
	*duo
	note
	base             string // of its page
	client           *http.Client
	operate, read    string // tokens
	ids              []string
	tried, responses int
}

func runWebPage(ctx context.Context, j *job) (_ result, err error) {
	at, err := freeport.Address("127.0.0.1")
	if err != nil {
		return result{}, err
	}
	d, err := newDuo(ctx, j.dir, duoSettings{})
	if err != nil {
		return result{}, err
	}
	defer func() {
		if ended := d.close(); err == nil {
			err = ended
		}
	}()
	if err := speaksHTTP(ctx, d.a, d.b, at); err != nil {
		return result{}, err
	}
	r := &webRun{duo: d, base: "https://" + at, client: &http.Client{
		// Which daemon answers the token proves, not its certificate.
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       time.Minute,
	}}
	defer r.client.CloseIdleConnections()
	if err := r.fill(ctx); err != nil {
		return result{}, err
	}
	for _, step := range []func(context.Context) error{r.strangers, r.sites, r.names, r.paths, r.works} {
		if err := step(ctx); err != nil {
			return result{}, err
		}
	}
	return r.result(float64(r.n), "%d tried, %d responses, %d hostile names", r.tried, r.responses, len(webNames)), nil
}

// webFolder is a watched folder with nothing in it.
const webFolder = "box"

// speaksHTTP starts a node again with an address for HTTP, and a folder to look at.
func speaksHTTP(ctx context.Context, n, partner *nodetest.Node, at string) error {
	text, err := os.ReadFile(n.Config())
	if err == nil {
		err = os.Mkdir(filepath.Join(n.Root, webFolder), 0o755)
	}
	if err == nil {
		more := fmt.Sprintf("\n[http]\nlisten = [%q]\n[[folder]]\nname = %q\nrule = \"push\"\npartner = %q\ndir = %[2]q\n", "tls://"+at, webFolder, partner.Name)
		err = os.WriteFile(n.Config(), append(text, more...), 0o600)
	}
	if err != nil {
		return fault.Wrap("write configuration", n.Config(), err)
	}
	n.Kill()
	return n.Start(ctx)
}

// fill makes tokens, and a failed request for each name.
func (r *webRun) fill(ctx context.Context) error {
	c, err := r.a.Client()
	if err != nil {
		return err
	}
	for scope, text := range map[string]*string{"operate": &r.operate, "read": &r.read} {
		t, err := c.CreateToken(ctx, &adminpb.CreateTokenRequest{Name: scope, Scopes: []string{scope}})
		if err != nil {
			return err
		}
		*text = t.GetText()
	}
	for _, name := range webNames {
		s, err := c.Submit(ctx, &adminpb.SubmitRequest{Partner: r.b.Name, Rule: "push", Source: name, Info: name})
		if err != nil {
			return err
		}
		x, err := c.Wait(ctx, &adminpb.WaitRequest{Ref: &adminpb.Ref{Id: s.GetRequest().GetId()}})
		if err != nil {
			return err
		}
		if x.GetState() != adminpb.Request_INERROR {
			return fault.New("fail request", fault.Internal, "%q is %v without its file", name, x.GetState())
		}
		r.ids = append(r.ids, x.GetId())
	}
	return nil
}

// ask makes a request with a token, and headers in pairs. Each answer is looked at for
// what each has to have. A stream's is its beginning.
func (r *webRun) ask(ctx context.Context, method, path, token, form string, headers ...string) (code int, text string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, r.base+path, strings.NewReader(form))
	if err != nil {
		return 0, "", fault.Wrap("ask", path, err)
	}
	if token != "" {
		q.Header.Set("Authorization", "Bearer "+token)
	}
	if method == http.MethodPost {
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	a, err := r.client.Do(q)
	if err != nil {
		return 0, "", fault.Wrap("ask", path, err)
	}
	defer a.Body.Close()
	r.responses++
	for name, want := range map[string]string{"Content-Security-Policy": web.Policy, "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff"} {
		if got := a.Header.Get(name); got != want {
			r.add("%s %s: %s is %q", method, path, name, got)
		}
	}
	if a.Header.Get("Content-Type") == "text/event-stream" {
		text = beginning(a.Body, cancel)
	} else {
		var b []byte
		b, err = io.ReadAll(a.Body)
		text = string(b)
	}
	return a.StatusCode, text, fault.Wrap("read answer", path, err)
}

// patience is how long a stream is listened to, if it does not say before that it has told all.
const patience = 5 * time.Second

// beginning is what a stream says until it has told all there is, or ends.
func beginning(stream io.Reader, stop func()) string {
	var b strings.Builder
	last := ""
	defer time.AfterFunc(patience, stop).Stop()
	for lines := bufio.NewScanner(stream); lines.Scan(); {
		b.WriteString(lines.Text() + "\n")
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			last = name
		}
		if lines.Text() == "" && (last == "graph" || last == "output" || last == "causes" || strings.HasPrefix(last, "p") || strings.HasPrefix(last, "f")) {
			break
		}
	}
	return b.String()
}

// pathOf is the address of a route, with an id and a partner that there are.
func (r *webRun) pathOf(pattern string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	path = strings.ReplaceAll(path, "{$}", "")
	if strings.HasPrefix(path, "/partners/") {
		path = strings.ReplaceAll(path, "{name}", r.b.Name)
	}
	if strings.Contains(path, "/folders/") {
		path = strings.ReplaceAll(path, "{name}", webFolder)
	}
	return method, strings.NewReplacer("{id}", r.ids[0], "{name}", "page.css").Replace(path)
}

func (r *webRun) words() string {
	return url.Values{"word": {"retry"}, "id": {r.ids[0] + ":1:" + r.a.Name}}.Encode()
}

// strangers ask for everything without a token, with one of nobody, and with one that may only look.
func (r *webRun) strangers(ctx context.Context) error {
	for _, route := range web.Routes() {
		method, path := r.pathOf(route.Pattern)
		open := route.Needs == web.Caller{}
		for _, c := range []struct {
			who, token string
			may        bool
		}{{"nobody", "", open}, {"another token", "pannier_" + strings.Repeat("a", 60), false}, {"who may look", r.read, !route.Needs.Operate}} {
			r.tried++
			code, _, err := r.ask(ctx, method, path, c.token, r.words())
			if err != nil {
				return err
			}
			if may := code < 400 && code != http.StatusSeeOther || code == http.StatusSeeOther && c.token != ""; may != c.may {
				r.add("%s by %s: %d", route.Pattern, c.who, code)
			}
		}
	}
	return r.untouched(ctx, "a stranger")
}

// untouched: nobody has retried the first request.
func (r *webRun) untouched(ctx context.Context, who string) error {
	x, err := get(ctx, r.a, r.ids[0])
	if err == nil && x.GetRound() != 0 {
		r.add("%s has retried a request", who)
	}
	return err
}

// sites are pages of others with forms and frames: a browser that is logged in tells by
// these headers where a request is from.
func (r *webRun) sites(ctx context.Context) error {
	for _, h := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
		{"Origin", strings.Replace(r.base, "https", "http", 1) + "0"}, {"Sec-Fetch-Site", "cross-site", "HX-Request", "true"},
	} {
		for _, route := range web.Routes() {
			method, path := r.pathOf(route.Pattern)
			if method != http.MethodPost {
				continue
			}
			r.tried++
			code, _, err := r.ask(ctx, method, path, r.operate, r.words(), h...)
			if err != nil {
				return err
			}
			if code != http.StatusForbidden {
				r.add("%s with %q: %d", route.Pattern, h, code)
			}
		}
	}
	if code, _, err := r.ask(ctx, http.MethodGet, "/words?"+r.words(), r.operate, ""); err != nil || code < 400 {
		r.add("a word was taken from an address: %d, %v", code, err)
	}
	return r.untouched(ctx, "another site")
}

var ownScript = regexp.MustCompile(`<script src="/assets/[a-z]+\.js\?v=[0-9a-f]+" defer></script>`)

// names of files and causes are text wherever they are shown.
func (r *webRun) names(ctx context.Context) error {
	shown := 0
	for i, name := range webNames {
		for _, path := range []string{"/transfers", "/transfers?q=" + url.QueryEscape(name), "/transfers/" + r.ids[i], "/errors", "/live/transfers", "/live/transfers/" + r.ids[i], "/live/errors"} {
			r.tried++
			code, text, err := r.ask(ctx, http.MethodGet, path, r.operate, "")
			if err != nil {
				return err
			}
			base := name[strings.LastIndexByte(name, '/')+1:] // a list shows the directory apart
			if strings.Contains(text, html.EscapeString(base)) {
				shown++
			} else if !strings.HasSuffix(path, "/errors") { // causes are shown without what tells them apart
				r.add("%s: %d, and %q is not there", path, code, name)
			}
			text = ownScript.ReplaceAllString(text, "")
			for _, markup := range []string{"<script", "<img", "<iframe", "<svg onload", "<!--", "<b>" + "x", name} {
				if strings.Contains(text, markup) {
					r.add("%s: %q is markup", path, markup)
				}
			}
		}
	}
	if shown < 5*len(webNames) {
		r.add("only %d of the names were seen", shown)
	}
	return nil
}

// paths lead to a file of the host's from wherever an address has a name.
func (r *webRun) paths(ctx context.Context) error {
	secret := filepath.Join(r.a.Root, "secret.txt")
	const content = "a file of the host's"
	if err := os.WriteFile(secret, []byte(content), 0o644); err != nil {
		return fault.Wrap("write", secret, err)
	}
	up := strings.Repeat("../", 20) + strings.TrimPrefix(secret, "/")
	var names []string
	for _, name := range []string{secret, up, "./" + up, "page.css/" + up, strings.ReplaceAll(up, "../", "....//"), "file://" + secret, strings.ReplaceAll(up, "/", `\`), secret + "\x00.css"} {
		names = append(names, name, url.PathEscape(name), url.PathEscape(url.PathEscape(name)), strings.ReplaceAll(url.PathEscape(name), ".", "%2e"))
	}
	for _, route := range web.Routes() {
		method, pattern, _ := strings.Cut(route.Pattern, " ")
		before, after, wild := strings.Cut(pattern, "{")
		if _, after, _ = strings.Cut(after, "}"); !wild || strings.HasPrefix(pattern, "/{$") {
			continue
		}
		for _, name := range names {
			if _, err := url.Parse(r.base + before + name + after); err != nil {
				continue // no address
			}
			r.tried++
			code, text, err := r.ask(ctx, method, before+name+after, r.operate, "")
			if err != nil {
				return err
			}
			if code == http.StatusOK && strings.Trim(text, ": \n") != "" || strings.Contains(text, content) { // a stream of nothing has no other code
				r.add("%s%s%s: %d", before, name, after, code)
			}
		}
	}
	return nil
}

// works: what is refused others is done for who may.
func (r *webRun) works(ctx context.Context) error {
	code, text, err := r.ask(ctx, http.MethodPost, "/words", r.operate, r.words(), "Sec-Fetch-Site", "same-origin")
	if err != nil {
		return err
	}
	x, err := get(ctx, r.a, r.ids[0])
	if err == nil && (code != http.StatusOK || x.GetRound() != 1) {
		r.add("the page's own word: %d, round %d: %.200s", code, x.GetRound(), text)
	}
	return err
}
