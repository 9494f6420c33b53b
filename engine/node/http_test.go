package node_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// web is a node that speaks HTTP at a port and at its default socket.
type web struct {
	*host
	port  string // host and port
	https *http.Client
	local *http.Client
	as    *described // nil: nobody looks whether its answers are as it says
}

const overTLS = "[http]\nlisten = [\"unix://%s/state/http.sock\", \"tls://127.0.0.1:0\"]\n"

func newWeb(t testing.TB, more string) *web {
	t.Helper()
	h := newHost(t, "a")
	w := &web{host: h}
	w.start(h.config(fmt.Sprintf(overTLS, h.dir) + more))
	w.meet()
	return w
}

// meet makes the clients of the node as it runs now.
func (w *web) meet() {
	for _, a := range w.node.HTTP().Addresses() {
		if at, ok := strings.CutPrefix(a, "tls://"); ok {
			w.port = at
		}
	}
	w.https = &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	w.local = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", w.dir+"/state/http.sock")
	}}}
	w.t.Cleanup(w.https.CloseIdleConnections)
	w.t.Cleanup(w.local.CloseIdleConnections)
}

// ask sends a request, over TLS with a token, at the socket with none.
func (w *web) ask(token, method, path, body string, headers ...string) (int, http.Header, string) {
	w.t.Helper()
	client, at := w.local, "http://x"
	if token != "" {
		client, at = w.https, "https://"+w.port
		headers = append(headers, "Authorization", "Bearer "+token)
	}
	r, err := http.NewRequestWithContext(context.Background(), method, at+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	a, err := client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return a.StatusCode, a.Header, string(text)
}

// token makes one, over HTTP.
func (w *web) token(name, scopes string, more string) string {
	w.t.Helper()
	code, _, body := w.ask("", "POST", "/v1/tokens", fmt.Sprintf(`{"name":%q,"scopes":[%s]%s}`, name, scopes, more))
	var reply struct{ Text string }
	if err := json.Unmarshal([]byte(body), &reply); err != nil || code != 200 || reply.Text == "" {
		w.t.Fatalf("%d %v: %s", code, err, body)
	}
	return reply.Text
}

// calls are all methods of the service with what they are as HTTP.
func calls(yield func(full, verb, path string, m protoreflect.MethodDescriptor)) {
	methods := adminpb.File_admin_proto.Services().Get(0).Methods()
	for i := range methods.Len() {
		m := methods.Get(i)
		rule, _ := proto.GetExtension(m.Options().(*descriptorpb.MethodOptions), annotations.E_Http).(*annotations.HttpRule)
		verb, path := "", ""
		switch p := rule.GetPattern().(type) {
		case *annotations.HttpRule_Get:
			verb, path = "GET", p.Get
		case *annotations.HttpRule_Post:
			verb, path = "POST", p.Post
		case *annotations.HttpRule_Put:
			verb, path = "PUT", p.Put
		case *annotations.HttpRule_Delete:
			verb, path = "DELETE", p.Delete
		}
		yield("/"+string(m.Parent().FullName())+"/"+string(m.Name()), verb, path, m)
	}
}

var variable = regexp.MustCompile(`\{[^}]*\}`)

// TestEveryCall: each call of the service, in gRPC and in HTTP, and each other route of the
// node, is refused to nobody, to a wrong token, and to one of every scope that is too little.
func TestEveryCall(t *testing.T) {
	w := newWeb(t, "")
	tokens := map[access.Scope]string{}
	for _, s := range access.Scopes() {
		tokens[s] = w.token(s.String(), fmt.Sprintf("%q", s), "")
	}
	conn, err := grpc.NewClient("passthrough:"+w.port, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tried := 0
	refused := func(full, verb, path string, m protoreflect.MethodDescriptor, token string, code int, grpcCode codes.Code) {
		t.Helper()
		tried++
		ctx := context.Background()
		headers := []string{}
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
			headers = []string{"Authorization", "Bearer " + token}
		}
		r, err := http.NewRequest(verb, "https://"+w.port+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if len(headers) > 0 {
			r.Header.Set(headers[0], headers[1])
		}
		a, err := w.https.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if a.StatusCode != code {
			t.Errorf("%s %s is %d, want %d", verb, path, a.StatusCode, code)
		}
		if m == nil {
			return
		}
		s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, full)
		if err == nil {
			_ = s.SendMsg(dynamicpb.NewMessage(m.Input()))
			_ = s.CloseSend()
			err = s.RecvMsg(dynamicpb.NewMessage(m.Output()))
		}
		if status.Code(err) != grpcCode {
			t.Errorf("%s is %v, want %v", full, err, grpcCode)
		}
	}
	calls(func(full, verb, path string, m protoreflect.MethodDescriptor) {
		if path == "" {
			t.Errorf("%s has no path", full)
			return
		}
		path = variable.ReplaceAllString(path, "abcdef")
		refused(full, verb, path, m, "", 401, codes.Unauthenticated)
		refused(full, verb, path, m, tokens[access.Read]+"x", 401, codes.Unauthenticated)
		need := admin.ScopeOf(full)
		for s, token := range tokens {
			if !(access.Caller{Name: "x", Scopes: []access.Scope{s}}).May(need) {
				refused(full, verb, path, m, token, 403, codes.PermissionDenied)
			}
		}
	})
	for _, r := range w.node.HTTP().Routes() {
		verb, path, ok := strings.Cut(r.Pattern, " ")
		if !ok {
			verb, path = "GET", r.Pattern
		}
		if r.Scope == access.Public {
			continue
		}
		refused("", verb, path, nil, "", 401, 0)
		refused("", verb, path, nil, "wrong", 401, 0)
	}
	t.Logf("%d calls and routes, as many refused", tried)
	w.https.CloseIdleConnections()
	conn.Close()
	w.end()
}

// TestSubmitByRule: a token that may submit by one rule does, and by no other.
func TestSubmitByRule(t *testing.T) {
	w := newWeb(t, "")
	w.write("x", "hello")
	if code, _, body := w.ask("", "POST", "/v1/tokens", `{"name":"t","scopes":["submit"],"rules":["nothing"]}`); code != 404 {
		t.Errorf("a rule that is not there: %d %s", code, body)
	}
	ci := w.token("ci", `"submit"`, `,"rules":["push"]`)
	code, _, body := w.ask(ci, "POST", "/v1/requests", `{"partner":"a","rule":"push","source":"x","target":"y"}`)
	if code != 200 || !strings.Contains(body, `"made":true`) {
		t.Errorf("%d %s", code, body)
	}
	code, _, body = w.ask(ci, "POST", "/v1/requests", `{"partner":"a","rule":"pull","source":"x","target":"z"}`)
	if code != 403 || !strings.Contains(body, "other rules only: push") {
		t.Errorf("%d %s", code, body)
	}
	for _, bad := range []string{`{`, `{"partnr":"a"}`, `{"priority":"x"}`, `[]`, strings.Repeat("[", 100000)} {
		if code, _, body := w.ask("", "POST", "/v1/requests", bad); code != 400 || !json.Valid([]byte(body)) {
			t.Errorf("%.20s: %d %s", bad, code, body)
		}
	}
	w.https.CloseIdleConnections()
	w.end()
}

const branch = `[[partner]]
name = "branch"
key = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
`

// TestObjects: what is applied holds at once and after a restart, all or none; the file's
// are read only; who has read an older one changes nothing.
func TestObjects(t *testing.T) {
	h := newHost(t, "a")
	w := &web{host: h}
	path := filepath.Join(h.dir, "a.toml")
	if err := os.WriteFile(path, []byte(h.text(fmt.Sprintf(overTLS, h.dir))), 0o600); err != nil {
		t.Fatal(err)
	}
	h.o.Read = func() (*config.Config, error) { return config.Load(path) }
	begin := func() {
		cfg, err := config.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		h.start(cfg)
		w.meet()
	}
	begin()
	put := func(kind, name, text string, headers ...string) (int, http.Header, string) {
		body, _ := json.Marshal(map[string]string{"text": text})
		return w.ask("", "PUT", "/v1/objects/"+kind+"/"+name, string(body), headers...)
	}
	apply := func(text string) (int, string) {
		body, _ := json.Marshal(map[string]string{"text": text, "file": "x.toml"})
		code, _, reply := w.ask("", "POST", "/v1/objects:apply", string(body))
		return code, reply
	}
	if code, _, body := put("partner", "branch", branch); code != 200 {
		t.Fatal(code, body)
	}
	rule := "[[rule]]\nname = \"r\"\ndirection = \"receive\"\npartners = [\"branch\"]\nroot = \"" + h.dir + "/files\"\n"
	if code, body := apply(rule); code != 200 || !strings.Contains(body, "rule r is new") {
		t.Errorf("%d %s", code, body)
	}
	for text, want := range map[string]string{
		rule + "\n[[rule]]\nname = \"s\"\ndirecton = \"send\"\n": `x.toml:9:1: unknown key \"directon\"; did you mean \"direction\"?`,
		"[[rule]]\nname = \"push\"\n":                            "rule push is in the node's file",
		"[node]\nname = \"b\"\n":                                 "cannot be applied",
		"[[partner]]\nkey = \"x\"\n":                             "x.toml:1:3: name is missing",
		strings.Replace(branch, "branch", "other", 1):            `x.toml:3:7: this is a key of \"branch\" already`,
		"partner = 1": "write [[partner]]",
		"[[":          "x.toml:1:",
		strings.Replace(rule, "branch", "brunch", 1): `did you mean \"branch\"?`,
		branch + "\n" + branch:                       "there is a partner",
	} {
		if code, body := apply(text); code < 400 || code >= 500 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want %s", text, code, body, want)
		}
	}
	code, _, reply := w.ask("", "POST", "/v1/objects:apply", `{"file":"a.toml","text":"","more":[{"file":"b.toml","text":"\n[[rule]]\nname=\"x\"\nwibble=1\n"}]}`)
	if code != 400 || !strings.Contains(reply, "b.toml:4:1: unknown key") {
		t.Errorf("several texts: %d %s", code, reply)
	}
	code, header, before := w.ask("", "GET", "/v1/objects/partner/branch", "")
	tag := header.Get("ETag")
	if code != 200 || tag == "" || !strings.Contains(before, `"user `) {
		t.Errorf("%d %q %s", code, tag, before)
	}
	changed := branch + "concurrent = 7\n"
	if code, _, body := put("partner", "branch", changed, "If-Match", tag); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	if code, _, body := put("partner", "branch", branch, "If-Match", tag); code != 412 || !strings.Contains(body, "has changed it") || !strings.Contains(body, "If-Match") {
		t.Errorf("an older one: %d %s", code, body)
	}
	if code, _, body := put("partner", "branch", branch, "If-None-Match", "*"); code != 412 || !strings.Contains(body, "already") {
		t.Errorf("a new one of that name: %d %s", code, body)
	}
	fresh := strings.NewReplacer("\"branch\"", "\"fresh\"", "0011", "1100").Replace(branch)
	for i, want := range []int{200, 412} {
		if code, _, body := put("partner", "fresh", fresh, "If-None-Match", "*"); code != want {
			t.Errorf("a new one, time %d: %d %s, want %d", i+1, code, body, want)
		}
	}
	if code, _, body := w.ask("", "DELETE", "/v1/objects/partner/fresh", ""); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	_, header, _ = w.ask("", "GET", "/v1/objects/partner/branch", "")
	now := header.Get("ETag")
	both, _ := json.Marshal(map[string]string{"text": branch, "revision": strings.Trim(tag, `"`)})
	if code, _, body := w.ask("", "PUT", "/v1/objects/partner/branch", string(both), "If-Match", now); code != 400 || !strings.Contains(body, "send one of them") {
		t.Errorf("two revisions: %d %s", code, body)
	}
	if code, _, body := w.ask("", "DELETE", "/v1/objects/partner/branch?revision="+strings.Trim(tag, `"`), "", "If-Match", now); code != 400 || !strings.Contains(body, "send one of them") {
		t.Errorf("two revisions: %d %s", code, body)
	}
	both, _ = json.Marshal(map[string]string{"text": changed, "revision": strings.Trim(now, `"`)})
	if code, _, body := w.ask("", "PUT", "/v1/objects/partner/branch", string(both), "If-Match", now); code != 200 {
		t.Errorf("the same twice: %d %s", code, body)
	}
	if code, _, body := w.ask("", "GET", "/v1/objects/partner/branch", "", "If-None-Match", now); code != 304 || body != "" {
		t.Errorf("known: %d %s", code, body)
	}
	if code, _, body := w.ask("", "DELETE", "/v1/objects/partner/branch", "", "If-Match", tag); code != 412 {
		t.Errorf("an older one: %d %s", code, body)
	}
	if code, _, body := w.ask("", "DELETE", "/v1/objects/partner/branch", ""); code != 400 || !strings.Contains(body, "rule r, applied at run time:4:13") {
		t.Errorf("one that is needed: %d %s", code, body)
	}
	if _, err := h.node.ReadAgain(); err != nil {
		t.Errorf("reload: %v", err)
	}
	if b := h.node.Engine().Book(); b.Partners["branch"].Concurrent != 7 || b.Rules["r"] == nil || b.Rules["s"] != nil {
		t.Errorf("%+v", b)
	}
	if err := h.end(); err != nil {
		t.Fatal(err)
	}
	begin()
	if b := h.node.Engine().Book(); b.Partners["branch"] == nil || b.Partners["branch"].Concurrent != 7 || b.Rules["r"] == nil {
		t.Errorf("after a restart: %+v", b)
	}
	for _, name := range []string{"rule/r", "partner/branch"} {
		if code, _, body := w.ask("", "DELETE", "/v1/objects/"+name, ""); code != 200 {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	if code, _, body := w.ask("", "DELETE", "/v1/objects/rule/push", ""); code != 409 || !strings.Contains(body, "pannier reload") {
		t.Errorf("the file's: %d %s", code, body)
	}
	for _, c := range [][2]string{{"GET", "/v1/objects?kind=rul"}, {"GET", "/v1/objects/rul/push"}, {"PUT", "/v1/objects/rul/push"}, {"DELETE", "/v1/objects/rul/push"}} {
		if code, _, body := w.ask("", c[0], c[1], ""); code != 400 || !strings.Contains(body, `did you mean \"rule\"?; there are: partner, rule, pool, folder, schedule, expect`) {
			t.Errorf("%s %s, a kind that is misspelt: %d %s", c[0], c[1], code, body)
		}
	}
	if h.node.Engine().Book().Partners["branch"] != nil {
		t.Error("it is gone, and there")
	}
	w.https.CloseIdleConnections()
	w.local.CloseIdleConnections()
	h.end()
}

// TestAddressesStaySecret: what of an address may be a secret is not for those who only read,
// in no form; those who operate have it whole, and what they export can be applied.
func TestAddressesStaySecret(t *testing.T) {
	w := newWeb(t, fmt.Sprintf(`
[[rule]]
name = "told"
direction = "send"
partners = ["*"]
root = %q
post = [{ task = "http", url = "https://hooks.example/canary?canary", text = "token canary" }]
`, t.TempDir()))
	applied := "[[rule]] # https://hooks.example/canary\nname = \"later\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"" + w.dir + "/files\"\nerror = [{ task = \"exec\", argv = [\"/usr/bin/curl\", \"https://me:canary@hooks.example\"] }, { task = \"mail\", url = \"smtp://m\", from = \"a@b\", to = \"a@b\", subject = \"canary\", text = \"canary\" }]\n"
	body, _ := json.Marshal(map[string]string{"text": applied})
	if code, _, reply := w.ask("", "PUT", "/v1/objects/rule/later", string(body)); code != 200 || !strings.Contains(reply, "me:canary") {
		t.Fatal(code, reply)
	}
	for scope, whole := range map[string]bool{`"read"`: false, `"read","submit"`: false, `"operate"`: true, `"administer"`: true} {
		token := w.token("t", scope, "")
		for _, path := range []string{"/v1/objects", "/v1/objects?kind=rule", "/v1/objects/rule/told", "/v1/objects/rule/later"} {
			code, _, reply := w.ask(token, "GET", path, "")
			if code != 200 || strings.Contains(reply, "canary") != whole || strings.Contains(reply, `"hidden":true`) == whole || !strings.Contains(reply, "https://hooks.example") && !strings.HasSuffix(path, "later") || whole && !strings.Contains(reply, "hooks.example") {
				t.Errorf("%s, %s: %d %s", scope, path, code, reply)
			}
		}
		c, err := admin.DialWith("tls://"+w.port, admin.Proof{Token: token, Key: w.node.Key()})
		if err != nil {
			t.Fatal(err)
		}
		list, err := c.ListObjects(t.Context(), &adminpb.ListObjectsRequest{Kind: "rule"})
		one, err2 := c.GetObject(t.Context(), &adminpb.ObjectName{Kind: "rule", Name: "later"})
		if err != nil || err2 != nil || strings.Contains(list.String()+one.String(), "canary") != whole || one.GetHidden() == whole || whole && one.GetText() != applied {
			t.Errorf("%s in gRPC: %v %v, %v %v", scope, list, err, one, err2)
		}
		c.Close()
		w.ask("", "DELETE", "/v1/tokens/t", "")
	}
	text := "[[rule]]\nname = \"back\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"" + w.dir + "/files\"\npost = [{ task = \"http\", url = \"https://hooks.example/x\" }]\n"
	body, _ = json.Marshal(map[string]string{"text": config.WithoutAddresses(text)})
	if code, _, reply := w.ask("", "PUT", "/v1/objects/rule/back", string(body)); code != 400 || !strings.Contains(reply, "url is where to send to") {
		t.Errorf("an address in part is applied: %d %s", code, reply)
	}
	w.https.CloseIdleConnections()
	w.local.CloseIdleConnections()
	w.end()
}

// TestTokenStaysSecret: however a token is used, its text is in no log and no file of the
// node.
func TestTokenStaysSecret(t *testing.T) {
	w := newWeb(t, "")
	canary := w.token("canary", `"read"`, "")
	_, secret, _ := strings.Cut(strings.TrimPrefix(canary, "pannier_"), "_")
	w.ask(canary, "GET", "/v1/node", "")
	w.ask(canary, "POST", "/v1/reload", "")
	w.ask(canary+"x", "GET", "/v1/node", "")
	w.ask(canary, "POST", "/v1/requests", `{`)
	w.ask(canary, "GET", "/nowhere", "")
	a, err := w.https.PostForm("https://"+w.port+"/login", url.Values{"token": {canary}})
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	c, err := admin.DialWith("tls://"+w.port, admin.Proof{Token: canary, Key: w.node.Key()})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.NodeInfo(t.Context(), &adminpb.NodeInfoRequest{}); err != nil || n.GetName() != "a" {
		t.Errorf("%v, %v", n, err)
	}
	if _, err := c.Reload(t.Context(), &adminpb.ReloadRequest{}); fault.KindOf(err) != fault.Permission {
		t.Errorf("%v", err)
	}
	c.Close()
	other, err := admin.DialWith("tls://"+w.port, admin.Proof{Token: canary, Key: "sha256:" + strings.Repeat("0", 64)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.NodeInfo(t.Context(), &adminpb.NodeInfoRequest{}); fault.KindOf(err) != fault.Unauthenticated || !strings.Contains(err.Error(), "it has another key than sha256:0000") || strings.Contains(err.Error(), secret) {
		t.Errorf("a daemon with another key: %v", err)
	}
	other.Close()
	w.https.CloseIdleConnections()
	w.local.CloseIdleConnections()
	w.end()
	places, log := 1, w.log.String()
	if strings.Contains(log, secret) || !strings.Contains(log, "token canary") {
		t.Errorf("the log:\n%s", log)
	}
	err = filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		places++
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("%s has it", path)
		}
		return err
	})
	t.Logf("%d places, %v", places, err)
}

// TestWatchers: events of a request come over HTTP as they happen, and the end; a client
// that comes back hears what has ended meanwhile.
func TestWatchers(t *testing.T) {
	w := newWeb(t, "")
	w.write("x", "hello")
	watch := func(last string) (*bufio.Scanner, func()) {
		ctx, cancel := context.WithCancel(context.Background())
		r, _ := http.NewRequestWithContext(ctx, "GET", "http://x/v1/watch", nil)
		if last != "" {
			r.Header.Set("Last-Event-ID", last)
		}
		a, err := w.local.Do(r)
		if err != nil || a.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatal(a, err)
		}
		return bufio.NewScanner(a.Body), func() { cancel(); a.Body.Close() }
	}
	await := func(s *bufio.Scanner, ref string) (id string) {
		for s.Scan() {
			if last, ok := strings.CutPrefix(s.Text(), "id: "); ok {
				id = last
			}
			if data, ok := strings.CutPrefix(s.Text(), "data: "); ok && strings.Contains(data, ref) && strings.Contains(data, `"DONE"`) && json.Valid([]byte(data)) {
				return id
			}
		}
		t.Fatalf("no event of the end: %v", s.Err())
		return ""
	}
	events, end := watch("")
	events.Scan() // it has begun
	first := w.submit("a", "push", "x", "y")
	id := await(events, first.Key.ID.String())
	end()
	second := w.submit("a", "push", "x", "z")
	w.done(second)
	events, end = watch(id)
	await(events, second.Key.ID.String())
	end()
	if code, _, body := w.ask("", "GET", "/v1/watch", "", "Last-Event-ID", "yesterday"); code != 400 {
		t.Error(code, body)
	}
	code, _, body := w.ask("", "GET", "/v1/requests?states=DONE", "", "Accept", "application/x-ndjson")
	if lines := strings.Split(strings.TrimSpace(body), "\n"); code != 200 || len(lines) < 2 || !json.Valid([]byte(lines[0])) {
		t.Errorf("%d %s", code, body)
	}
	code, _, body = w.ask("", "GET", "/v1/requests?states=DONE", "")
	var list struct{ Requests []struct{ Size string } }
	if err := json.Unmarshal([]byte(body), &list); err != nil || code != 200 || len(list.Requests) < 2 || list.Requests[0].Size != "5" {
		t.Errorf("%d %v %s", code, err, body)
	}
	w.local.CloseIdleConnections()
	w.end()
}

