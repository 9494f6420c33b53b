package rpc_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/rpcpb"
)

// TestDrainMovesClients: while a server that drains has a call with side effects, its client's next calls go to
// the one that has taken its place, and the first call is served to its end, streams that it opens late included.
func TestDrainMovesClients(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(map[bool]string{false: "session", true: "stream"}[http2], func(t *testing.T) {
			old, next, ctx := start(t, "tcp", setup{withoutClient: true}), start(t, "tcp", setup{withoutClient: true}), within(t)
			d := &lossy{lead: must(carrier.NewDialer(old.address, carrier.Options{}))}
			cc := must(rpc.DialOver(d, rpc.ClientConfig{HTTP2: http2}))
			defer cc.Close()
			stub := storepb.NewStoreClient(cc)
			store := run(func() *sideeffect.Descriptor { return up(sideeffect.Writer(io.Discard)) }, sideeffect.AwaitRemote)
			const n = 300 << 10
			var told atomic.Bool
			running, leave := make(chan struct{}), make(chan struct{})
			old.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
				if i.GetName() == "first" {
					close(running)
					<-leave
				} else if told.Load() {
					t.Errorf("call %q came to the server that drains", i.GetName())
				}
				return store(ctx, i)
			}
			moved := false
			next.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
				moved = true
				return store(ctx, i)
			}
			first, called, stopped := up(sideeffect.Memory(content(n))), make(chan error, 1), make(chan error, 1)
			go func() {
				_, err := stub.Call(ctx, &storepb.Item{Name: "first"}, rpc.With(first))
				called <- err
			}()
			<-running
			session := must(cc.Connect(ctx)) // nil over HTTP/2
			d.leadTo(must(carrier.NewDialer(next.address, carrier.Options{})))
			go func() { stopped <- old.server.Shutdown(ctx) }()
			if http2 { // the word comes at some time; meanwhile calls may go to either, or astray
				for !moved && ctx.Err() == nil {
					_, _ = stub.Call(ctx, &storepb.Item{}, rpc.With(up(sideeffect.Memory(content(n)))))
				}
			} else {
				for !session.Draining() && ctx.Err() == nil {
					runtime.Gosched()
				}
			}
			told.Store(true)
			for range 3 {
				for _, n := range []int{100, n} {
					d := up(sideeffect.Memory(content(n)))
					if _, err := stub.Call(ctx, &storepb.Item{Name: "next"}, rpc.With(d), grpc.WaitForReady(true)); err != nil {
						t.Fatal(err)
					}
					wantSuccess(t, d, n)
				}
			}
			select {
			case err := <-called:
				t.Fatalf("the first call has ended: %v", err)
			case err := <-stopped:
				t.Fatalf("the server has ended: %v", err)
			default:
			}
			close(leave)
			if err := <-called; err != nil {
				t.Error(err)
			}
			wantSuccess(t, first, n)
			if err := <-stopped; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDrainOfOnePipe: where a second connection would be the end of the first, new calls fail, so that who makes them may try
// again, and the call that runs does not notice.
func TestDrainOfOnePipe(t *testing.T) {
	p, ctx := start(t, "pipe", setup{}), within(t)
	running, leave := make(chan struct{}), make(chan struct{})
	p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
		close(running)
		<-leave
		return run(func() *sideeffect.Descriptor { return up(sideeffect.Writer(io.Discard)) }, sideeffect.AwaitRemote)(ctx, i)
	}
	first, called, stopped := up(sideeffect.Memory(content(300<<10))), make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(first))
		called <- err
	}()
	<-running
	session := must(p.cc.Connect(ctx))
	go func() { stopped <- p.server.Shutdown(ctx) }()
	for !session.Draining() && ctx.Err() == nil {
		runtime.Gosched()
	}
	_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(up(sideeffect.Memory(nil))))
	wantKind(t, err, fault.Draining)
	wantCode(t, err, codes.Unavailable)
	close(leave)
	if err := <-called; err != nil {
		t.Error(err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// reluctant has one connection at a time, and closes it when it is let.
type reluctant struct {
	lead         *carrier.Dialer
	open, most   atomic.Int32
	closing, let chan struct{} // closing: one for each Close that has begun
}

func (*reluctant) Single() bool { return true }

func (d *reluctant) Dial(ctx context.Context) (net.Conn, error) {
	c, err := d.lead.Dial(ctx)
	if err == nil {
		d.most.Store(max(d.most.Load(), d.open.Add(1)))
	}
	return reluctantConn{c, d}, err
}

type reluctantConn struct {
	net.Conn
	d *reluctant
}

func (c reluctantConn) Close() error {
	c.d.closing <- struct{}{}
	<-c.d.let
	c.d.open.Add(-1)
	return c.Conn.Close()
}

// TestOneConnectionAtATime: where the carrier has only one, the next session waits until that of the last is closed.
func TestOneConnectionAtATime(t *testing.T) {
	p, ctx := start(t, "tcp", setup{withoutClient: true}), within(t)
	d := &reluctant{lead: must(carrier.NewDialer(p.address, carrier.Options{})), closing: make(chan struct{}, 10), let: make(chan struct{})}
	cc := must(rpc.DialOver(d, rpc.ClientConfig{}))
	defer cc.Close()
	p.stub = storepb.NewStoreClient(cc)
	p.works(ctx)
	last, ended := must(cc.Connect(ctx)), make(chan struct{})
	go func() { last.Close(); close(ended) }()
	<-d.closing
	soon, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := cc.Connect(soon); err == nil {
		t.Error("a session while the connection of the last is there")
	}
	close(d.let)
	<-ended
	must(cc.Connect(ctx))
	p.works(ctx)
	if n := d.most.Load(); n != 1 {
		t.Errorf("%d connections at a time", n)
	}
}

// TestStrayedCall: a call that comes over another session than it names is refused; a client whose own call that
// is makes it anew, and does not if gRPC has repeated it.
func TestStrayedCall(t *testing.T) {
	p, ctx := start(t, "tcp", setup{withoutClient: true}), within(t)
	runs := 0
	var got bytes.Buffer
	p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
		runs++
		got.Reset()
		return run(func() *sideeffect.Descriptor { return up(sideeffect.Buffer(&got)) }, sideeffect.AwaitRemote)(ctx, i)
	}
	other := p.dial() // of another session
	must(other.Connect(ctx))
	astray, policy := 0, false
	p.client.DialOptions = []grpc.DialOption{grpc.WithUnaryInterceptor(
		func(ctx context.Context, m string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, o ...grpc.CallOption) error {
			if astray > 0 {
				astray--
				cc = other.GRPC()
			}
			if policy {
				ctx = metadata.AppendToOutgoingContext(ctx, "grpc-previous-rpc-attempts", "1")
			}
			return next(ctx, m, req, reply, cc, o...)
		})}
	stub := storepb.NewStoreClient(p.dial())
	for _, n := range []int{1000, 300 << 10} {
		for _, repeated := range []bool{false, true} {
			runs, astray, policy = 0, 2, repeated
			d := up(sideeffect.Reader(bytes.NewReader(content(n)), int64(n))) // which is opened once
			_, err := stub.Call(ctx, &storepb.Item{}, rpc.With(d))
			if repeated {
				wantKind(t, err, fault.Stale)
				if runs != 0 || astray != 1 {
					t.Errorf("%d bytes: %d runs, %d attempts", n, runs, 2-astray)
				}
				continue
			}
			if err != nil || runs != 1 || astray != 0 || !bytes.Equal(got.Bytes(), content(n)) {
				t.Fatalf("%d bytes: %v, %d runs, %d bytes came", n, err, runs, got.Len())
			}
			wantSuccess(t, d, n)
		}
	}
	// Whoever does not know better: a code that says that it may be made again, and no retry by gRPC.
	ask, _ := proto.Marshal(&rpcpb.Ask{Call: make([]byte, 16), Session: bytes.Repeat([]byte{1}, 16), Effects: []*rpcpb.EffectAsk{{Direction: rpcpb.Direction_DIRECTION_CLIENT_TO_SERVER}}})
	var trailer metadata.MD
	astray, policy = 0, false
	_, err := stub.Call(metadata.AppendToOutgoingContext(ctx, rpc.MetadataKey, string(ask)), &storepb.Item{}, grpc.Trailer(&trailer))
	wantCode(t, err, codes.Unavailable)
	if v := trailer.Get("grpc-retry-pushback-ms"); len(v) != 1 || v[0] != "-1" {
		t.Errorf("pushback %q", v)
	}
}

// passport is per-RPC credentials of the caller's own.
type passport struct{}

func (passport) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"passport": "valid"}, nil
}
func (passport) RequireTransportSecurity() bool { return false }

