package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/peerpb"
)

// The endpoints of a node, of check 31: every method of its services, and every route of its HTTP server. All of them
// are listed by the service descriptors and the server itself, so that none is forgotten.

// openRoutes are what whoever asks may have, and nothing else.
var openRoutes = []string{"GET /login", "GET /assets/{name}", "GET /livez", "GET /readyz"}

// endpoints is a node whose endpoints are tried.
type endpoints struct {
	*surfaceRun
	peer, web string // addresses: host and port of web
	client    *http.Client
	token     string
	methods   int
	routes    int
}

func (r *surfaceRun) endpoints(ctx context.Context, dir string, good, other *carrier.Identity) (_ *endpoints, err error) {
	path := filepath.Join(dir, "pannier.toml")
	text := fmt.Sprintf("[node]\nname = \"a\"\nstate = %q\nlisten = [\"tls://127.0.0.1:0\"]\n[http]\nlisten = [\"tls://127.0.0.1:0\"]\n[[partner]]\nname = \"b\"\nkey = %q\n", filepath.Join(dir, "state"), good.Key())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, fault.Wrap("write configuration", path, err)
	}
	read := func() (*config.Config, error) { return config.Load(path) }
	cfg, err := read()
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fault.Wrap("make log", "", err)
	}
	defer log.Close()
	n, err := node.Open(ctx, cfg, node.Options{Output: log, Read: read})
	if err != nil {
		return nil, err
	}
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- n.Run(serving) }()
	defer func() {
		stop()
		if end := <-ended; err == nil {
			err = end
		}
	}()
	e := &endpoints{surfaceRun: r, peer: n.Addresses()[0], client: &http.Client{
		Transport:     &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	defer e.client.CloseIdleConnections()
	e.web = strings.TrimPrefix(n.HTTP().Addresses()[0], "tls://")
	if e.token, err = e.administers(ctx, cfg.Node.Admin); err != nil {
		return nil, err
	}
	e.peers(ctx, good, other)
	e.operators(ctx)
	for _, route := range n.HTTP().Routes() {
		e.route(ctx, route.Pattern)
	}
	return e, nil
}

// administers makes a token that may do everything, as a user of this host.
func (e *endpoints) administers(ctx context.Context, socket string) (string, error) {
	c, err := admin.Dial(socket)
	if err != nil {
		return "", err
	}
	defer c.Close()
	t, err := c.CreateToken(ctx, &adminpb.CreateTokenRequest{Name: "x", Scopes: []string{"administer"}})
	return t.GetText(), err
}

// methodsOf are the full names of a service's methods.
func methodsOf(d grpc.ServiceDesc) (all []string) {
	for _, m := range d.Methods {
		all = append(all, d.ServiceName+"/"+m.MethodName)
	}
	for _, m := range d.Streams {
		all = append(all, d.ServiceName+"/"+m.StreamName)
	}
	return all
}

// may notes whether somebody has reached what he may or may not.
func (r *surfaceRun) may(what, who string, reached, may bool) {
	r.tried++
	if reached && !may {
		r.open++
	}
	if reached != may {
		r.note.add("%s by %s: reached %v", what, who, reached)
	}
}

// peers calls what partners call, and at the same address what operators do.
func (e *endpoints) peers(ctx context.Context, good, other *carrier.Identity) {
	all := methodsOf(peerpb.Peer_ServiceDesc)
	for service, info := range e.server.GetServiceInfo() { // those that every server of package rpc has
		for _, m := range info.Methods {
			if strings.HasPrefix(service, "pannier.rpc.") {
				all = append(all, service+"/"+m.Name)
			}
		}
	}
	for _, path := range all {
		e.methods++
		for _, c := range []struct {
			who  string
			key  *carrier.Identity
			path string
			may  bool
		}{
			{"nobody", nil, "/" + path, false}, {"another key", other, "/" + path, false}, {"nobody, no slash", nil, path, false},
			{"another key, no slash", other, path, false}, {"the partner, no slash", good, path, false}, {"the partner", good, "/" + path, true},
		} {
			status, answered := called(ctx, e.peer, c.key, c.path)
			e.may(c.path, c.who, answered && status != unauthenticated && status != unimplemented, c.may)
		}
	}
	for _, path := range methodsOf(adminpb.Admin_ServiceDesc) {
		for who, key := range map[string]*carrier.Identity{"nobody": nil, "another key": other, "the partner": good} {
			status, answered := called(ctx, e.peer, key, "/"+path)
			e.may("/"+path+" where partners call", who, answered && status != unauthenticated && status != unimplemented, false)
		}
	}
}

// gRPC's statuses for who proves nothing, and for who may not.
const (
	unauthenticated = "16"
	forbidden       = "7"
)

// operators calls each method of the operators' service, in gRPC and as HTTP.
func (e *endpoints) operators(ctx context.Context) {
	methods := adminpb.File_admin_proto.Services().Get(0).Methods()
	if names := methodsOf(adminpb.Admin_ServiceDesc); len(names) != methods.Len() {
		e.note.add("%d methods in gRPC, %d in the descriptor", len(names), methods.Len())
	}
	for i := range methods.Len() {
		m := methods.Get(i)
		e.methods++
		path := "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
		verb, twin := twinOf(m)
		for _, c := range []struct {
			who, token string
			may        bool
		}{{"nobody", "", false}, {"a wrong token", e.token + "x", false}, {"an administrator", e.token, true}} {
			e.may(path, c.who, e.asks(ctx, "POST", path, c.token, "application/grpc", c.may), c.may)
			e.may(verb+" "+twin, c.who, e.asks(ctx, verb, twin, c.token, "application/json", c.may), c.may)
		}
	}
}

// twinOf is a method as it is in HTTP, of some object.
func twinOf(m protoreflect.MethodDescriptor) (verb, path string) {
	verb, path = routeOf(m)
	return verb, variable.ReplaceAllString(path, "abcdef")
}

// routeOf is a method as it is in HTTP, with the variables of its path.
func routeOf(m protoreflect.MethodDescriptor) (verb, path string) {
	rule, _ := proto.GetExtension(m.Options().(*descriptorpb.MethodOptions), annotations.E_Http).(*annotations.HttpRule)
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		verb, path = http.MethodGet, p.Get
	case *annotations.HttpRule_Post:
		verb, path = http.MethodPost, p.Post
	case *annotations.HttpRule_Put:
		verb, path = http.MethodPut, p.Put
	case *annotations.HttpRule_Delete:
		verb, path = http.MethodDelete, p.Delete
	}
	return verb, path
}

