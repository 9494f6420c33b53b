package rpc_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/rpcpb"
)

// stock starts an ordinary gRPC server that knows nothing of side effects.
func stock(t *testing.T, s *store, options ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(options...)
	storepb.RegisterStoreServer(g, s)
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-served })
	return l.Addr().String()
}

// TestUnawareServer: an ordinary gRPC server works, a mandatory effect is
// refused before the call, an optional one is left out.
func TestUnawareServer(t *testing.T) {
	for _, c := range []string{"tcp", "tcp http2", "tls"} {
		t.Run(c, func(t *testing.T) {
			ctx := within(t)
			var calls atomic.Int32
			s := &store{call: func(context.Context, *storepb.Item) (*storepb.Receipt, error) {
				calls.Add(1)
				return &storepb.Receipt{Name: "stock"}, nil
			}}
			cfg := rpc.ClientConfig{HTTP2: c == "tcp http2"}
			var address string
			if c == "tls" {
				id := identity(t)
				cert := id.Certificate()
				address = "tls://" + stock(t, s, grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
				cfg.Identity, cfg.Pins = identity(t), carrier.Pins{id.Key()}
			} else {
				address = "tcp://" + stock(t, s)
			}
			cc, err := rpc.Dial(address, cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer cc.Close()
			stub := storepb.NewStoreClient(cc)
			if r, err := stub.Call(ctx, &storepb.Item{}); err != nil || r.GetName() != "stock" {
				t.Fatal(r, err)
			}
			for _, n := range []int{10, 100 << 10} {
				d := up(sideeffect.Memory(content(n)))
				_, err := stub.Call(ctx, &storepb.Item{}, rpc.With(d))
				wantKind(t, err, fault.Unsupported)
				wantCode(t, err, codes.Unimplemented)
				d.Optional = true
				if r, err := stub.Call(ctx, &storepb.Item{}, rpc.With(d)); err != nil || r.GetName() != "stock" {
					t.Fatal(r, err)
				}
				if d.LocalStatus != sideeffect.NotStarted || d.RemoteStatus != sideeffect.NotStarted {
					t.Fatalf("result %+v", d.Result)
				}
			}
			if calls.Load() != 3 {
				t.Fatalf("%d calls reached the server", calls.Load())
			}
		})
	}
}

// TestStockClient: an ordinary gRPC client is served on our port.
func TestStockClient(t *testing.T) {
	ours, theirs := identity(t), identity(t)
	call := func(t *testing.T, s *rpc.Server, address string, creds credentials.TransportCredentials) error {
		addr, err := s.Listen(address)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve() }()
		defer func() {
			s.Stop()
			if err := <-served; err != nil {
				t.Error(err)
			}
		}()
		a, _ := carrier.ParseAddress(addr)
		cc, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(a.Host, a.Port), grpc.WithTransportCredentials(creds))
		if err != nil {
			t.Fatal(err)
		}
		defer cc.Close()
		_, err = storepb.NewStoreClient(cc).Call(within(t), &storepb.Item{})
		return err
	}
	with := func(id *carrier.Identity) credentials.TransportCredentials {
		c := &tls.Config{InsecureSkipVerify: true}
		if id != nil {
			c.Certificates = []tls.Certificate{id.Certificate()}
		}
		return credentials.NewTLS(c)
	}
	for _, c := range []struct {
		name  string
		cfg   rpc.ServerConfig
		addr  string
		creds credentials.TransportCredentials
		ok    bool
		auth  string
	}{
		{"plaintext", rpc.ServerConfig{}, "tcp://127.0.0.1:0", insecure.NewCredentials(), true, "insecure"},
		{"pinned", rpc.ServerConfig{Identity: ours, Pins: carrier.Pins{theirs.Key()}}, "tls://127.0.0.1:0", with(theirs), true, "tls"},
		{"anonymous allowed", rpc.ServerConfig{Identity: ours, Pins: carrier.Pins{theirs.Key()}, AnonymousHTTP2: true}, "tls://127.0.0.1:0", with(nil), true, "tls"},
		{"anonymous", rpc.ServerConfig{Identity: ours, Pins: carrier.Pins{theirs.Key()}}, "tls://127.0.0.1:0", with(nil), false, ""},
		{"other key", rpc.ServerConfig{Identity: ours, Pins: carrier.Pins{theirs.Key()}}, "tls://127.0.0.1:0", with(identity(t)), false, ""},
		{"plaintext to tls", rpc.ServerConfig{Identity: ours, Pins: carrier.Pins{theirs.Key()}}, "tls://127.0.0.1:0", insecure.NewCredentials(), false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := rpc.NewServer(c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			storepb.RegisterStoreServer(s, &store{call: func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
				if !c.ok {
					t.Error("a call came through")
				}
				if p, ok := peer.FromContext(ctx); !ok || p.AuthInfo.AuthType() != c.auth {
					t.Errorf("peer %v", p)
				}
				return &storepb.Receipt{}, nil
			}})
			if err := call(t, s, c.addr, c.creds); (err == nil) != c.ok {
				t.Errorf("call: %v", err)
			}
		})
	}
	_, err := must(rpc.NewServer(rpc.ServerConfig{Pins: carrier.Pins{theirs.Key()}})).Listen("tcp://127.0.0.1:0")
	wantKind(t, err, fault.Invalid)
	_, err = rpc.Dial("tcp://127.0.0.1:1", rpc.ClientConfig{Pins: carrier.Pins{theirs.Key()}})
	wantKind(t, err, fault.Invalid)
}