// TestStrayedStream: a streaming call that would go over a connection of another session is made anew before its
// first message, with the caller's own credentials; one that never finds its own ends with an error that says that it may be made again.
func TestStrayedStream(t *testing.T) {
	p, ctx := start(t, "tcp", setup{withoutClient: true}), within(t)
	runs := 0
	var got bytes.Buffer
	handle := func(ctx context.Context) error {
		runs++
		md, _ := metadata.FromIncomingContext(ctx)
		if v := md.Get("passport"); len(v) != 1 {
			t.Errorf("credentials %q", v)
		}
		got.Reset()
		se, err := rpc.SideEffect(ctx)
		if err != nil {
			return err
		}
		return se.Run(ctx, up(sideeffect.Buffer(&got)), sideeffect.AwaitRemote)
	}
	p.store.gather = func(s grpc.ClientStreamingServer[storepb.Item, storepb.Receipt]) error {
		r := &storepb.Receipt{}
		for {
			i, err := s.Recv()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			r.Name += i.GetName()
		}
		if err := handle(s.Context()); err != nil {
			return err
		}
		return s.SendAndClose(r)
	}
	p.store.watch = func(i *storepb.Item, s grpc.ServerStreamingServer[storepb.Receipt]) error {
		if err := handle(s.Context()); err != nil {
			return err
		}
		return s.Send(&storepb.Receipt{Name: i.GetName()})
	}
	other := p.dial() // of another session
	must(other.Connect(ctx))
	astray := 0
	p.client.DialOptions = []grpc.DialOption{grpc.WithStreamInterceptor(
		func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, m string, next grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
			if astray > 0 {
				astray--
				cc = other.GRPC()
			}
			return next(ctx, d, cc, m, o...)
		}), grpc.WithDefaultCallOptions(grpc.PerRPCCredentials(passport{}))}
	stub := storepb.NewStoreClient(p.dial())
	gather := func(d *sideeffect.Descriptor) (string, error) {
		st, err := stub.Gather(ctx, rpc.With(d))
		if err != nil {
			return "", err
		}
		for _, name := range []string{"a", "b", "c"} {
			if err := st.Send(&storepb.Item{Name: name}); err != nil {
				break // CloseAndRecv says why
			}
		}
		r, err := st.CloseAndRecv()
		return r.GetName(), err
	}
	watch := func(d *sideeffect.Descriptor) (name string, err error) {
		st, err := stub.Watch(ctx, &storepb.Item{Name: "abc"}, rpc.With(d))
		for err == nil {
			var r *storepb.Receipt
			if r, err = st.Recv(); err == nil {
				name += r.GetName()
			}
		}
		if err == io.EOF {
			err = nil
		}
		return name, err
	}
	const n = 300 << 10
	for name, call := range map[string]func(*sideeffect.Descriptor) (string, error){"gather": gather, "watch": watch} {
		runs, astray = 0, 2
		d := up(sideeffect.Reader(bytes.NewReader(content(n)), n)) // which is opened once
		said, err := call(d)
		if err != nil || said != "abc" || runs != 1 || astray != 0 || !bytes.Equal(got.Bytes(), content(n)) {
			t.Fatalf("%s: %v, said %q, %d runs, %d bytes came", name, err, said, runs, got.Len())
		}
		wantSuccess(t, d, n)
		runs, astray = 0, 100
		_, err = call(up(sideeffect.Memory(content(n))))
		wantKind(t, err, fault.Draining)
		wantCode(t, err, codes.Unavailable)
		if runs != 0 || !strings.Contains(err.Error(), "make it again") {
			t.Errorf("%s: %d runs, %v", name, runs, err)
		}
	}
	astray = 0
	if _, err := gather(up(sideeffect.Memory(nil))); err != nil {
		t.Errorf("the next call: %v", err)
	}
}
