package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

const ndjson = "application/x-ndjson"

type twin struct {
	client adminpb.AdminClient
	o      Options

	mu       sync.Mutex
	watching map[string]int // streams of events, by caller
	all      int
}

// query reads the parameters of a URL, which strict has looked at, into a message.
func query(r *http.Request, m proto.Message) error {
	if err := r.ParseForm(); err != nil {
		return fault.New("read query", fault.Invalid, "%v", err)
	}
	if err := runtime.PopulateQueryParameters(m, r.Form, utilities.NewDoubleArray(nil)); err != nil {
		return fault.New("read query", fault.Invalid, "%v", err)
	}
	return nil
}

func (t *twin) list(w http.ResponseWriter, r *http.Request) {
	in := &adminpb.ListRequest{}
	if err := query(r, in); err != nil {
		httpd.WriteError(w, err)
		return
	}
	s, err := t.client.List(r.Context(), in)
	answer(t, w, r, s, err, "requests")
}

func (t *twin) browse(w http.ResponseWriter, r *http.Request) {
	in := &adminpb.BrowseRequest{}
	if err := query(r, in); err != nil {
		httpd.WriteError(w, err)
		return
	}
	s, err := t.client.Browse(r.Context(), in)
	answer(t, w, r, s, err, "entries")
}

func (t *twin) check(w http.ResponseWriter, r *http.Request) {
	in := &adminpb.CheckRequest{}
	body, err := io.ReadAll(r.Body)
	if err == nil && len(bytes.TrimSpace(body)) > 0 {
		err = protojson.Unmarshal(body, in)
	}
	if err != nil {
		httpd.WriteError(w, fault.New("read request", fault.Invalid, "%v", err))
		return
	}
	s, err := t.client.Check(r.Context(), in)
	answer(t, w, r, s, err, "replies")
}

// backup is what the node remembers. One that breaks off breaks the connection.
func (t *twin) backup(w http.ResponseWriter, r *http.Request) {
	in := &adminpb.BackupRequest{}
	if err := query(r, in); err != nil {
		httpd.WriteError(w, err)
		return
	}
	s, err := t.client.Backup(r.Context(), in)
	begun := false
	for err == nil {
		var c *adminpb.BackupChunk
		if c, err = s.Recv(); err != nil {
			break
		}
		if !begun {
			begun = true
			w.Header().Set("Content-Type", archive)
			w.Header().Set("Content-Disposition", `attachment; filename="pannier-backup.zip"`)
		}
		if err := t.write(w, c.GetData()); err != nil {
			return
		}
	}
	switch {
	case errors.Is(err, io.EOF):
	case !begun:
		writeError(w, err)
	default:
		panic(http.ErrAbortHandler) // so that nobody takes it for whole
	}
}

// write writes a piece of an answer, or gives the client up.
func (t *twin) write(w http.ResponseWriter, data []byte) error {
	return httpd.Within(w, t.o.Slow, func() error { _, err := w.Write(data); return err })
}

// answer writes a stream as one JSON object with a list of that name, or, if that was
// asked for, as lines of JSON. An error after the first message is the field "problem" of
// the object, or a line with "problem".
func answer[M any, P interface {
	*M
	proto.Message
}](t *twin, w http.ResponseWriter, r *http.Request, s grpc.ServerStreamingClient[M], err error, name string) {
	lines := strings.Contains(r.Header.Get("Accept"), ndjson)
	var first *M
	if err == nil {
		first, err = s.Recv()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		writeError(w, err)
		return
	}
	before, between, after := `{"`+name+`":[`, ",\n", "]"
	w.Header().Set("Content-Type", "application/json")
	if lines {
		before, between, after = "", "\n", "\n"
		w.Header().Set("Content-Type", ndjson)
	}
	if err := t.write(w, []byte(before)); err != nil {
		return
	}
	some := false
	for m := first; err == nil; m, err = s.Recv() {
		data, merr := marshal.Marshal(P(m))
		if merr != nil {
			err = merr
			break
		}
		if some {
			data = append([]byte(between), data...)
		}
		some = true
		if err := t.write(w, data); err != nil {
			return // and the call ends with the request
		}
	}
	var last bytes.Buffer
	if some || !lines {
		last.WriteString(after)
	}
	if !errors.Is(err, io.EOF) {
		form := ",\"problem\":%s"
		if lines {
			form = "{\"problem\":%s}\n"
		}
		fmt.Fprintf(&last, form, quoted(fault.Plain(faultOf(err))))
	}
	if !lines {
		last.WriteString("}\n")
	}
	_ = t.write(w, last.Bytes()) // it is the last word in any case
}

// quoted is a text in JSON.
func quoted(text string) []byte {
	b, _ := json.Marshal(text) // of a text it cannot fail
	return b
}

