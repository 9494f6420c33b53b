package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(relayEnv); what != "" {
		os.Exit(relay(what))
	}
	goleak.VerifyTestMain(m)
}

// store answers every method with the function that a test puts in.
type store struct {
	storepb.UnimplementedStoreServer
	call   func(context.Context, *storepb.Item) (*storepb.Receipt, error)
	clash  func(context.Context, *storepb.Taken) (*storepb.Receipt, error)
	back   func(context.Context, *storepb.Item) (*storepb.Taken, error)
	gather func(grpc.ClientStreamingServer[storepb.Item, storepb.Receipt]) error
	watch  func(*storepb.Item, grpc.ServerStreamingServer[storepb.Receipt]) error
	talk   func(grpc.BidiStreamingServer[storepb.Item, storepb.Receipt]) error
}

func (s *store) Call(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
	return s.call(ctx, i)
}
func (s *store) Clash(ctx context.Context, i *storepb.Taken) (*storepb.Receipt, error) {
	return s.clash(ctx, i)
}
func (s *store) ClashBack(ctx context.Context, i *storepb.Item) (*storepb.Taken, error) {
	return s.back(ctx, i)
}
func (s *store) Gather(st grpc.ClientStreamingServer[storepb.Item, storepb.Receipt]) error {
	return s.gather(st)
}
func (s *store) Watch(i *storepb.Item, st grpc.ServerStreamingServer[storepb.Receipt]) error {
	return s.watch(i, st)
}
func (s *store) Talk(st grpc.BidiStreamingServer[storepb.Item, storepb.Receipt]) error {
	return s.talk(st)
}

// carriers are the ways from client to server that every promise is tested on.
// "http2" has no session underneath: effects go inline or on the stream road.
var carriers = []string{"pipe", "tcp", "tls", "unix", "http2", "http2+tls"}

// pair is a server and a client connected to it.
type pair struct {
	t       testing.TB
	name    string
	server  *rpc.Server
	store   *store
	cc      *rpc.ClientConn
	stub    storepb.StoreClient
	address string
	client  rpc.ClientConfig
}

type setup struct {
	server        []grpc.ServerOption
	client        []grpc.DialOption
	flow          flow.Config // of both ends
	pending       int64       // of the server
	withoutClient bool
}

// start makes a server on the carrier and a client for it, and ends both with
// the test.
func start(t testing.TB, name string, with setup) *pair {
	t.Helper()
	p := &pair{t: t, name: name, store: &store{}}
	ours, theirs := identity(t), identity(t)
	pipe := carrier.NewPipe()
	scfg := rpc.ServerConfig{Pipe: pipe, Flow: with.flow, MaxPending: with.pending}
	p.client = rpc.ClientConfig{Pipe: pipe, Flow: with.flow, HTTP2: len(name) >= 5 && name[:5] == "http2", DialOptions: with.client}
	var address string
	switch name {
	case "pipe":
		address = "pipe:"
	case "tcp", "http2":
		address = "tcp://127.0.0.1:0"
	case "unix":
		address = "unix://" + filepath.Join(shortDir(t), "s")
	case "tls", "http2+tls":
		address = "tls://127.0.0.1:0"
		scfg.Identity, scfg.Pins = ours, carrier.Pins{theirs.Key()}
		p.client.Identity, p.client.Pins = theirs, carrier.Pins{ours.Key()}
	}
	var err error
	if p.server, err = rpc.NewServer(scfg, with.server...); err != nil {
		t.Fatal(err)
	}
	storepb.RegisterStoreServer(p.server, p.store)
	if p.address, err = p.server.Listen(address); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- p.server.Serve() }()
	t.Cleanup(func() {
		p.server.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	if !with.withoutClient {
		p.cc = p.dial()
		p.stub = storepb.NewStoreClient(p.cc)
	}
	return p
}

// dial makes one more client, closed before the server.
func (p *pair) dial() *rpc.ClientConn {
	p.t.Helper()
	cc, err := rpc.Dial(p.address, p.client)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := cc.Close(); err != nil {
			p.t.Errorf("Close: %v", err)
		}
	})
	return cc
}

func identity(t testing.TB) *carrier.Identity {
	t.Helper()
	i, err := carrier.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// shortDir is a folder whose name leaves room for a socket's.
func shortDir(t testing.TB) string {
	t.Helper()
	d, err := os.MkdirTemp("", "rpc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(d) })
	return d
}

func rootOf(t testing.TB) (*os.Root, string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, dir
}

// within bounds a test that hangs; nothing is asserted about the time.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// content is n bytes that are the same for the same n.
func content(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1, byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}).Read(b)
	return b
}

func up(local sideeffect.Identity) *sideeffect.Descriptor {
	return &sideeffect.Descriptor{Direction: sideeffect.ClientToServer, Local: local, Quota: sideeffect.NoQuota}
}

func down(local sideeffect.Identity) *sideeffect.Descriptor {
	return &sideeffect.Descriptor{Direction: sideeffect.ServerToClient, Local: local, Quota: sideeffect.NoQuota}
}

// run is a handler that runs the first effect with d and reports its bytes.
func run(d func() *sideeffect.Descriptor, await sideeffect.Await) func(context.Context, *storepb.Item) (*storepb.Receipt, error) {
	return func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
		se, err := rpc.SideEffect(ctx)
		if err != nil {
			return nil, err
		}
		d := d()
		if err := se.Run(ctx, d, await); err != nil {
			return nil, err
		}
		return &storepb.Receipt{Name: i.GetName(), Bytes: d.BytesTransferred}, nil
	}
}

func wantKind(t testing.TB, err error, k fault.Kind) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) {
		t.Fatalf("error %v (%T) has no *fault.Error; want kind %v", err, err, k)
	}
	if f.Kind != k {
		t.Fatalf("error %v has kind %v, want %v", err, f.Kind, k)
	}
}

func wantCode(t testing.TB, err error, c codes.Code) {
	t.Helper()
	if st, ok := status.FromError(err); !ok || st.Code() != c {
		t.Fatalf("error %v has code %v (status: %v), want %v", err, st.Code(), ok, c)
	}
}

func wantSuccess(t testing.TB, d *sideeffect.Descriptor, n int) {
	t.Helper()
	if d.LocalStatus != sideeffect.Success || d.RemoteStatus != sideeffect.Success || d.Err != nil || d.BytesTransferred != int64(n) {
		t.Fatalf("result %+v, want success with %d bytes", d.Result, n)
	}
}

// entries are the names in a folder.
func entries(t testing.TB, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}

// gate is a reader that waits until it is opened or interrupted, and tells when it was entered.
type gate struct {
	entered, open, gone chan struct{}
	rest                io.Reader
	once                sync.Once
}

func newGate(rest []byte) *gate {
	return &gate{entered: make(chan struct{}, 64), open: make(chan struct{}), gone: make(chan struct{}), rest: bytes.NewReader(rest)}
}

func (g *gate) Read(p []byte) (int, error) {
	select {
	case g.entered <- struct{}{}:
	default:
	}
	select {
	case <-g.open:
		return g.rest.Read(p)
	case <-g.gone:
		return 0, fmt.Errorf("interrupted: %w", context.Canceled)
	}
}

// SetDeadline is how a pump interrupts a read.
func (g *gate) SetDeadline(time.Time) error {
	g.once.Do(func() { close(g.gone) })
	return nil
}
