package trace

import (
	"context"
	"encoding/hex"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	api "go.opentelemetry.io/otel/trace"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
)

var _ engine.Observer = (*Tracer)(nil)

// Trace implements engine.Observer: it chooses the ids of the span of a request, which is
// told when the request has ended, perhaps by another process. Behind the traceparent
// stands the id of the span above it.
func (t *Tracer) Trace(parent string) string {
	ctx := context.Background()
	above, has := spanOf(parent)
	if has {
		ctx = api.ContextWithRemoteSpanContext(ctx, above)
	}
	_, span := t.tracer.Start(ctx, "request") // for its ids, and the sampler's word; it is not told
	trace := traceparent(span.SpanContext())
	if has {
		trace += " " + above.SpanID().String()
	}
	return trace
}

// Begin implements engine.Observer.
func (t *Tracer) Begin(r *lifecycle.Record, kind engine.ActKind, name, parent string) engine.Act {
	above, ok := spanOf(parent)
	if !ok || !above.IsSampled() {
		return act{trace: cut(parent)}
	}
	is := api.SpanKindInternal
	title := kind.String()
	switch {
	case kind == engine.ActAttempt && r.Role == lifecycle.Requested:
		title, is = "serve", api.SpanKindServer
	case kind == engine.ActCall || kind == engine.ActBytes && r.Role == lifecycle.Requester:
		is = api.SpanKindClient
	}
	if name != "" {
		title += " " + name
	}
	_, span := t.tracer.Start(api.ContextWithRemoteSpanContext(context.Background(), above), title, api.WithSpanKind(is), api.WithAttributes(about(r)...))
	return act{span: span, trace: traceparent(span.SpanContext())}
}

// Wasted implements engine.Observer.
func (t *Tracer) Wasted(*lifecycle.Record, int64) {}

// Committed is for store.Seen: a request that has ended here is told as one span, from its
// registration on. One that was retried and has ended again is a span below that.
func (t *Tracer) Committed(r *lifecycle.Record, events []lifecycle.Event, _ bool, _ time.Duration) {
	if !r.State.Final() || r.Trace == "" {
		return
	}
	own, ok := spanOf(r.Trace)
	if !ok || !own.IsSampled() {
		return
	}
	ctx, began := context.Background(), r.Registered
	if r.Round > 0 {
		ctx = api.ContextWithRemoteSpanContext(ctx, own)
		began = r.Changed
	} else {
		if above, err := api.SpanIDFromHex(behind(r.Trace)); err == nil {
			ctx = api.ContextWithRemoteSpanContext(ctx, own.WithSpanID(above))
		}
		ctx = context.WithValue(ctx, wanted{}, own)
	}
	_, span := t.tracer.Start(ctx, "request", api.WithTimestamp(began), api.WithAttributes(about(r)...),
		api.WithAttributes(attribute.Int64("pannier.size", r.Size), attribute.Int("pannier.attempts", int(r.Attempt)), attribute.Int("pannier.round", int(r.Round)), attribute.String("pannier.state", r.State.String())))
	if r.State == lifecycle.InError {
		span.SetStatus(codes.Error, r.Failure.Kind.String())
	}
	span.End(api.WithTimestamp(r.Changed))
}

// about is what every span says of its request. No file's name is in it.
func about(r *lifecycle.Record) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("pannier.id", r.Key.ID.String()), attribute.String("pannier.requester", r.Key.Requester), attribute.String("pannier.partner", r.Spec.Partner),
		attribute.String("pannier.rule", r.Spec.Rule), attribute.String("pannier.role", r.Role.String()), attribute.String("pannier.side", r.Side.String()),
		attribute.Int("pannier.attempt", int(r.Attempt)),
	}
}

// act is a span that is under way, or only its place.
type act struct {
	span  api.Span // nil: it is not told
	trace string
}

func (a act) Trace() string { return a.trace }

func (a act) Moved(bytes int64) {}

func (a act) Held(time.Duration) {}

func (a act) End(err error) {
	if a.span == nil {
		return
	}
	if err != nil {
		a.span.SetStatus(codes.Error, fault.KindOf(err).String()) // the words may name files
	}
	a.span.End()
}

// traceparent is a span's place, as W3C Trace Context writes it.
func traceparent(c api.SpanContext) string {
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + hex.EncodeToString([]byte{byte(c.TraceFlags() & api.FlagsSampled)})
}

// cut is the traceparent of a record's Trace; behind, what stands behind it.
func cut(trace string) string {
	head, _, _ := strings.Cut(trace, " ")
	return head
}

func behind(trace string) string {
	_, tail, _ := strings.Cut(trace, " ")
	return tail
}

// spanOf is the span that a traceparent, or a record's Trace, names; false: it is none.
func spanOf(trace string) (api.SpanContext, bool) {
	parts := strings.Split(cut(trace), "-")
	if len(parts) != 4 || parts[0] != "00" {
		return api.SpanContext{}, false
	}
	id, err := api.TraceIDFromHex(parts[1])
	if err != nil {
		return api.SpanContext{}, false
	}
	span, err := api.SpanIDFromHex(parts[2])
	if err != nil {
		return api.SpanContext{}, false
	}
	flags, err := hex.DecodeString(parts[3])
	if err != nil || len(flags) != 1 {
		return api.SpanContext{}, false
	}
	return api.NewSpanContext(api.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: api.TraceFlags(flags[0]), Remote: true}), true
}