func must[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}

// token is a per-RPC credential that demands a private connection.
type token struct{}

func (token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer cafe"}, nil
}
func (token) RequireTransportSecurity() bool { return true }

// recorder sees the messages of both ends as stats handlers do.
type recorder struct {
	mu       sync.Mutex
	payloads []proto.Message
	methods  []string
}

func (r *recorder) TagRPC(ctx context.Context, i *stats.RPCTagInfo) context.Context {
	r.mu.Lock()
	r.methods = append(r.methods, i.FullMethodName)
	r.mu.Unlock()
	return ctx
}
func (r *recorder) HandleRPC(_ context.Context, s stats.RPCStats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch s := s.(type) {
	case *stats.OutPayload:
		if m, ok := s.Payload.(proto.Message); ok {
			r.payloads = append(r.payloads, m)
		}
	case *stats.InPayload:
		if m, ok := s.Payload.(proto.Message); ok {
			r.payloads = append(r.payloads, m)
		}
	}
}
func (r *recorder) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (r *recorder) HandleConn(context.Context, stats.ConnStats)                       {}

// TestMiddleware: per-RPC credentials, interceptors and stats handlers of both
// ends work beside side effects, and credentials that need privacy are refused
// where there is none.
func TestMiddleware(t *testing.T) {
	for _, name := range carriers {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var trace []string
			note := func(s string) { mu.Lock(); trace = append(trace, s); mu.Unlock() }
			clientStats, serverStats := &recorder{}, &recorder{}
			private := name != "tcp" && name != "http2"
			client := []grpc.DialOption{
				grpc.WithStatsHandler(clientStats),
				grpc.WithUnaryInterceptor(func(ctx context.Context, m string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, o ...grpc.CallOption) error {
					note("client")
					err := next(ctx, m, req, reply, cc, o...)
					if len(reply.(*storepb.Receipt).ProtoReflect().GetUnknown()) != 0 {
						t.Error("the client's interceptor sees the reply's field")
					}
					return err
				}),
			}
			if private {
				client = append(client, grpc.WithPerRPCCredentials(token{}))
			}
			p := start(t, name, setup{client: client, server: []grpc.ServerOption{
				grpc.StatsHandler(serverStats),
				grpc.UnaryInterceptor(func(ctx context.Context, req any, i *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
					note("server")
					if v := metadata.ValueFromIncomingContext(ctx, "authorization"); private != slices.Equal(v, []string{"Bearer cafe"}) {
						t.Errorf("token %q", v)
					}
					if len(rpc.SideEffects(ctx)) != 1 {
						t.Error("no side effect in the interceptor's context")
					}
					return next(ctx, req)
				}),
			}})
			ctx := within(t)
			for _, n := range []int{20, 100 << 10} {
				var b bytes.Buffer
				p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
					q, _ := peer.FromContext(ctx)
					if a, ok := q.AuthInfo.(rpc.AuthInfo); ok == p.client.HTTP2 || ok && a.Session == nil {
						t.Errorf("auth info %T", q.AuthInfo)
					}
					return run(func() *sideeffect.Descriptor { return up(sideeffect.Buffer(&b)) }, sideeffect.AwaitRemote)(ctx, i)
				}
				if _, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(up(sideeffect.Memory(content(n))))); err != nil {
					t.Fatal(err)
				}
			}
			mu.Lock()
			if !slices.Equal(trace, []string{"client", "server", "client", "server"}) {
				t.Errorf("interceptors ran as %v", trace)
			}
			mu.Unlock()
			clientStats.mu.Lock()
			if len(clientStats.payloads) != 4 {
				t.Errorf("the client's stats handler saw %d messages", len(clientStats.payloads))
			}
			for _, m := range clientStats.payloads {
				if len(m.ProtoReflect().GetUnknown()) != 0 {
					t.Error("the client's stats handler sees the field")
				}
			}
			clientStats.mu.Unlock()
			if !private {
				_, err := p.stub.Call(ctx, &storepb.Item{}, grpc.PerRPCCredentials(token{}))
				wantCode(t, err, codes.Unauthenticated)
			}
		})
	}
}