// enter takes a place among the streams of events, which leave gives back.
func (t *twin) enter(c access.Caller) (leave func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all >= t.o.Streams || t.watching[c.Name] >= t.o.Each {
		return nil, fault.New("watch", fault.Overloaded, "%s watches %d times, %d are watched in all: end one", c.Name, t.watching[c.Name], t.all)
	}
	t.all++
	t.watching[c.Name]++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.all--
		if t.watching[c.Name]--; t.watching[c.Name] == 0 {
			delete(t.watching, c.Name)
		}
	}, nil
}

// watch tells changes as server-sent events. The id of one is when the request was
// changed: who comes back with the last it has heard is told, too, what has ended since.
// The service drops changes that the client is too slow for (Change.lost); a client that
// takes nothing at all for a while is let go.
func (t *twin) watch(w http.ResponseWriter, r *http.Request) {
	leave, err := t.enter(httpd.CallerOf(r.Context()))
	if err != nil {
		httpd.WriteError(w, err)
		return
	}
	defer leave()
	in := &adminpb.WatchRequest{}
	if err = r.ParseForm(); err == nil {
		for _, id := range r.Form["refs.id"] { // of a list the gateway reads nothing
			in.Refs = append(in.Refs, &adminpb.Ref{Id: id})
		}
		r.Form.Del("refs.id")
	}
	if err := query(r, in); err != nil {
		httpd.WriteError(w, err)
		return
	}
	e := &told{t: t, w: w, flush: http.NewResponseController(w)}
	if text := r.Header.Get("Last-Event-ID"); text != "" {
		if e.id, err = strconv.ParseInt(text, 10, 64); err != nil {
			httpd.WriteError(w, fault.New("read Last-Event-ID", fault.Invalid, "%q is no id of an event", text))
			return
		}
	}
	s, err := t.client.Watch(r.Context(), in)
	if err != nil {
		writeError(w, err)
		return
	}
	changes := make(chan *adminpb.Change)
	over := make(chan error, 1)
	go func() {
		for {
			c, err := s.Recv()
			if err != nil {
				over <- err
				return
			}
			select {
			case changes <- c:
			case <-r.Context().Done():
				over <- r.Context().Err()
				return
			}
		}
	}()
	w.Header().Set("Content-Type", events)
	w.Header().Set("X-Accel-Buffering", "no")
	if e.send([]byte(": begun\n\n")) != nil {
		return
	}
	if err := e.missed(r, in, s); err != nil {
		e.end(err)
		return
	}
	beat := time.NewTicker(t.o.Heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-beat.C:
			err = e.send([]byte(": heartbeat\n\n"))
		case c := <-changes:
			err = e.change(c)
		case <-r.Context().Done():
			return
		case err = <-over:
		}
		if err != nil {
			e.end(err)
			return
		}
	}
}

// told is what one client hears.
type told struct {
	t     *twin
	w     http.ResponseWriter
	flush *http.ResponseController
	id    int64 // of the last: microseconds since 1970
}

// send writes an event, or gives the client up.
func (e *told) send(b []byte) error {
	return httpd.Within(e.w, e.t.o.Slow, func() error {
		if _, err := e.w.Write(b); err != nil {
			return err
		}
		return e.flush.Flush()
	})
}

func (e *told) change(c *adminpb.Change) error {
	e.id = max(e.id, idOf(c))
	return e.event(c)
}

func idOf(c *adminpb.Change) int64 { return c.GetRequest().GetChanged().AsTime().UnixMicro() }

func (e *told) event(c *adminpb.Change) error {
	data, err := marshal.Marshal(c)
	if err != nil {
		return err
	}
	return e.send(fmt.Appendf(nil, "id: %d\nevent: change\ndata: %s\n\n", e.id, data))
}

// missed tells what has ended since the last event that the client has heard. The last of it comes first:
// so its id stays until all of it is told, and whoever breaks off before that is told it again.
func (e *told) missed(r *http.Request, in *adminpb.WatchRequest, watch adminpb.Admin_WatchClient) error {
	if e.id == 0 || len(in.GetRefs()) > 0 {
		return nil // those that were named are told in any case
	}
	if _, err := watch.Header(); err != nil { // what ends from now on is a change
		return err
	}
	q := &adminpb.ListRequest{}
	if in.GetQuery() != nil {
		proto.Merge(q, in.GetQuery())
	}
	q.Since, q.Limit = timestamppb.New(time.UnixMicro(e.id)), 0
	q.States = []adminpb.Request_State{adminpb.Request_DONE, adminpb.Request_INERROR}
	s, err := e.t.client.List(r.Context(), q)
	last := e.id
	for err == nil {
		var one *adminpb.Request
		if one, err = s.Recv(); err == nil {
			c := &adminpb.Change{Request: one}
			last = max(last, idOf(c))
			err = e.event(c)
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	e.id = last
	return nil
}

// end tells how a stream ended that the client has not. To a client that is let go it cannot.
func (e *told) end(err error) {
	text := "{}"
	if !errors.Is(err, io.EOF) {
		text = fmt.Sprintf(`{"error":%s}`, quoted(fault.Plain(faultOf(err))))
	}
	_ = e.send([]byte("event: end\ndata: " + text + "\n\n")) // it is the last word in any case
}
