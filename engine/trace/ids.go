package trace

import (
	"context"
	"encoding/binary"
	"math/rand/v2"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"
)

// wanted is the key of the api.SpanContext whose ids the next span is to have.
type wanted struct{}

// ids makes random ids, or has those that are wanted.
type ids struct{}

var _ sdk.IDGenerator = ids{}

func (ids) NewIDs(ctx context.Context) (t api.TraceID, s api.SpanID) {
	if w, ok := ctx.Value(wanted{}).(api.SpanContext); ok {
		return w.TraceID(), w.SpanID()
	}
	for !t.IsValid() {
		binary.LittleEndian.PutUint64(t[:8], rand.Uint64())
		binary.LittleEndian.PutUint64(t[8:], rand.Uint64())
	}
	return t, ids{}.NewSpanID(ctx, t)
}

func (ids) NewSpanID(ctx context.Context, _ api.TraceID) (s api.SpanID) {
	if w, ok := ctx.Value(wanted{}).(api.SpanContext); ok {
		return w.SpanID()
	}
	for !s.IsValid() {
		binary.LittleEndian.PutUint64(s[:], rand.Uint64())
	}
	return s
}
