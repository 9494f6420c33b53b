package node_test

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	v1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/engine/lifecycle"
)

// receiver is an OTLP collector that keeps what it is told.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans map[string]*span // by id
	twice int
}

// span is one, and the node that has told it.
type span struct {
	*v1.Span
	node string
}

func (r *receiver) Export(_ context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range in.GetResourceSpans() {
		node := ""
		for _, a := range rs.GetResource().GetAttributes() {
			if a.GetKey() == "service.instance.id" {
				node = a.GetValue().GetStringValue()
			}
		}
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				id := hex.EncodeToString(s.GetSpanId())
				if r.spans[id] != nil {
					r.twice++
				}
				r.spans[id] = &span{s, node}
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// ServeHTTP takes spans over http/protobuf: https://opentelemetry.io/docs/specs/otlp/#otlphttp.
func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if q.Method != http.MethodPost || q.URL.Path != "/v1/traces" || q.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, "no spans in protobuf are sent here", http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(q.Body)
	in := &collector.ExportTraceServiceRequest{}
	if err := errors.Join(err, proto.Unmarshal(body, in)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out, err := r.Export(q.Context(), in)
	if err == nil {
		body, err = proto.Marshal(out)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(body)
}

// receive starts a collector that takes the protocol, and no other, and has the environment
// name both. An empty protocol is the default one, http/protobuf.
func receive(t *testing.T, protocol string) *receiver {
	t.Helper()
	r := &receiver{spans: map[string]*span{}}
	endpoint := ""
	if protocol == "grpc" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		collector.RegisterTraceServiceServer(s, r)
		served := make(chan struct{})
		go func() { defer close(served); _ = s.Serve(l) }()
		t.Cleanup(func() { s.Stop(); <-served })
		endpoint = "http://" + l.Addr().String()
	} else {
		s := httptest.NewServer(r)
		t.Cleanup(s.Close)
		endpoint = s.URL
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
	return r
}

// path is a span's name and node, and those of the spans above it, from the outside in.
func (r *receiver) path(t *testing.T, s *span) string {
	name := s.node + ": " + s.GetName()
	if len(s.GetParentSpanId()) == 0 {
		return name
	}
	above := r.spans[hex.EncodeToString(s.GetParentSpanId())]
	if above == nil {
		t.Errorf("%s: nobody has told the span above it", name)
		return name
	}
	return r.path(t, above) + " > " + name
}

// paths are those of all spans, of which there is one trace.
func (r *receiver) paths(t *testing.T) map[string]int {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	all, trace := map[string]int{}, ""
	for _, s := range r.spans {
		id := hex.EncodeToString(s.GetTraceId())
		if trace == "" {
			trace = id
		}
		if id != trace {
			t.Errorf("%s is of another trace", s.GetName())
		}
		all[r.path(t, s)]++
	}
	if r.twice > 0 {
		t.Errorf("%d spans were told twice", r.twice)
	}
	return all
}

const traced = `
[[rule]]
name = "traced"
direction = "send"
partners = ["*"]
root = "%ROOT%"
retry = { delay = "1s", attempts = 50 }
[rule.sender]
pre = [ { task = "log", text = "before" } ]
[rule.receiver]
post = [ { task = "log", text = "after" } ]
`

// TestTrace: a collector sees one trace over both nodes, each span below what has caused it,
// by each protocol.
func TestTrace(t *testing.T) {
	for name, protocol := range map[string]string{"grpc": "grpc", "http": "http/protobuf", "default": ""} {
		t.Run(name, func(t *testing.T) { testTrace(t, receive(t, protocol)) })
	}
}

func testTrace(t *testing.T, r *receiver) {
	a, b := newHost(t, "a"), newHost(t, "b")
	a.start(a.config(b.partner() + strings.ReplaceAll(traced, "%ROOT%", a.dir+"/files")))
	b.start(b.config(a.partner() + strings.ReplaceAll(traced, "%ROOT%", b.dir+"/files")))
	a.write("x", strings.Repeat("x", 3<<20))
	ref := a.submit("b", "traced", "x", "x2")
	a.done(ref)
	ref.Role = lifecycle.Requested
	b.done(ref)
	a.end()
	b.end()
	got := r.paths(t)
	for _, want := range []string{
		"a: request",
		"b: request",
		"a: request > a: attempt > a: step NOTASK > a: call prepare > b: serve",
		"a: request > a: attempt > a: step PRETASK > a: task log",
		"a: request > a: attempt > a: step TRANSFERTASK > a: transfer > b: serve > b: step TRANSFERTASK > b: transfer",
		"a: request > a: attempt > a: step TRANSFERTASK > a: transfer > b: serve > b: step POSTTASK > b: task log",
		"a: request > a: attempt > a: step POSTTASK > a: call end request > b: serve",
	} {
		found := false
		for path := range got {
			found = found || path == want || strings.HasPrefix(want, "b: request") && strings.HasSuffix(path, " > "+want)
		}
		if !found {
			t.Errorf("there is no %s", want)
		}
	}
	if t.Failed() {
		for path := range got {
			t.Log(path)
		}
	}
}

// TestTraceGoesOn: a request that is carried on by another process is one trace still, and
// its span is told once, when it has ended.
func TestTraceGoesOn(t *testing.T) {
	r := receive(t, "grpc")
	a, b := newHost(t, "a"), newHost(t, "b")
	cfg := a.config(b.partner() + strings.ReplaceAll(traced, "%ROOT%", a.dir+"/files"))
	a.start(cfg)
	a.write("x", "from a")
	ref := a.submit("b", "traced", "x", "x2")
	a.end()
	b.start(b.config(a.partner() + strings.ReplaceAll(traced, "%ROOT%", b.dir+"/files")))
	a.start(cfg)
	a.done(ref)
	a.end()
	b.end()
	got := r.paths(t)
	if got["a: request"] != 1 || got["a: request > a: attempt"] == 0 {
		t.Errorf("%v", got)
	}
}

// TestNoCollector: a collector that says nothing, and one that is not there, change nothing.
func TestNoCollector(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, endpoint := range map[string]string{"silent": l.Addr().String(), "absent": "127.0.0.1:1"} {
		for _, protocol := range []string{"grpc", "http/protobuf"} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+endpoint)
				t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
				t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16") // most of it is dropped
				t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
				a, b := newHost(t, "a"), newHost(t, "b")
				a.start(a.config(b.partner()))
				b.start(b.config(a.partner()))
				a.write("x", "from a")
				for range 20 {
					a.done(a.submit("b", "push", "x", "x2"))
				}
				if err := a.end(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestTraceOff: without an endpoint, or with OTEL_SDK_DISABLED, records have no trace.
func TestTraceOff(t *testing.T) {
	for name, value := range map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "", "OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "none"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			t.Setenv(name, value)
			a := newHost(t, "a")
			a.start(a.config(""))
			a.write("x", "own")
			ref := a.submit("a", "push", "x", "x2")
			a.done(ref)
			if r, err := a.node.Engine().Get(context.Background(), ref); err != nil || r.Trace != "" {
				t.Errorf("%v, %q", err, r.Trace)
			}
		})
	}
}
