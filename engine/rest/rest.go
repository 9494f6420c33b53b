// Package rest is the twin of the admin service in HTTP and JSON: spec/admin.md. The
// paths of single answers are those of the annotations in admin.proto, by grpc-gateway;
// streams have a form of their own here, that programs without gRPC can read.
package rest

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// marshal is how messages are written: as the command line writes them, 64-bit numbers as
// texts, with what is not set, but for messages.
var marshal = protojson.MarshalOptions{EmitDefaultValues: true}

// Prefix is what all paths begin with.
const Prefix = "/v1/"

// Options tune a twin. The zero values are the defaults.
type Options struct {
	Heartbeat time.Duration // of a stream of events on which nothing happens; default 15 s
	Slow      time.Duration // how long a client may take for an event; default 10 s
	Streams   int           // of events, at a time; default 256
	Each      int           // of those, of one caller; default 32
}

// Mount puts the twin into a server. Calls go to client, with the context of the request,
// in which is who calls.
func Mount(s *httpd.Server, client adminpb.AdminClient, o Options) error {
	if o.Heartbeat == 0 {
		o.Heartbeat = 15 * time.Second
	}
	if o.Slow == 0 {
		o.Slow = 10 * time.Second
	}
	if o.Streams == 0 {
		o.Streams = 256
	}
	if o.Each == 0 {
		o.Each = 32
	}
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{MarshalOptions: marshal}),
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithMetadata(conditions), runtime.WithForwardResponseOption(etag),
		runtime.WithErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
			writeError(w, err)
		}),
		runtime.WithRoutingErrorHandler(routing),
	)
	if err := adminpb.RegisterAdminHandlerClient(context.Background(), mux, client); err != nil {
		return fault.Wrap("make REST twin", "", err)
	}
	t := &twin{client: client, o: o, watching: map[string]int{}}
	calls := callsOf(adminpb.File_admin_proto.Services().ByName("Admin"))
	doc, err := document()
	if err != nil {
		return err
	}
	mount := func(pattern string, h http.Handler, scope access.Scope) {
		s.Mount(pattern, conditional{strict{h, calls}}, scope)
	}
	mount(Prefix, httpd.Patient(mux), access.Any) // the service asks each call's scope
	mount("GET /v1/requests", streamed("application/json", t.list), access.Read)
	mount("GET /v1/watch", streamed(events, t.watch), access.Read)
	mount("GET /v1/browse", streamed("application/json", t.browse), access.Operate)
	mount("POST /v1/check", unhurried(t.check), access.Operate)
	mount("GET /v1/backup", streamed(archive, t.backup), access.Administer)
	s.Mount("GET /v1/openapi.json", openAPI(doc), access.Any)
	return nil
}

// streamed is a handler of GET that does nothing for HEAD: nobody would take what it makes.
func streamed(form string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Type", form)
			return
		}
		unhurried(h)(w, r)
	}
}

// unhurried is a handler that writes with twin.write: the service may be long between the pieces.
func unhurried(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if httpd.Unhurried(w) == nil { // or there is no connection any more
			h(w, r)
		}
	}
}

// conditions are those that the service carries out.
func conditions(_ context.Context, r *http.Request) metadata.MD {
	if r.Method == http.MethodPut && r.Header.Get("If-None-Match") != "" { // "*", or it would have been refused
		return metadata.Pairs(admin.IfNone, "*")
	}
	if tag := r.Header.Get("If-Match"); tag != "" {
		return metadata.Pairs(admin.IfMatch, tag)
	}
	return nil
}

func etag(_ context.Context, w http.ResponseWriter, m proto.Message) error {
	if o, ok := m.(*adminpb.Object); ok && o.GetRevision() > 0 {
		tag := strconv.FormatUint(o.GetRevision(), 10)
		if o.GetHidden() { // another text than that of who sees all
			tag += "-hidden"
		}
		w.Header().Set("ETag", `"`+tag+`"`)
	}
	return nil
}

// routing answers requests that no path or method fits.
func routing(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
	if code == http.StatusMethodNotAllowed {
		httpd.WriteError(w, fault.New("find call", fault.NotFound, "%s cannot be asked with %s: GET /v1/openapi.json has what can", r.URL.Path, r.Method))
		return
	}
	httpd.WriteError(w, fault.New("find call", fault.NotFound, "there is no %s: GET /v1/openapi.json has what there is", r.URL.Path))
}

func writeError(w http.ResponseWriter, err error) { httpd.WriteError(w, faultOf(err)) }

// faultOf is the error behind a status of the service, or of the gateway, which has codes
// only.
func faultOf(err error) error {
	if st, ok := status.FromError(err); ok && len(st.Details()) == 0 {
		switch st.Code() {
		case codes.InvalidArgument:
			return fault.New("read request", fault.Invalid, "%s", st.Message())
		case codes.NotFound:
			return fault.New("find call", fault.NotFound, "%s", st.Message())
		}
	}
	return admin.FromStatus(err)
}