// TestClientsHoldNothingUp: with many watchers that read nothing, some that die in the
// middle, and some that flood, transfers go on to their end, and who asks politely beyond
// the limit is told so.
func TestClientsHoldNothingUp(t *testing.T) {
	w := newWeb(t, "")
	var conns []net.Conn
	for range 60 {
		c, err := net.Dial("unix", w.dir+"/state/http.sock")
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		if _, err := io.WriteString(c, "GET /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	refused := 0
	for _, c := range conns {
		answer := make([]byte, 12)
		if _, err := io.ReadFull(c, answer); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(string(answer), "429") {
			refused++
		}
	}
	if refused != 60-32 {
		t.Errorf("%d of 60 are refused, want 28", refused)
	}
	w.write("x", strings.Repeat("x", 8<<20))
	for i := range 40 {
		if i == 20 {
			for _, c := range conns[:30] {
				c.Close() // they die
			}
		}
		w.done(w.submit("a", "push", "x", fmt.Sprint("y", i%4)))
	}
	for _, c := range conns {
		c.Close()
	}
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) { // their places come back
		r, _ := http.NewRequest("GET", "http://x/v1/watch?refs=zzz", nil)
		a, err := w.local.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if a.StatusCode != 429 {
			break
		} else if time.Since(begun) > time.Minute {
			t.Fatal("no place comes back")
		}
	}
	w.local.CloseIdleConnections()
	w.end()
}

// grpc is the service as who is elsewhere calls it, with a token.
func (w *web) grpc(token string, more ...grpc.DialOption) (context.Context, adminpb.AdminClient) {
	w.t.Helper()
	c, err := grpc.NewClient(w.port, append(more, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})))...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	w.t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), adminpb.NewAdminClient(c)
}

