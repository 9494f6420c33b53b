package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/pannier/pannier/engine/objects"
	"github.com/pannier/pannier/engine/web"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Canaries in what a node has for the services around it: a node that speaks HTTP, keeps an audit
// log, pushes records, traces, and tells others of its requests, who refuse it or are away. All
// that it answers is looked at, of every call there is.

// servicesRun is such a node.
type servicesRun struct {
	*canaryRun
	base    string            // of its web page
	secrets string            // a directory beside the node
	rules   map[string]string // rule: the file that is sent by it
	others  *others
	client  *http.Client
	tokens  map[string]string // by scope
	cookie  string
	asked   int
}

func (r *canaryRun) runServices(ctx context.Context, dir string) (err error) {
	if r.fleet, err = newFleet(dir, 1); err != nil {
		return err
	}
	defer r.close()
	r.ids = nil
	s := &servicesRun{canaryRun: r, tokens: map[string]string{}, client: &http.Client{
		// Which daemon answers the token proves, not its certificate.
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       time.Minute,
	}}
	defer s.client.CloseIdleConnections()
	if s.others, err = newOthers(); err != nil {
		return err
	}
	defer s.others.close()
	if err := s.prepare(); err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{s.keys, s.callers, s.use, s.apply, s.calls, s.pages, s.commands, func(ctx context.Context) error { return s.operators(ctx, 0) }} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.all[0].PID()))
	if err != nil {
		return fault.Wrap("read arguments", "", err)
	}
	s.search("the list of processes", "arguments", 0, text)
	s.crash()
	s.files()
	s.others.mu.Lock()
	defer s.others.mu.Unlock()
	s.search("what other services are told", "wire", 0, s.others.heard.Bytes())
	s.blind()
	return nil
}

// word is a canary that may be in some places.
func (s *servicesRun) word(what string, may int) string {
	text := fmt.Sprintf("canary%016x%016x", s.j.rnd.Uint64(), s.j.rnd.Uint64())
	s.hide(what, may, formsOf([]byte(text))...)
	return text
}

func (s *servicesRun) hide(what string, may int, forms ...string) {
	s.canaryRun.secrets = append(s.canaryRun.secrets, canary{what: what, may: may, forms: forms})
}

// file makes a file of a secret, and is how the configuration names it.
func (s *servicesRun) file(name, content string) (string, error) {
	path := filepath.Join(s.secrets, name)
	return strconv.Quote("file:" + path), fault.Wrap("make file", name, os.WriteFile(path, []byte(content), 0o600))
}

