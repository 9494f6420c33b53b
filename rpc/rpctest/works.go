package rpctest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// lane is a road that a pair has, with a size that takes it.
type lane struct {
	road sideeffect.Road
	size int
}

// lanes are all roads of the pair.
func (b *bench) lanes() []lane {
	all := []lane{{sideeffect.RoadInline, 1310}, {sideeffect.RoadStream, 300 << 10}}
	if !b.HTTP2 {
		all = append(all, lane{sideeffect.RoadSession, 300 << 10})
	}
	return all
}

// transfer is one call with one effect: the same two descriptors by what they
// do and by where they are.
type transfer struct {
	source, sink   *sideeffect.Descriptor
	client, server *sideeffect.Descriptor
}

// between makes the descriptors of a transfer, without quotas.
func between(dir sideeffect.Direction, road sideeffect.Road, from, to sideeffect.Identity) transfer {
	one := func(id sideeffect.Identity) *sideeffect.Descriptor {
		return &sideeffect.Descriptor{Direction: dir, Local: id, Quota: sideeffect.NoQuota}
	}
	x := transfer{source: one(from), sink: one(to)}
	x.client, x.server = x.source, x.sink
	if dir == sideeffect.ServerToClient {
		x.client, x.server = x.sink, x.source
	}
	x.client.Road = road
	return x
}

// move makes the call; the handler runs the effect.
func (b *bench) move(ctx context.Context, name string, x transfer) error {
	return b.call(ctx, name, runs(x.server, sideeffect.AwaitLocal), x.client)
}

// works checks that nothing that went before has broken the pair.
func (b *bench) works(ctx context.Context, t testing.TB) {
	t.Helper()
	for _, l := range b.lanes() {
		for _, dir := range directions() {
			var got bytes.Buffer
			want := Content(l.size, true)
			x := between(dir, l.road, sideeffect.Memory(want), sideeffect.Buffer(&got))
			if err := b.move(ctx, "works", x); err != nil || !bytes.Equal(got.Bytes(), want) {
				t.Fatalf("the next call (%v, %v): %v, %d bytes", l.road, dir, err, got.Len())
			}
		}
	}
}

func directions() []sideeffect.Direction {
	return []sideeffect.Direction{sideeffect.ClientToServer, sideeffect.ServerToClient}
}

// each runs f for every road and direction of a pair.
func (b *bench) each(t *testing.T, f func(t *testing.T, ctx context.Context, dir sideeffect.Direction, l lane)) {
	for _, l := range b.lanes() {
		for _, dir := range directions() {
			t.Run(l.road.String()+"/"+dir.String(), func(t *testing.T) { f(t, within(t), dir, l) })
		}
	}
	b.works(within(t), t)
}

// within bounds what hangs.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// typed checks that an error is a fault with an operation, and one of kinds;
// without kinds any.
func typed(t testing.TB, what string, err error, kinds ...fault.Kind) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Op == "" {
		t.Errorf("%s: %v (%T) is no fault", what, err, err)
		return
	}
	for _, k := range kinds {
		if f.Kind == k {
			return
		}
	}
	if len(kinds) > 0 {
		t.Errorf("%s: %v is %v, want %v", what, err, f.Kind, kinds)
	}
}

// endedByGRPC: the call was over before anybody said why; the status is gRPC's
// own, and the *fault.Error is in the descriptor.
func endedByGRPC(err error) bool {
	switch status.Code(err) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
		return true
	}
	return false
}

// failed checks both ends of a transfer that must not be a success.
func (x transfer) failed(t testing.TB, err error, kinds ...fault.Kind) {
	t.Helper()
	if !endedByGRPC(err) {
		typed(t, "call", err, kinds...)
	}
	typed(t, "client", x.client.Err, kinds...)
	if x.sink.LocalStatus == sideeffect.Success || x.source.RemoteStatus == sideeffect.Success {
		t.Errorf("a failure is a success: source %+v, sink %+v", x.source.Result, x.sink.Result)
	}
}

// succeeded checks the client's end.
func (x transfer) succeeded(t testing.TB, err error, n int) {
	t.Helper()
	d := x.client
	if err != nil || d.LocalStatus != sideeffect.Success || d.RemoteStatus != sideeffect.Success || d.BytesTransferred != int64(n) || d.Err != nil {
		t.Errorf("error %v, result %+v, want %d bytes", err, d.Result, n)
	}
}
