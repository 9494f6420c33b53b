package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// newBomb is a reader of n bytes that panics then.
func newBomb(n int) *bomb {
	b := &bomb{}
	b.Reset(content(n))
	return b
}

// Write makes it a writer that takes n bytes, or little more.
func (b *bomb) Write(p []byte) (int, error) {
	if b.Len() < len(p) {
		panic(errBomb)
	}
	_, err := b.Seek(int64(len(p)), io.SeekCurrent)
	return len(p), err
}

// trap is an identity that panics when it is opened.
type trap struct{ sideeffect.Identity }

func (trap) OpenSink(sideeffect.SinkSpec) (sideeffect.Sink, error) { panic(errBomb) }

// frail is a gate whose SetDeadline panics when it has ended the Read.
type frail struct{ *gate }

func (f frail) SetDeadline(t time.Time) error { _ = f.gate.SetDeadline(t); panic(errBomb) }

// panics is what f panics with.
func panics(t *testing.T, f func()) (p any) {
	t.Helper()
	over := make(chan struct{})
	go func() { // where a test cannot be ended by a panic
		defer close(over)
		defer func() { p = recover() }()
		f()
	}()
	<-over
	return p
}

// wantBomb checks a panic that came from a goroutine of the package's.
func wantBomb(t *testing.T, what string, p any) {
	t.Helper()
	err, _ := p.(error)
	var raised *sideeffect.Panic
	if !errors.Is(err, errBomb) || !errors.As(err, &raised) || raised.Value != errBomb || !strings.Contains(string(raised.Stack), "rpc_test") {
		t.Fatalf("%s: the call panics with %v", what, p)
	}
}

// TestPanicIsTheCallers: what a descriptor of the client's has of its own panics in the goroutine that has made the call,
// when that is over; the handler hears of it, and the connection, its session and the descriptor go on.
func TestPanicIsTheCallers(t *testing.T) {
	const n = 300 << 10
	for _, road := range []string{"tcp", "http2"} {
		p, ctx := start(t, road, setup{}), within(t)
		var heard error
		var serve func() *sideeffect.Descriptor
		p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
			r, err := run(serve, sideeffect.AwaitRemote)(ctx, i)
			heard = err
			return r, err
		}
		sink := func() *sideeffect.Descriptor { return up(sideeffect.Writer(io.Discard)) }
		source := func() *sideeffect.Descriptor { return down(sideeffect.Memory(content(n))) }
		pipe := func(d *sideeffect.Descriptor) *sideeffect.Descriptor { d.Kind = sideeffect.KindPipe; return d }
		reports := up(sideeffect.Memory(content(n)))
		reports.Progress = func(sideeffect.Progress) { panic(errBomb) }
		for what, c := range map[string]struct {
			d     *sideeffect.Descriptor
			serve func() *sideeffect.Descriptor
		}{
			"reader":   {up(sideeffect.Reader(newBomb(n), -1)), sink},
			"writer":   {down(sideeffect.Writer(newBomb(100))), source},
			"identity": {down(trap{sideeffect.Memory(nil)}), source},
			"progress": {reports, sink},
			"pipe": {pipe(up(sideeffect.Duplex(newBomb(n), io.Discard))), func() *sideeffect.Descriptor {
				return pipe(up(sideeffect.Duplex(strings.NewReader(""), io.Discard)))
			}},
		} {
			heard, serve = nil, c.serve
			wantBomb(t, what, panics(t, func() { _, _ = p.stub.Call(ctx, &storepb.Item{}, rpc.With(c.d)) }))
			if heard == nil || ctx.Err() != nil {
				t.Errorf("%s: the handler has heard %v, the test %v", what, heard, ctx.Err())
			}
			if c.d.LocalStatus != sideeffect.Failure || fault.KindOf(c.d.Err) != fault.Internal {
				t.Errorf("%s: %+v", what, c.d.Result)
			}
			serve = sink
			*c.d = *up(sideeffect.Memory(content(n)))
			if _, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(c.d)); err != nil {
				t.Fatalf("after %s: %v", what, err)
			}
		}
	}
}

// TestPanicInside: content inside a message is read and written by the caller's goroutine itself. What panics there
// leaves nothing of the call behind: what else it has opened is closed, and its session may go.
func TestPanicInside(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	p.store.call = run(func() *sideeffect.Descriptor { return down(sideeffect.Memory(content(100))) }, sideeffect.AwaitLocal)
	other := &closing{Identity: sideeffect.Memory(content(300 << 10))}
	for what, effects := range map[string][]*sideeffect.Descriptor{
		"reader": {up(other), up(sideeffect.Reader(newBomb(10), 100))},
		"writer": {down(sideeffect.Writer(newBomb(10))), up(other)},
	} {
		other.closed = 0
		p1 := panics(t, func() { _, _ = p.stub.Call(ctx, &storepb.Item{}, rpc.With(effects...)) })
		if err, _ := p1.(error); !errors.Is(err, errBomb) || other.closed != 1 {
			t.Fatalf("%s: panic %v, another source is closed %d times", what, p1, other.closed)
		}
	}
	if n := rpc.Uses(p.cc); n != 0 {
		t.Errorf("%d calls still use the session", n)
	}
	p.works(ctx)
}