// TestRevoked: a token that is deleted ends what is told by it still, in HTTP and in gRPC, and
// who watched is told why.
func TestRevoked(t *testing.T) {
	w := newWeb(t, "")
	token := w.token("spy", `"read"`, "")
	ctx, client := w.grpc(token)
	r, err := http.NewRequestWithContext(ctx, "GET", "https://"+w.port+"/v1/watch", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	a, err := w.https.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	events := bufio.NewScanner(a.Body)
	if !events.Scan() {
		t.Fatal(events.Err())
	}
	changes, err := client.Watch(ctx, &adminpb.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	w.write("x", "hello")
	w.done(w.submit("a", "push", "x", "y"))
	if _, err := changes.Recv(); err != nil { // it is told
		t.Fatal(err)
	}
	if code, _, body := w.ask("", "DELETE", "/v1/tokens/spy", ""); code != 200 {
		t.Fatal(code, body)
	}
	for err == nil {
		_, err = changes.Recv()
	}
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("in gRPC: %v", err)
	}
	last := ""
	for events.Scan() {
		if events.Text() != "" {
			last = events.Text()
		}
	}
	if !strings.HasPrefix(last, "data: {\"error\":") || !strings.Contains(last, "not authenticated") {
		t.Errorf("in HTTP: %q, %v", last, events.Err())
	}
	w.end()
}

// TestWatchesOfToken: a token has so many watches, however it calls, and a place that is left
// is there again.
func TestWatchesOfToken(t *testing.T) {
	const most = 32
	w := newWeb(t, "")
	ctx, client := w.grpc(w.token("many", `"read"`, ""))
	w.write("x", "hello")
	some, end := context.WithCancel(ctx)
	defer end()
	over := make(chan error, most+5)
	for range most + 5 {
		one, err := client.Watch(some, &adminpb.WatchRequest{})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := one.Recv()
			over <- err
		}()
	}
	told, refused := 0, 0
	for told+refused < most+5 {
		select {
		case err := <-over:
			if err == nil {
				told++
			} else if refused++; status.Code(err) != codes.ResourceExhausted {
				t.Errorf("beyond the limit: %v", err)
			}
		case <-time.After(20 * time.Millisecond): // so that there is something to tell
			w.done(w.submit("a", "push", "x", "y"))
		}
	}
	if told != most || refused != 5 {
		t.Errorf("%d are told, %d refused", told, refused)
	}
	end()
	done := w.submit("a", "push", "x", "y")
	w.done(done)
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) { // their places come back
		one, err := client.Watch(ctx, &adminpb.WatchRequest{Refs: []*adminpb.Ref{{Id: done.Key.ID.String()}}})
		if err == nil {
			_, err = one.Recv()
		}
		if err == nil {
			break
		} else if status.Code(err) != codes.ResourceExhausted || time.Since(begun) > 20*time.Second {
			t.Fatal("no place comes back: ", err)
		}
	}
	w.end()
}