// TestWrongBackend: a call whose session lives elsewhere is refused before its
// handler, and so is one that comes twice.
func TestWrongBackend(t *testing.T) {
	p, ctx := start(t, "http2", setup{}), within(t)
	p.store.call = func(context.Context, *storepb.Item) (*storepb.Receipt, error) { return &storepb.Receipt{}, nil }
	asked := func(id byte, session bool) context.Context {
		a := &rpcpb.Ask{Call: bytes.Repeat([]byte{id}, 16), Effects: []*rpcpb.EffectAsk{{Direction: rpcpb.Direction_DIRECTION_CLIENT_TO_SERVER}}}
		if session {
			a.Session, a.Token = make([]byte, 16), make([]byte, 16)
		}
		b, _ := proto.Marshal(a)
		return metadata.AppendToOutgoingContext(ctx, rpc.MetadataKey, string(b))
	}
	_, err := p.stub.Call(asked(1, true), &storepb.Item{})
	wantKind(t, err, fault.WrongBackend)
	wantCode(t, err, codes.FailedPrecondition)
	if _, err := p.stub.Call(asked(2, false), &storepb.Item{}); err != nil {
		t.Fatal(err)
	}
	_, err = p.stub.Call(asked(2, false), &storepb.Item{})
	wantKind(t, err, fault.Stale)
	wantCode(t, err, codes.Aborted)
	_, err = p.stub.Call(metadata.AppendToOutgoingContext(ctx, rpc.MetadataKey, "rubbish"), &storepb.Item{})
	wantCode(t, err, codes.InvalidArgument)
	_, err = p.stub.Call(metadata.AppendToOutgoingContext(asked(3, false), rpc.MetadataKey, "x"), &storepb.Item{})
	wantCode(t, err, codes.InvalidArgument)
}

// TestTwoBackends: a balancer between client and servers sends the call to one
// and the session to the other.
func TestTwoBackends(t *testing.T) {
	a, b := start(t, "http2", setup{withoutClient: true}), start(t, "http2", setup{withoutClient: true})
	for _, p := range []*pair{a, b} {
		p.store.call = func(context.Context, *storepb.Item) (*storepb.Receipt, error) {
			t.Error("a handler ran")
			return &storepb.Receipt{}, nil
		}
	}
	other := must(grpc.NewClient("passthrough:///"+b.address[len("tcp://"):], grpc.WithTransportCredentials(insecure.NewCredentials())))
	defer other.Close()
	a.client.DialOptions = []grpc.DialOption{grpc.WithUnaryInterceptor(
		func(ctx context.Context, m string, req, reply any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, o ...grpc.CallOption) error {
			return other.Invoke(ctx, m, req, reply, o...)
		})}
	d := up(sideeffect.Memory(content(100 << 10)))
	_, err := storepb.NewStoreClient(a.dial()).Call(within(t), &storepb.Item{}, rpc.With(d))
	wantKind(t, err, fault.WrongBackend)
	if d.LocalStatus == sideeffect.Success || d.BytesTransferred != 0 {
		t.Fatalf("result %+v", d.Result)
	}
}

