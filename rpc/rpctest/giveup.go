package rpctest

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// stages of a transfer at which its client may give up.
var stages = [...]string{"before", "handler", "open", "middle", "sync", "deadline"}

// FaultGivenUp cancels the client's context at every stage, or lets its
// deadline pass: nothing is left, nothing is called a success, the pair works on.
func FaultGivenUp(t *testing.T, connect Connect) {
	b := connected(t, connect)
	b.each(t, func(t *testing.T, ctx context.Context, dir sideeffect.Direction, l lane) {
		for _, stage := range stages {
			b.giveUp(ctx, t, stage, dir, l)
		}
	})
}

func (b *bench) giveUp(ctx context.Context, t *testing.T, stage string, dir sideeffect.Direction, l lane) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newShelf(t, "")
	if stage == "before" {
		cancel()
	}
	disk := Disk{Fail: func(op string) error {
		if stage == "middle" && op == "write" || stage == "sync" && op == "sync" {
			cancel()
			return context.Canceled // the disk is as slow as it takes
		}
		return nil
	}}
	x := between(dir, l.road, sideeffect.Memory(Content(l.size, true)), sideeffect.FileOn(disk, s.root, "sink"))
	run := runs(x.server, sideeffect.AwaitLocal)
	h := func(ctx context.Context) error {
		switch stage {
		case "handler":
			cancel()
			<-ctx.Done()
		case "open":
			cancel()
		case "deadline":
			<-ctx.Done()
		}
		return run(ctx)
	}
	if stage == "deadline" {
		var done context.CancelFunc
		ctx, done = context.WithTimeout(ctx, 20*time.Millisecond)
		defer done()
	}
	err := b.call(ctx, "give up "+stage, h, x.client)
	if stage == "open" { // nobody waits: whichever comes first
		x.either(t, err, l.size)
		return
	}
	want := codes.Canceled
	if stage == "deadline" {
		want = codes.DeadlineExceeded
	}
	if status.Code(err) != want {
		t.Errorf("%s: call: %v, want %v", stage, err, want)
	}
	typed(t, stage, x.client.Err, fault.Canceled, fault.Deadline)
	if x.client.LocalStatus == sideeffect.Success && x.client.RemoteStatus == sideeffect.Success {
		t.Errorf("%s: result %+v", stage, x.client.Result)
	}
	if left := s.names(t); len(left) > 0 {
		t.Errorf("%s, %v, %v: left %q", stage, dir, l.road, left)
	}
}

// either is a whole success or a typed failure.
func (x transfer) either(t testing.TB, err error, n int) {
	t.Helper()
	if err == nil {
		x.succeeded(t, err, n)
		return
	}
	typed(t, "open", x.client.Err, fault.Canceled)
}

// FaultUnasked: a handler that never runs the effect.
func FaultUnasked(t *testing.T, connect Connect) {
	b := connected(t, connect)
	b.each(t, func(t *testing.T, ctx context.Context, dir sideeffect.Direction, l lane) {
		s := newShelf(t, "")
		x := between(dir, l.road, sideeffect.Memory(Content(l.size, true)), sideeffect.File(s.root, "sink"))
		if dir == sideeffect.ClientToServer {
			x.sink.Local = sideeffect.Memory(nil)
		}
		err := b.call(ctx, "unasked", func(context.Context) error { return nil }, x.client)
		x.failed(t, err, fault.NotStarted)
		if left := s.names(t); len(left) > 0 {
			t.Errorf("left %q", left)
		}
	})
}

// gate is a reader that waits, half way through, until it is opened.
type gate struct {
	first, rest io.Reader
	reached     func()
	open        chan struct{}
}

func newGate(content []byte, reached func()) *gate {
	half := len(content) / 2
	return &gate{
		first: bytes.NewReader(content[:half]), rest: bytes.NewReader(content[half:]),
		reached: sync.OnceFunc(reached), open: make(chan struct{}),
	}
}

func (g *gate) Read(p []byte) (int, error) {
	if n, err := g.first.Read(p); n > 0 || err != io.EOF {
		return n, err
	}
	g.reached()
	<-g.open
	return g.rest.Read(p)
}

// FaultDrained stops the server gracefully in the middle of a transfer: that
// one finishes, new calls are refused as not available.
func FaultDrained(t *testing.T, connect Connect) {
	for _, dir := range directions() {
		b, ctx := connected(t, connect), within(t)
		want, got := Content(1<<20, true), new(bytes.Buffer)
		reached := make(chan struct{})
		g := newGate(want, func() { close(reached) })
		x := between(dir, sideeffect.RoadAuto, sideeffect.Reader(g, -1), sideeffect.Buffer(got))
		moved, stopped := make(chan error, 1), make(chan error, 1)
		go func() { moved <- b.move(ctx, "drained", x) }()
		<-reached
		go func() { stopped <- b.Server.Shutdown(ctx) }()
		refusedSoon(t, ctx, b)
		close(g.open)
		x.succeeded(t, <-moved, len(want))
		if err := <-stopped; err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%v: shutdown: %v, %d bytes arrived", dir, err, got.Len())
		}
	}
}

// refusedSoon calls until the server takes nothing new.
func refusedSoon(t testing.TB, ctx context.Context, b *bench) {
	t.Helper()
	for {
		y := between(sideeffect.ClientToServer, sideeffect.RoadAuto, sideeffect.Memory(Content(100, true)), sideeffect.Buffer(new(bytes.Buffer)))
		err := b.move(ctx, "late", y)
		if err == nil {
			continue // Shutdown has not come that far
		}
		if status.Code(err) != codes.Unavailable {
			t.Errorf("a call after the end: %v", err)
		}
		typed(t, "late", y.client.Err, fault.Draining, fault.Lost)
		return
	}
}