// TestWaitsOfToken: a token has so many calls that wait, however it calls, and a place that is
// left is there again.
func TestWaitsOfToken(t *testing.T) {
	const most, more = 128, 5
	w := newWeb(t, newHost(t, "b").partner()) // which is away
	token := w.token("many", `"read"`, "")
	ctx, client := w.grpc(token)
	w.write("x", "hello")
	never := w.submit("b", "push", "x", "y").Key.ID.String()
	some, end := context.WithCancel(ctx)
	defer end()
	over := make(chan error, most+more)
	for range most + more {
		go func() {
			_, err := client.Wait(some, &adminpb.WaitRequest{Ref: &adminpb.Ref{Id: never}})
			over <- err
		}()
	}
	for range more {
		if err := <-over; status.Code(err) != codes.ResourceExhausted {
			t.Errorf("beyond the limit: %v", err)
		}
	}
	if code, _, body := w.ask(token, "GET", "/v1/requests/"+never+"/wait", ""); code != 429 || !strings.Contains(body, "128 calls of wait") {
		t.Errorf("beyond the limit, in HTTP: %d %s", code, body)
	}
	if code, _, body := w.ask("", "GET", "/v1/requests/"+never+"/wait?timeout=0.001s", ""); code != 200 {
		t.Errorf("a user of this host: %d %s", code, body)
	}
	select {
	case err := <-over:
		t.Errorf("a call within the limit has ended: %v", err)
	default:
	}
	end()
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) { // their places come back
		code, _, body := w.ask(token, "GET", "/v1/requests/"+never+"/wait?timeout=0.001s", "")
		if code == 200 {
			break
		} else if code != 429 || time.Since(begun) > time.Minute {
			t.Fatal("no place comes back: ", code, body)
		}
	}
	for range most {
		if err := <-over; status.Code(err) != codes.Canceled {
			t.Error(err)
		}
	}
	w.end()
}