// TestStrayedToABackend: a call that came to where its session is not is made anew until it comes to the right one, but not
// when gRPC has repeated it; and neither is one whose handler has said the same. A streaming one ends with advice.
func TestStrayedToABackend(t *testing.T) {
	p, b, ctx := start(t, "http2", setup{withoutClient: true}), start(t, "http2", setup{withoutClient: true}), within(t)
	other := must(grpc.NewClient("passthrough:///"+b.address[len("tcp://"):], grpc.WithTransportCredentials(insecure.NewCredentials())))
	defer other.Close()
	astray, policy := 0, false
	p.client.DialOptions = []grpc.DialOption{grpc.WithUnaryInterceptor(
		func(ctx context.Context, m string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, o ...grpc.CallOption) error {
			if astray > 0 {
				astray--
				cc = other
			}
			if policy {
				ctx = metadata.AppendToOutgoingContext(ctx, "grpc-previous-rpc-attempts", "1")
			}
			return next(ctx, m, req, reply, cc, o...)
		}), grpc.WithStreamInterceptor(
		func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, m string, next grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
			if m == storepb.Store_Gather_FullMethodName {
				cc = other
			}
			return next(ctx, d, cc, m, o...)
		})}
	stub := storepb.NewStoreClient(p.dial())
	runs, refuse := 0, false
	var got bytes.Buffer
	p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
		if runs++; refuse {
			return nil, fault.New("handle", fault.WrongBackend, "elsewhere")
		}
		got.Reset()
		return run(func() *sideeffect.Descriptor { return up(sideeffect.Buffer(&got)) }, sideeffect.AwaitRemote)(ctx, i)
	}
	for _, n := range []int{1000, 300 << 10} {
		runs, astray, policy, refuse = 0, 3, false, false
		d := up(sideeffect.Reader(bytes.NewReader(content(n)), int64(n))) // which is opened once
		if _, err := stub.Call(ctx, &storepb.Item{}, rpc.With(d)); err != nil || runs != 1 || astray != 0 || !bytes.Equal(got.Bytes(), content(n)) {
			t.Fatalf("%d bytes: %v, %d runs, %d bytes came", n, err, runs, got.Len())
		}
		wantSuccess(t, d, n)
		runs, astray, policy = 0, 2, true
		_, err := stub.Call(ctx, &storepb.Item{}, rpc.With(up(sideeffect.Memory(content(n)))))
		wantKind(t, err, fault.Stale)
		if runs != 0 || astray != 1 {
			t.Errorf("%d bytes: %d runs, %d attempts", n, runs, 2-astray)
		}
		runs, astray, policy, refuse = 0, 0, false, true
		_, err = stub.Call(ctx, &storepb.Item{}, rpc.With(up(sideeffect.Memory(content(n)))))
		wantKind(t, err, fault.WrongBackend)
		if runs != 1 {
			t.Errorf("%d bytes: the handler has run %d times", n, runs)
		}
	}
	st := must(stub.Gather(ctx, rpc.With(up(sideeffect.Memory(content(1000))))))
	_, err := st.CloseAndRecv()
	wantKind(t, err, fault.WrongBackend)
	if !strings.Contains(err.Error(), "make it again") {
		t.Error(err)
	}
}

// TestSilentServer: a server that answers without a word about the effects.
func TestSilentServer(t *testing.T) {
	p := start(t, "tcp", setup{withoutClient: true})
	address := stock(t, &store{call: func(context.Context, *storepb.Item) (*storepb.Receipt, error) { return &storepb.Receipt{}, nil }})
	deaf := must(grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials())))
	defer deaf.Close()
	p.client.DialOptions = []grpc.DialOption{grpc.WithUnaryInterceptor(
		func(ctx context.Context, m string, req, reply any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, o ...grpc.CallOption) error {
			return deaf.Invoke(ctx, m, req, reply, o...)
		})}
	stub := storepb.NewStoreClient(p.dial())
	for _, n := range []int{10, 100 << 10} {
		d := up(sideeffect.Memory(content(n)))
		_, err := stub.Call(within(t), &storepb.Item{}, rpc.With(d))
		wantKind(t, err, fault.Unsupported)
		d.Optional = true
		if _, err := stub.Call(within(t), &storepb.Item{}, rpc.With(d)); err != nil {
			t.Fatal(err)
		}
		if d.RemoteStatus == sideeffect.Success || d.BytesTransferred != 0 {
			t.Fatalf("result %+v", d.Result)
		}
	}
}

// TestNoServer: calls fail or wait as gRPC's do.
func TestNoServer(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	cc := must(rpc.Dial("unix://"+path, rpc.ClientConfig{}))
	defer cc.Close()
	stub, ctx := storepb.NewStoreClient(cc), within(t)
	d := up(sideeffect.Memory(content(100)))
	_, err := stub.Call(ctx, &storepb.Item{}, rpc.With(d))
	if err == nil || d.LocalStatus != sideeffect.NotStarted {
		t.Fatal(err, d.Result)
	}
	if _, ok := status.FromError(err); !ok {
		t.Fatalf("%v is no status", err)
	}
	waited := make(chan error, 1)
	var b bytes.Buffer
	go func() {
		_, err := stub.Call(ctx, &storepb.Item{}, rpc.With(d), grpc.WaitForReady(true))
		waited <- err
	}()
	s := must(rpc.NewServer(rpc.ServerConfig{}))
	storepb.RegisterStoreServer(s, &store{call: run(func() *sideeffect.Descriptor { return up(sideeffect.Buffer(&b)) }, sideeffect.AwaitRemote)})
	served := make(chan error, 1)
	go func() { served <- s.ListenAndServe("unix://" + path) }()
	if err := <-waited; err != nil {
		t.Error(err)
	}
	cc.Close()
	s.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
