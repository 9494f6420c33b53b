package rest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// service answers what a test asks; a call that it does not expect is a panic.
type service struct {
	adminpb.AdminClient
	rule *adminpb.TestRuleRequest // the last
	list *adminpb.ListRequest
	all  int   // requests of a list
	bad  error // at its end

	object  *adminpb.Object
	ifNone  bool // the last PutObject was for one that is not there
	backups int
	key     bool // of the last backup

	watchers atomic.Int64
	watch    atomic.Pointer[adminpb.WatchRequest] // the last
	silent   bool                                 // nothing changes
	begun    bool                                 // a watch, as its header has said
	missed   []*adminpb.Request                   // of a list while a watch has begun
	changed  []*adminpb.Request                   // what a watch tells first
}

func (s *service) TestRule(_ context.Context, in *adminpb.TestRuleRequest, _ ...grpc.CallOption) (*adminpb.TestRuleReply, error) {
	s.rule = in
	return &adminpb.TestRuleReply{}, nil
}

func (s *service) List(_ context.Context, in *adminpb.ListRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[adminpb.Request], error) {
	s.list = in
	if s.begun {
		return &stream{these: s.missed, left: s.all, bad: s.bad}, nil
	}
	return &stream{left: s.all, bad: s.bad}, nil
}

func (s *service) GetObject(context.Context, *adminpb.ObjectName, ...grpc.CallOption) (*adminpb.Object, error) {
	if s.object == nil {
		return nil, fault.New("get object", fault.NotFound, "none")
	}
	return s.object, nil
}

func (s *service) PutObject(ctx context.Context, _ *adminpb.PutObjectRequest, _ ...grpc.CallOption) (*adminpb.Object, error) {
	md, _ := metadata.FromOutgoingContext(ctx)
	s.ifNone = len(md.Get(admin.IfNone)) > 0
	return s.object, nil
}

func (s *service) Backup(_ context.Context, in *adminpb.BackupRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[adminpb.BackupChunk], error) {
	s.backups++
	s.key = in.GetWithKey()
	return &chunks{}, nil
}

type chunks struct {
	grpc.ClientStream
	over bool
}

func (c *chunks) Recv() (*adminpb.BackupChunk, error) {
	if c.over {
		return nil, io.EOF
	}
	c.over = true
	return &adminpb.BackupChunk{Data: []byte("PK")}, nil
}

type stream struct {
	grpc.ClientStream
	these []*adminpb.Request
	left  int
	bad   error
}

func (s *stream) Recv() (*adminpb.Request, error) {
	switch {
	case len(s.these) > 0:
		first := s.these[0]
		s.these = s.these[1:]
		return first, nil
	case s.left > 0:
		s.left--
		return &adminpb.Request{Id: "x"}, nil
	case s.bad != nil:
		return nil, s.bad
	}
	return nil, io.EOF
}

// Watch is changes without end, or none.
func (s *service) Watch(ctx context.Context, in *adminpb.WatchRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[adminpb.Change], error) {
	s.watch.Store(in)
	s.watchers.Add(1)
	context.AfterFunc(ctx, func() { s.watchers.Add(-1) })
	return &changes{s: s, ctx: ctx, these: s.changed, over: s.silent}, nil
}

type changes struct {
	grpc.ClientStream
	s     *service
	ctx   context.Context
	these []*adminpb.Request
	over  bool
}

func (c *changes) Header() (metadata.MD, error) {
	c.s.begun = true
	return nil, nil
}

func (c *changes) Recv() (*adminpb.Change, error) {
	if len(c.these) > 0 {
		first := c.these[0]
		c.these = c.these[1:]
		return &adminpb.Change{Request: first}, nil
	}
	if c.over {
		return nil, io.EOF
	}
	if err := c.ctx.Err(); err != nil {
		return nil, err
	}
	return &adminpb.Change{Request: &adminpb.Request{Id: "x", Info: strings.Repeat("y", 10_000)}}, nil
}

// served is a client of the twin of a service, on a unix socket.
func served(t *testing.T, s *service) (do func(method, target, body string, headers ...string) (status int, text string)) {
	t.Helper()
	do, _ = servedWith(t, s, Options{})
	return do
}