// variable is a part of a route's path that is any.
var variable = regexp.MustCompile(`\{[^}]*\}`)

// route asks for a route as nobody, and with a wrong token.
func (e *endpoints) route(ctx context.Context, pattern string) {
	e.routes++
	verb, path, ok := strings.Cut(pattern, " ")
	if !ok {
		verb, path = http.MethodGet, pattern
	}
	path = variable.ReplaceAllString(path, "abcdef")
	open := slices.Contains(openRoutes, pattern)
	e.may(pattern, "nobody", e.asks(ctx, verb, path, "", "", false), open)
	if !open {
		e.may(pattern, "a wrong token", e.asks(ctx, verb, path, e.token+"x", "", false), false)
	}
}

// How long an answer may take, until whoever waits for it is taken to be let in: a stream may have nothing to say.
const (
	askTime    = time.Second // of who may ask
	refuseTime = 20 * time.Second
)

// asks sends a request to the HTTP server and reports whether it was let in.
func (e *endpoints) asks(ctx context.Context, verb, path, token, kind string, may bool) bool {
	limit := refuseTime
	if may {
		limit = askTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	body := []byte("{}")
	if kind == "application/grpc" {
		body = make([]byte, 5) // one empty message
	}
	q, err := http.NewRequestWithContext(ctx, verb, "https://"+e.web+path, bytes.NewReader(body))
	if err != nil {
		e.note.add("%s %s: %v", verb, path, err)
		return false
	}
	if q.Header.Set("Te", "trailers"); kind != "" {
		q.Header.Set("Content-Type", kind)
	}
	if token != "" {
		q.Header.Set("Authorization", "Bearer "+token)
	}
	a, err := e.client.Do(q)
	if err != nil {
		return ctx.Err() != nil
	}
	defer a.Body.Close()
	_, _ = io.Copy(io.Discard, a.Body) // the status of a call in gRPC is behind it
	status := a.Header.Get("Grpc-Status") + a.Trailer.Get("Grpc-Status")
	switch {
	case a.StatusCode == http.StatusUnauthorized, a.StatusCode == http.StatusForbidden, status == unauthenticated, status == forbidden, status == unimplemented:
		return false
	case a.StatusCode == http.StatusSeeOther && strings.HasPrefix(a.Header.Get("Location"), "/login"):
		return false
	}
	return true
}