// TestListsOfToken: a token has so many lists under way, however slowly it takes them and however it calls; users of
// this host have any number, and transfers come to their end beside all of them.
func TestListsOfToken(t *testing.T) {
	const most, local, records = 8, 30, 100
	w := newWeb(t, newHost(t, "b").partner()) // which is away
	token := w.token("greedy", `"read"`, "")
	w.write("x", "hello")
	for i := range records { // more than is on its way to who does not read
		if _, _, err := w.node.Engine().Submit(t.Context(), engine.Order{Partner: "b", Rule: "push", Source: must(relpath.Parse("x")), Target: must(relpath.Parse(fmt.Sprint("y", i))), Info: strings.Repeat("i", lifecycle.MaxInfo)}); err != nil {
			t.Fatal(err)
		}
	}
	window := grpc.WithInitialWindowSize(1 << 16) // and it does not grow
	ctx, client := w.grpc(token, window)
	here, err := grpc.NewClient(w.config("").Node.Admin, grpc.WithTransportCredentials(insecure.NewCredentials()), window)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close() })
	var lists []grpc.ServerStreamingClient[adminpb.Request]
	begin := func(ctx context.Context, client adminpb.AdminClient) error {
		list, err := client.List(ctx, &adminpb.ListRequest{})
		if err == nil {
			_, err = list.Recv()
		}
		if err == nil {
			lists = append(lists, list)
		}
		return err
	}
	for range most {
		if err := begin(ctx, client); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if err := begin(ctx, client); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("beyond the limit: %v", err)
		}
		if code, _, body := w.ask(token, "GET", "/v1/requests", ""); code != 429 || !strings.Contains(body, "8 calls of List") {
			t.Errorf("beyond the limit, in HTTP: %d %.200s", code, body)
		}
	}
	for range local {
		if err := begin(t.Context(), adminpb.NewAdminClient(here)); err != nil {
			t.Fatalf("a user of this host, who has %d: %v", len(lists)-most, err)
		}
	}
	if code, _, body := w.ask("", "GET", "/v1/requests?states=TOSUBMIT", ""); code != 200 {
		t.Errorf("a user of this host, in HTTP: %d %.200s", code, body)
	}
	for i := range 10 {
		w.done(w.submit("a", "push", "x", fmt.Sprint("z", i)))
	}
	for i, list := range lists {
		n, err := 1, error(nil)
		for ; err == nil; n++ {
			_, err = list.Recv()
		}
		if err != io.EOF || n <= records {
			t.Errorf("list %d ended after %d: %v", i, n-1, err)
		}
	}
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) { // the places come back
		if code, _, body := w.ask(token, "GET", "/v1/requests", ""); code == 200 {
			break
		} else if code != 429 || time.Since(begun) > time.Minute {
			t.Fatalf("no place comes back: %d %.200s", code, body)
		}
	}
	w.end()
}