func servedWith(t *testing.T, s *service, o Options) (do func(method, target, body string, headers ...string) (status int, text string), socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	tokens, _, err := access.OpenTokens(filepath.Join(dir, "t"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server, err := httpd.New(httpd.Config{Tokens: tokens, Local: func(int) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	if err := Mount(server, s, o); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	if err := server.Listen("unix://"+socket, nil); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- server.Serve() }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		server.Close()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	return func(method, target, body string, headers ...string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		a, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		text, err := io.ReadAll(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		return a.StatusCode, string(text)
	}, socket
}

// TestParametersOfAll: each call of admin.proto refuses a parameter that it does not have, before
// the service hears of it.
func TestParametersOfAll(t *testing.T) {
	do := served(t, &service{})
	methods, tried := adminpb.File_admin_proto.Services().ByName("Admin").Methods(), 0
	for i := range methods.Len() {
		rule, _ := proto.GetExtension(methods.Get(i).Options(), annotations.E_Http).(*annotations.HttpRule)
		if rule == nil {
			continue
		}
		tried++
		pattern, _ := patternOf(rule)
		method, path, _ := strings.Cut(pattern, " ")
		path = regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(path, "x")
		status, text := do(method, path+"?nonsense=1", "{}")
		if status != http.StatusBadRequest || !strings.Contains(text, "nonsense") {
			t.Errorf("%s %s: %d %s", method, path, status, text)
		}
	}
	if tried < 30 {
		t.Errorf("%d calls tried", tried)
	}
}

func TestParameters(t *testing.T) {
	s := &service{}
	do := served(t, s)
	if status, text := do("GET", "/v1/rules:test?rule=out&partner=hostb", ""); status != http.StatusOK || s.rule.GetRule() != "out" || s.rule.GetPartner() != "hostb" {
		t.Errorf("%d %s, %v", status, text, s.rule)
	}
	if status, text := do("GET", "/v1/requests?partner=hostb&states=DONE&states=RUNNING", ""); status != http.StatusOK || s.list.GetPartner() != "hostb" || len(s.list.GetStates()) != 2 {
		t.Errorf("%d %s, %v", status, text, s.list)
	}
	for _, c := range []struct{ method, target, body, says string }{
		{"GET", "/v1/rules:test?partnre=hostb", "", `no parameter is called \"partnre\" here; there are: direction, partner, rule, path`},
		{"GET", "/v1/rules:test?rule.x=1", "", `no parameter is called \"rule.x\"`},
		{"GET", "/v1/requests/x/wait?ref.id=y", "", `there are: ref.requester, ref.role, timeout`},
		{"POST", "/v1/folders/x/scan?name=y", "", "it has none"},
		{"GET", "/v1/requests?limit=many", "", `limit is \"many\": write a whole number, as 100`},
		{"GET", "/v1/requests?limit=99999999999", "", "write a whole number"},
		{"GET", "/v1/requests?states=FOO", "", `states is \"FOO\": write TOSUBMIT, RUNNING`},
		{"GET", "/v1/requests?since=yesterday", "", "write a time, as 2026-01-31T20:00:00Z"},
		{"GET", "/v1/requests?states=SLEEPING", "", "SLEEPING"},
		{"GET", "/v1/requests?partner=%zz", "", "invalid URL escape"},
		{"GET", "/v1/watch?query.nonsense=1", "", `query.nonsense`},
		{"POST", "/v1/requests?rule=out", "{}", "put it into the JSON of the body"},
		{"POST", "/v1/requests", `{"rulle":"out"}`, "rulle"},
		{"POST", "/v1/requests", `{"rule":`, "unexpected"},
		{"GET", "/v1/nonsense?x=1", "", "there is no /v1/nonsense"},
	} {
		status, text := do(c.method, c.target, c.body)
		var p httpd.Problem
		if err := json.Unmarshal([]byte(text), &p); err != nil || status < 400 || status > 499 || !strings.Contains(text, c.says) {
			t.Errorf("%s %s: %d %s, %v", c.method, c.target, status, text, err)
		}
	}
}

// TestLists: a stream is one object or lines, and an error in its middle is said in it.
func TestLists(t *testing.T) {
	s := &service{}
	do := served(t, s)
	lines := []string{"Accept", ndjson}
	for _, c := range []struct {
		all     int
		bad     error
		headers []string
		status  int
		json    int // values
		problem bool
	}{
		{0, nil, nil, 200, 1, false},
		{2, nil, nil, 200, 1, false},
		{0, nil, lines, 200, 0, false},
		{2, nil, lines, 200, 2, false},
		{2, fault.New("list", fault.Corrupt, "a record"), nil, 200, 1, true},
		{2, fault.New("list", fault.Corrupt, "a record"), lines, 200, 3, true},
		{0, fault.New("list", fault.NotFound, "no such"), nil, 404, 1, false},
	} {
		s.all, s.bad = c.all, c.bad
		status, text := do("GET", "/v1/requests", "", c.headers...)
		n, problem, dec := 0, false, json.NewDecoder(strings.NewReader(text))
		for {
			var v map[string]any
			if err := dec.Decode(&v); err == io.EOF {
				break
			} else if err != nil {
				t.Errorf("%+v: %q is no JSON: %v", c, text, err)
				break
			}
			problem = problem || v["problem"] != nil
			if list, ok := v["requests"].([]any); ok && len(list) != c.all {
				t.Errorf("%+v: %d in the list", c, len(list))
			}
			n++
		}
		if status != c.status || n != c.json || problem != c.problem {
			t.Errorf("%+v: %d %q", c, status, text)
		}
	}
}

// TestWatchThese: requests can be watched by their ids, with what else a query says.
func TestWatchThese(t *testing.T) {
	s := &service{silent: true}
	do := served(t, s)
	if status, text := do("GET", "/v1/watch?refs.id=a&query.partner=p&refs.id=b", ""); status != 200 || !strings.Contains(text, "event: end") {
		t.Errorf("%d %s", status, text)
	}
	if in := s.watch.Load(); len(in.GetRefs()) != 2 || in.GetRefs()[0].GetId() != "a" || in.GetRefs()[1].GetId() != "b" || in.GetQuery().GetPartner() != "p" {
		t.Errorf("it watches %v", in)
	}
}

// TestWatchFails: who watches is told that what was missed could not be told.
func TestWatchFails(t *testing.T) {
	s := &service{silent: true, all: 1, bad: fault.New("list", fault.Corrupt, "a record")}
	do := served(t, s)
	status, text := do("GET", "/v1/watch", "", "Last-Event-ID", "1")
	if status != 200 || strings.Count(text, "event: change") != 1 || !strings.Contains(text, "event: end\ndata: {\"error\":") || !strings.Contains(text, "a record") {
		t.Errorf("%d %s", status, text)
	}
}

// TestWatchMissed: what has ended meanwhile is asked for when changes are told already, so that nothing ends in
// between; and whoever breaks off before all of it was told has an id with which it is told again.
func TestWatchMissed(t *testing.T) {
	ended := func(at int64) *adminpb.Request {
		return &adminpb.Request{Id: strconv.FormatInt(at, 10), Changed: timestamppb.New(time.UnixMicro(at))}
	}
	s := &service{silent: true, missed: []*adminpb.Request{ended(900), ended(700), ended(800)}, changed: []*adminpb.Request{ended(600)}}
	_, text := served(t, s)("GET", "/v1/watch", "", "Last-Event-ID", "500")
	var got []string
	for _, m := range regexp.MustCompile(`id: (\d+)\nevent: change\ndata: {.*?"id": *"(\d+)"`).FindAllStringSubmatch(text, -1) {
		got = append(got, m[2]+" by "+m[1])
	}
	if want := "900 by 500, 700 by 500, 800 by 500, 600 by 900"; strings.Join(got, ", ") != want {
		t.Errorf("%s instead of %s:\n%s", strings.Join(got, ", "), want, text)
	}
	if since := s.list.GetSince().AsTime().UnixMicro(); since != 500 {
		t.Error(since)
	}
}

// TestDeafWatcher: a client that does not read what it asked for is let go, and its place is
// another's; the service is not kept from telling.
func TestDeafWatcher(t *testing.T) {
	s := &service{}
	do, socket := servedWith(t, s, Options{Slow: 50 * time.Millisecond, Each: 2})
	for round := range 2 {
		var all []net.Conn
		for range 2 {
			c, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, "GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
		for began := time.Now(); s.watchers.Load() < 2 && time.Since(began) < 20*time.Millisecond; { // or they were let go already
			time.Sleep(time.Millisecond)
		}
		for began := time.Now(); s.watchers.Load() > 0; time.Sleep(time.Millisecond) {
			if time.Since(began) > time.Minute {
				t.Fatalf("round %d: %d are told still", round, s.watchers.Load())
			}
		}
		for _, c := range all { // what it has got ends
			_ = c.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("round %d: %v", round, err)
			}
		}
	}
	if status, text := do("GET", "/v1/requests", ""); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
}

// TestConditions: who has an object still is not sent it again; a condition that nothing looks at is refused.
func TestConditions(t *testing.T) {
	s := &service{object: &adminpb.Object{Kind: "rule", Name: "x", Revision: 7}}
	do := served(t, s)
	for _, c := range []struct {
		method, target string
		headers        []string
		status         int
	}{
		{"GET", "/v1/objects/rule/x", nil, 200},
		{"GET", "/v1/objects/rule/x", []string{"If-None-Match", `"7"`}, 304},
		{"GET", "/v1/objects/rule/x", []string{"If-None-Match", `"6", W/"7"`}, 304},
		{"GET", "/v1/objects/rule/x", []string{"If-None-Match", `*`}, 304},
		{"GET", "/v1/objects/rule/x", []string{"If-None-Match", `"6","70"`}, 200},
		{"GET", "/v1/requests", []string{"If-None-Match", `*`}, 200},       // has no ETag
		{"PUT", "/v1/objects/rule/x", []string{"If-None-Match", `*`}, 200}, // the service looks
		{"PUT", "/v1/objects/rule/x", []string{"If-None-Match", `"7"`}, 501},
		{"PUT", "/v1/objects/rule/x", []string{"If-None-Match", `*`, "If-Match", `"7"`}, 400},
		{"DELETE", "/v1/objects/rule/x", []string{"If-None-Match", `*`}, 501},
		{"POST", "/v1/objects:apply", []string{"If-None-Match", `*`}, 501},
		{"POST", "/v1/objects:apply", []string{"If-Match", `"7"`}, 501},
		{"GET", "/v1/objects/rule/x", []string{"If-Match", `"7"`}, 501},
	} {
		if status, text := do(c.method, c.target, "", c.headers...); status != c.status || (status == 304) != (text == "") {
			t.Errorf("%+v: %d %q", c, status, text)
		}
	}
	for _, none := range []bool{true, false} {
		var headers []string
		if none {
			headers = []string{"If-None-Match", "*"}
		}
		if status, text := do("PUT", "/v1/objects/rule/x", "{}", headers...); status != 200 || s.ifNone != none {
			t.Errorf("%v: %d %q, and the service is asked for one that is not there: %v", headers, status, text, s.ifNone)
		}
	}
	s.object.Hidden = true
	if status, _ := do("GET", "/v1/objects/rule/x", "", "If-None-Match", `"7"`); status != 200 {
		t.Errorf("in part, where the whole is known: %d", status)
	}
	s.object = nil
	if status, text := do("GET", "/v1/objects/rule/x", "", "If-None-Match", `*`); status != 404 || text == "" {
		t.Errorf("none: %d %q", status, text)
	}
}

// TestHead: HEAD of a stream makes none.
func TestHead(t *testing.T) {
	s := &service{}
	do := served(t, s)
	for _, path := range []string{"/v1/backup", "/v1/watch", "/v1/requests", "/v1/browse?partner=x&rule=y"} {
		if status, _ := do("HEAD", path, ""); status != 200 {
			t.Errorf("%s: %d", path, status)
		}
	}
	if s.backups > 0 || s.list != nil || s.watchers.Load() > 0 {
		t.Errorf("%d backups, list %v", s.backups, s.list)
	}
	if status, text := do("GET", "/v1/backup?withKey=true", ""); status != 200 || text != "PK" || s.backups != 1 || !s.key {
		t.Errorf("%d %q, %d backups, with key: %t", status, text, s.backups, s.key)
	}
}

// TestDocument: what the OpenAPI document says of the form of streams is what comes.
func TestDocument(t *testing.T) {
	s := &service{all: 2}
	do := served(t, s)
	status, text := do("GET", "/v1/openapi.json", "")
	var doc struct {
		Paths map[string]map[string]struct {
			Produces  []string
			Responses map[string]struct {
				Schema struct {
					Type, Format string
					Properties   map[string]any
				}
			}
		}
		Definitions map[string]any
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil || status != 200 {
		t.Fatal(status, err)
	}
	if !strings.Contains(text, `"securityDefinitions"`) {
		t.Error("nothing says how a caller is known")
	}
	if strings.Contains(text, "Stream result") || strings.Contains(text, "streaming responses") {
		t.Error("the gateway's form of streams is described")
	}
	for _, ref := range regexp.MustCompile(`#/definitions/(\w+)`).FindAllStringSubmatch(text, -1) {
		if doc.Definitions[ref[1]] == nil {
			t.Errorf("nothing is defined as %s", ref[1])
		}
	}
	for path, want := range map[string]string{"/v1/watch": events, "/v1/backup": archive, "/v1/requests": "application/json " + ndjson, "/v1/browse": "application/json " + ndjson} {
		if got := strings.Join(doc.Paths[path]["get"].Produces, " "); got != want {
			t.Errorf("%s produces %q", path, got)
		}
	}
	_, text = do("GET", "/v1/requests", "")
	var list map[string]any
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 1 {
		t.Fatal(text, err)
	}
	for name := range list {
		if doc.Paths["/v1/requests"]["get"].Responses["200"].Schema.Properties[name] == nil {
			t.Errorf("the answer has %q, the document has not", name)
		}
	}
	_, text = do("GET", "/v1/objects/rule/x", "")
	var problem map[string]any
	if err := json.Unmarshal([]byte(text), &problem); err != nil {
		t.Fatal(text, err)
	}
	said, _ := doc.Definitions["Problem"].(map[string]any)["properties"].(map[string]any)
	for name := range problem {
		if said[name] == nil {
			t.Errorf("an error has %q, the document has not", name)
		}
	}
	if len(said) != len(problem) {
		t.Errorf("%v is described, %v is sent", said, problem)
	}
}