// closing counts how often its sources are closed.
type closing struct {
	sideeffect.Identity
	closed int
}

func (c *closing) OpenSource(s sideeffect.SourceSpec) (sideeffect.Source, error) {
	src, err := c.Identity.OpenSource(s)
	return closingSource{src, c}, err
}

type closingSource struct {
	sideeffect.Source
	of *closing
}

func (c closingSource) Close() error { c.of.closed++; return c.Source.Close() }

// TestPanicInStream: the method that finds the stream's end raises it, also when the stream was given up.
func TestPanicInStream(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	p.store.gather = func(st grpc.ClientStreamingServer[storepb.Item, storepb.Receipt]) error {
		_, err := run(func() *sideeffect.Descriptor { return up(sideeffect.Writer(io.Discard)) }, sideeffect.AwaitRemote)(st.Context(), &storepb.Item{})
		return err
	}
	st := must(p.stub.Gather(ctx, rpc.With(up(sideeffect.Reader(newBomb(300<<10), -1)))))
	wantBomb(t, "stream", panics(t, func() { _, _ = st.CloseAndRecv() }))

	given, cancel := context.WithCancel(ctx)
	g := newGate(nil)
	d := up(sideeffect.Reader(frail{g}, -1))
	st = must(p.stub.Gather(given, rpc.With(d)))
	<-g.entered
	cancel()
	wantBomb(t, "given up", panics(t, func() { _, _ = st.CloseAndRecv() }))
	if p := panics(t, func() { _, _ = st.CloseAndRecv() }); p != nil {
		t.Errorf("it panics once more: %v", p)
	}
	p.works(ctx)
}

// TestPanicOfOne: a panic of a fan-out's source, or of its Stop, is its caller's; no target waits for what will not come.
func TestPanicOfOne(t *testing.T) {
	ctx := within(t)
	p := start(t, "tcp", setup{})
	p.store.call = run(func() *sideeffect.Descriptor { return up(sideeffect.Writer(io.Discard)) }, sideeffect.AwaitRemote)
	told := 0 // only one at a time is
	for what, f := range map[string]rpc.Fanout{
		"source": {Source: sideeffect.Reader(newBomb(300<<10), -1)},
		"stop": {Source: sideeffect.Memory(content(10)), Stop: func(rpc.TargetResult) bool {
			if told++; told > 1 {
				panic("told once more")
			}
			panic(errBomb)
		}},
	} {
		f.Method, f.Request = storepb.Store_Call_FullMethodName, &storepb.Item{}
		var targets []rpc.Target
		for range 3 {
			targets = append(targets, rpc.Target{Conn: p.cc, Descriptor: up(nil), Reply: &storepb.Receipt{}})
		}
		wantBomb(t, what, panics(t, func() { _, _ = f.Call(ctx, targets) }))
	}
	if ctx.Err() != nil || told != 1 {
		t.Errorf("it waits: %v; Stop was called %d times", ctx.Err(), told)
	}
	if _, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(up(sideeffect.Memory(content(10))))); err != nil { // its handler stays: those of calls that were cancelled may just begin
		t.Errorf("the next call: %v", err)
	}
}

// TestGoexitOfAReader: a reader that ends its goroutine, as t.Fatal does, fails its effect and the call.
func TestGoexitOfAReader(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	p.store.call = run(func() *sideeffect.Descriptor { return up(sideeffect.Buffer(new(bytes.Buffer))) }, sideeffect.AwaitRemote)
	d := up(sideeffect.Reader(quitter{}, -1))
	_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
	wantKind(t, err, fault.Internal)
	if d.LocalStatus != sideeffect.Failure {
		t.Errorf("%+v", d.Result)
	}
	p.works(ctx)
}

// quitter is a reader that ends the goroutine.
type quitter struct{}

func (quitter) Read([]byte) (int, error) { runtime.Goexit(); return 0, nil }

// TestInterruptionIsOver: when a call returns nobody interrupts its reader any more, which may be used for something else.
func TestInterruptionIsOver(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	p.store.call = run(func() *sideeffect.Descriptor { return up(sideeffect.Writer(io.Discard)) }, sideeffect.AwaitRemote)
	given, cancel := context.WithCancel(ctx)
	s := &slowDeadline{gate: newGate(nil), begun: make(chan struct{}), end: make(chan struct{})}
	called := make(chan error, 1)
	go func() {
		_, err := p.stub.Call(given, &storepb.Item{}, rpc.With(up(sideeffect.Reader(s, -1))))
		called <- err
	}()
	<-s.entered
	cancel()
	<-s.begun
	select {
	case <-called:
		t.Error("the call has returned while its reader's SetDeadline runs")
	case <-time.After(50 * time.Millisecond):
	}
	close(s.end)
	wantKind(t, <-called, fault.Canceled)
}

// slowDeadline is a gate whose SetDeadline goes on for a while when the Read has ended.
type slowDeadline struct {
	*gate
	begun, end chan struct{}
}

func (s *slowDeadline) SetDeadline(t time.Time) error {
	_ = s.gate.SetDeadline(t)
	close(s.begun)
	<-s.end
	return nil
}