// prepare makes secrets, and a node that has them.
func (s *servicesRun) prepare() error {
	at, err := freeport.Address("127.0.0.1")
	if err != nil {
		return fault.Wrap("find port", "", err)
	}
	s.base = "https://" + at
	n := s.all[0]
	s.secrets = filepath.Join(s.j.dir, "services")
	for _, d := range []string{s.secrets, filepath.Join(n.Root, "box"), filepath.Join(s.j.dir, "seen0")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fault.Wrap("make folder", d, err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return fault.Wrap("find program", "", err)
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return fault.Wrap("make key", "", err)
	}
	s.hide("age identity", 0, formsOf([]byte(identity.String()))...)
	broken := "AGE-SECRET-KEY-1" + strings.ToUpper(s.word("broken age identity", 0))
	s.hide("broken age identity", 0, formsOf([]byte(broken))...)
	key := s.word("webhook secret", 0)
	files := map[string]string{
		"hook": "whsec_" + base64.StdEncoding.EncodeToString([]byte(key)), "unhook": "whsec_" + s.word("broken webhook secret", 0) + "!",
		"mail": s.word("password for mail", 0) + "\n", "push": s.word("push token", 0), "age": identity.String() + "\n", "broken": broken + "\n", "ca": s.others.authority,
	}
	s.hide("webhook secret", 0, formsOf([]byte(files["hook"]))...)
	for name, content := range files {
		if files[name], err = s.file(name, content); err != nil {
			return err
		}
	}
	hook := func(base, secret, more string) string {
		return fmt.Sprintf("sender = { post = [{ task = \"http\", url = \"%s/%s\", attempts = 1%s%s }] }\nretry = { attempts = 1 }", base, s.word("webhook address", inObjects), secret, more)
	}
	signed, required := ", secret = "+files["hook"], ", required = true"
	mail := fmt.Sprintf("sender = { post = [{ task = \"mail\", url = \"smtps://%s\", from = \"a@example.org\", to = \"b@example.org\", user = \"acme\", secret = %s, ca = %s, attempts = 1, required = true }] }\nretry = { attempts = 1 }", s.others.mail.Addr(), files["mail"], files["ca"])
	decrypt := "sender = { pre = [{ task = \"decrypt\", identities = %s }] }\nretry = { attempts = 1 }"
	rules := pushRule("told", "sender = { post = ["+argvOf("", self, roleChild, filepath.Join(s.j.dir, "seen0"), "--", "{name}")+"] }") +
		pushRule("taken", hook(s.others.base+"/ok", signed, required)) +
		pushRule("refused", hook(s.others.base+"/no", signed, required)) +
		pushRule("warned", hook(s.others.base+"/no", signed, "")) +
		pushRule("away", hook("http://127.0.0.1:1", signed, required)) +
		pushRule("unsigned", hook(s.others.base+"/no", ", secret = "+files["unhook"], required)) +
		pushRule("mailed", mail) +
		pushRule("opened", fmt.Sprintf(decrypt, files["age"])) +
		pushRule("plain", fmt.Sprintf(decrypt, files["age"])) +
		pushRule("closed", fmt.Sprintf(decrypt, files["broken"]))
	s.rules = map[string]string{"told": "file", "taken": "file", "refused": "file", "warned": "file", "away": "file", "unsigned": "file", "mailed": "file", "opened": "sealed", "plain": "file", "closed": "sealed2"}
	sections := fmt.Sprintf(`[http]
listen = ["tls://%s"]
[audit]
enabled = true
sync = "each"
[push]
url = "%s/push?key=%s"
secret = %s
every = "100ms"
[[folder]]
name = "box"
rule = "told"
partner = "n0"
dir = "box"
[[schedule]]
name = "nightly"
cron = "@yearly"
rule = "told"
partner = "n0"
source = "file"
[[expect]]
name = "report"
rule = "told"
partner = "n0"
file = "*.xml"
cron = "@yearly"
[[pool]]
name = "wan"
bandwidth = "1GB/s"
`, at, s.others.base, s.word("push address", 0), files["push"])
	n.Env = []string{
		"PANNIER_CANARY=" + s.word("environment", 0), "CREDENTIAL=" + s.word("environment", 0), // the second an operator's shell may have
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + s.others.base + "/" + s.word("address of traces", 0), "OTEL_BSP_SCHEDULE_DELAY=100",
		"OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20" + s.word("header of traces", 0),
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, identity.Recipient())
	if err == nil {
		_, err = io.WriteString(w, "content")
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return fault.Wrap("encrypt", "", err)
	}
	for name, content := range map[string][]byte{"file": []byte("content"), "sealed": sealed.Bytes(), "sealed2": sealed.Bytes()} {
		if err := os.WriteFile(filepath.Join(n.Root, name), content, 0o600); err != nil {
			return fault.Wrap("make file", name, err)
		}
	}
	return s.write([]string{`log = "debug"`}, nil, rules+sections)
}

// keys are the private keys that the node has made for itself.
func (s *servicesRun) keys(context.Context) error {
	const op = "read key"
	text, err := os.ReadFile(filepath.Join(s.all[0].State, "audit", "audit.key"))
	if err != nil {
		return fault.Wrap(op, "audit.key", err)
	}
	parts := strings.SplitN(strings.TrimSpace(string(text)), "+", 5)
	key, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(key) != 33 {
		return fault.New(op, fault.Unsupported, "audit.key has %d parts, %d bytes, %v", len(parts), len(key), err)
	}
	s.hide("audit.key", 0, formsOf(key[1:])...) // before it is the algorithm
	if text, err = os.ReadFile(filepath.Join(s.all[0].State, "http.pem")); err != nil {
		return fault.Wrap(op, "http.pem", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fault.New(op, fault.Unsupported, "http.pem has no block")
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := any.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return fault.New(op, fault.Unsupported, "http.pem has a %T, %v", any, err)
	}
	scalar, err := private.Bytes()
	if err != nil {
		return fault.Wrap(op, "http.pem", err)
	}
	s.hide("http.pem", 0, append(formsOf(scalar), strings.Split(string(text), "\n")[2])...) // its lines end within the key
	return nil
}

// callers makes tokens, and a session of a browser; and comes with others that are none.
func (s *servicesRun) callers(ctx context.Context) error {
	c, err := s.all[0].Client()
	if err != nil {
		return err
	}
	for _, scope := range []string{"read", "submit", "operate", "administer"} {
		t, err := c.CreateToken(ctx, &adminpb.CreateTokenRequest{Name: scope, Scopes: []string{scope}})
		if err != nil {
			return err
		}
		s.tokens[scope] = t.GetText()
		s.hide("token", 0, formsOf([]byte(t.GetText()[strings.LastIndexByte(t.GetText()[:18], '_')+1:]))...)
	}
	kept, err := os.ReadFile(filepath.Join(s.all[0].State, objects.File))
	if err != nil {
		return fault.Wrap("read tokens", "", err)
	}
	digests := regexp.MustCompile(`sha256 = \\"([0-9a-f]{64})\\"`).FindAllSubmatch(kept, -1)
	if len(digests) != len(s.tokens) {
		return fault.New("read tokens", fault.Internal, "%d digests of %d tokens", len(digests), len(s.tokens))
	}
	for _, m := range digests {
		s.hide("digest of a token", inObjects, string(m[1]), strings.ToUpper(string(m[1])))
	}
	for _, text := range []string{s.word("what a stranger sends as a token", 0), "pannier_abcdefgh_" + s.word("what a stranger sends as a token", 0)} {
		for _, path := range []string{"/v1/requests", "/transfers", "/metrics"} {
			if code, err := s.ask(ctx, "GET", path, "wire", "", "Authorization", "Bearer "+text); err != nil || code/100 == 2 {
				return fault.New("ask as a stranger", fault.Internal, "%s: %d, %v", path, code, err)
			}
		}
		if _, err := s.ask(ctx, "POST", "/login", "wire", url.Values{"token": {text}}.Encode()); err != nil {
			return err
		}
	}
	stranger := "__Host-pannier_session=" + s.word("what a stranger sends as a cookie", 0)
	if _, err := s.ask(ctx, "GET", "/transfers", "wire", "", "Cookie", stranger); err != nil {
		return err
	}
	a, err := s.client.PostForm(s.base+"/login", url.Values{"token": {s.tokens["operate"]}})
	if err != nil {
		return fault.Wrap("log in", "", err)
	}
	a.Body.Close()
	for _, c := range a.Cookies() {
		if c.Value != "" {
			s.cookie = c.Name + "=" + c.Value
			s.hide("cookie", 0, formsOf([]byte(c.Value))...)
		}
	}
	if s.cookie == "" {
		return fault.New("log in", fault.Internal, "no cookie: %s", a.Status)
	}
	return nil
}

// use has each service used, and waits until those have refused it that do.
func (s *servicesRun) use(ctx context.Context) error {
	for rule, source := range s.rules {
		id, err := s.submit(ctx, s.all[0], rule, source, "at/"+rule, "")
		if err != nil {
			return err
		}
		x, err := ended(ctx, s.all[0], id)
		if err != nil {
			return err
		}
		want := adminpb.Request_INERROR
		if rule == "told" || rule == "taken" || rule == "warned" || rule == "opened" {
			want = adminpb.Request_DONE
		}
		if x.GetState() != want {
			s.add("by rule %s it is %v: %s", rule, x.GetState(), x.GetFailure().GetCause())
		}
		s.ids = append(s.ids, id)
	}
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		missing := s.others.missing()
		for _, words := range []string{"finished records cannot be pushed", "traces are not taken"} {
			if !strings.Contains(s.log(0), words) {
				missing = append(missing, words)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		if time.Now().After(until) {
			return fault.New("wait for services", fault.Deadline, "nobody has seen: %s", strings.Join(missing, ", "))
		}
		if _, err := s.submit(ctx, s.all[0], "told", "file", "more", ""); err != nil { // there is something to tell
			return err
		}
	}
}

// apply has objects with secrets in their addresses changed at run time, and refused.
func (s *servicesRun) apply(ctx context.Context) error {
	c, err := s.all[0].Client()
	if err != nil {
		return err
	}
	object := func(name, address string) string {
		return strings.ReplaceAll(pushRule(name, fmt.Sprintf("post = [{ task = \"http\", url = %q }]", address)), "%ROOT%", s.all[0].Root)
	}
	applied, err := c.Apply(ctx, &adminpb.ApplyRequest{Text: object("applied", "https://hooks.example/"+s.word("address of an applied rule", inObjects))})
	if err != nil {
		return err
	}
	s.search("Apply", "objects", 0, fmt.Append(nil, applied))
	put, err := c.PutObject(ctx, &adminpb.PutObjectRequest{Kind: "rule", Name: "put", Text: object("put", "https://hooks.example/"+s.word("address of a rule that was put", inObjects))})
	if err != nil {
		return err
	}
	s.search("PutObject", "objects", 0, fmt.Append(nil, put))
	for _, text := range []string{object("wrong", "https://me:"+s.word("password in an address", 0)+"@hooks.example/"), object("wrong", "https://hooks.example/"+s.word("address of a refused rule", 0)) + "nonsense = 1\n", "[[rule]\n" + s.word("no TOML", 0)} {
		if _, err := c.Apply(ctx, &adminpb.ApplyRequest{Text: text}); err == nil { // who gets the error has sent it
			s.add("a rule was taken that is none: %s", text)
		}
	}
	return nil
}

// ask asks for something, and looks at what comes; of a stream at its beginning.
func (s *servicesRun) ask(ctx context.Context, method, path, place, form string, headers ...string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, s.base+path, strings.NewReader(form))
	if err != nil {
		return 0, fault.Wrap("ask", path, err)
	}
	if method == http.MethodPost {
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	a, err := s.client.Do(q)
	if err != nil {
		return 0, fault.Wrap("ask", path, err)
	}
	defer a.Body.Close()
	s.asked++
	if strings.HasPrefix(a.Header.Get("Content-Type"), "text/event-stream") {
		time.AfterFunc(300*time.Millisecond, cancel)
	}
	text, _ := io.ReadAll(a.Body) // a stream is cut
	s.search(method+" "+path, place, 0, fmt.Appendf(text, "%v", a.Header))
	return a.StatusCode, nil
}

// calls makes every call of the service that only looks, as HTTP has it, for each scope that may.
func (s *servicesRun) calls(ctx context.Context) error {
	named := strings.NewReplacer("{kind}/{name}", "rule/refused", "{partner}", "n0", "folders/{name}", "folders/box", "schedules/{name}", "schedules/nightly", "expected/{name}", "expected/report", "{name}", "none")
	methods := adminpb.File_admin_proto.Services().Get(0).Methods()
	looked := 0
	for i := range methods.Len() {
		verb, path := routeOf(methods.Get(i))
		name := string(methods.Get(i).Name())
		if verb != http.MethodGet && name != "TestPartner" && name != "Check" || name == "Backup" { // which is looked at file by file
			continue
		}
		ids := s.ids[:1]
		if strings.Contains(path, "id}") {
			ids = s.ids
		}
		for _, scope := range []string{"read", "operate", "administer"} {
			place := "operators"
			if scope == "read" {
				place = "readers"
			} else if name == "ListObjects" || name == "GetObject" {
				place = "objects"
			}
			for _, id := range ids {
				at := named.Replace(strings.NewReplacer("{id}", id, "{ref.id}", id).Replace(path))
				code, err := s.ask(ctx, verb, at, place, "", "Authorization", "Bearer "+s.tokens[scope], "Content-Type", "application/json")
				if err != nil {
					return err
				}
				if code/100 == 2 {
					looked++
				}
			}
		}
	}
	if looked < 100 {
		s.add("only %d calls were answered", looked)
	}
	for _, scope := range []string{"read", "submit", "operate", "administer"} {
		for _, path := range []string{"/metrics", "/v1/openapi.json", "/livez", "/readyz", "/v1/objects/rule/applied", "/v1/nothing"} {
			place := "readers"
			if strings.Contains(path, "applied") && (scope == "operate" || scope == "administer") {
				place = "objects"
			}
			if _, err := s.ask(ctx, "GET", path, place, "", "Authorization", "Bearer "+s.tokens[scope]); err != nil {
				return err
			}
		}
	}
	return nil
}

// pages are those that a browser shows, to who has logged in.
func (s *servicesRun) pages(ctx context.Context) error {
	for _, route := range web.Routes() {
		method, path, _ := strings.Cut(route.Pattern, " ")
		if method != http.MethodGet || strings.HasPrefix(path, "/assets/") {
			continue
		}
		ids := s.ids[:1]
		if strings.Contains(path, "{id}") {
			ids = s.ids
		}
		for _, id := range ids {
			at := strings.NewReplacer("{$}", "", "{id}", id, "{name}", "box").Replace(path)
			code, err := s.ask(ctx, method, at, "operators", "", "Cookie", s.cookie)
			for ; err == nil && code == http.StatusTooManyRequests; code, err = s.ask(ctx, method, at, "operators", "", "Cookie", s.cookie) {
				time.Sleep(100 * time.Millisecond)
			}
			if err != nil {
				return err
			}
			if code >= 400 {
				s.add("%s: %d", at, code)
			}
		}
	}
	return nil
}

// commands looks at what those print that the other nodes have nothing for.
func (s *servicesRun) commands(ctx context.Context) error {
	for _, args := range [][]string{
		{"folder", "list"}, {"folder", "show", "box"}, {"folder", "test", "box"}, {"schedule", "list"}, {"schedule", "show", "nightly"}, {"expect", "list"}, {"pool", "list"},
		{"token", "list"}, {"history", "export"}, {"history", "export", "--format", "jsonl"}, {"audit", "show"}, {"audit", "verify"}, {"listener", "list"}, {"relay", "list"}, {"config", "check"}, {"reload"},
	} {
		if out, err := s.command(ctx, 0, args...); err != nil {
			s.add("pannier %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	_, _ = s.command(ctx, 0, "doctor") // it finds faults in this node
	out, err := s.output(ctx, 0, "export")
	if err != nil {
		s.add("pannier export: %v: %s", err, out)
	}
	s.search("pannier export", "objects", 0, out)
	return nil
}
