package rpc_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/spec/fault"
)

// TestConnect: the session is there before the first call, and the same after it.
func TestConnect(t *testing.T) {
	for _, name := range carriers {
		t.Run(name, func(t *testing.T) {
			p := start(t, name, setup{})
			p.store.call = func(context.Context, *storepb.Item) (*storepb.Receipt, error) { return &storepb.Receipt{}, nil }
			s, err := p.cc.Connect(within(t))
			if err != nil {
				t.Fatal(err)
			}
			if none := p.client.HTTP2; (s == nil) != none {
				t.Fatalf("a session: %t, at a server without one: %t", s != nil, none)
			}
			if _, err := p.stub.Call(within(t), &storepb.Item{}); err != nil {
				t.Fatal(err)
			}
			again, err := p.cc.Connect(within(t))
			if err != nil || again != s {
				t.Errorf("another session, %v", err)
			}
		})
	}
}

// TestConnectAgain: what fails has a kind, where a call has a status, and gRPC's
// pause between attempts does not count.
func TestConnectAgain(t *testing.T) {
	hour := grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Hour, MaxDelay: time.Hour}, MinConnectTimeout: time.Minute})
	p := start(t, "unix", setup{withoutClient: true, client: []grpc.DialOption{hour}})
	if _, err := p.dial().Connect(within(t)); err != nil { // it serves
		t.Fatal(err)
	}
	p.server.Stop()
	cc := p.dial()
	_, err := storepb.NewStoreClient(cc).Call(within(t), &storepb.Item{}) // gRPC has tried, and pauses
	wantCode(t, err, codes.Unavailable)
	_, err = cc.Connect(within(t))
	wantKind(t, err, fault.NotFound)
	again := must(rpc.NewServer(rpc.ServerConfig{}))
	must(again.Listen(p.address))
	served := make(chan error, 1)
	go func() { served <- again.Serve() }()
	defer func() { again.Stop(); <-served }()
	if _, err := cc.Connect(within(t)); err != nil {
		t.Error(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	other := must(rpc.Dial(p.address, p.client))
	_, err = other.Connect(over)
	wantKind(t, err, fault.Canceled)
	other.Close()
	_, err = other.Connect(within(t))
	wantKind(t, err, fault.Canceled)
}

// TestOtherScheme: who takes a server with tls for one without, or the other way round, hears which to dial.
func TestOtherScheme(t *testing.T) {
	for _, name := range []string{"tcp", "tls"} {
		p := start(t, name, setup{withoutClient: true})
		address := strings.TrimPrefix(strings.TrimPrefix(p.address, "tcp"), "tls")
		cfg, scheme := rpc.ClientConfig{}, "tcp"
		if name == "tcp" {
			id := must(carrier.LoadOrCreateIdentity(t.TempDir()))
			cfg, scheme = rpc.ClientConfig{Identity: id, Pins: carrier.Pins{id.Key()}}, "tls"
		}
		cc := must(rpc.Dial(scheme+address, cfg))
		defer cc.Close()
		_, err := cc.Connect(within(t))
		if err == nil || !strings.Contains(fault.Advice(err), "listens at "+name+"://") {
			t.Errorf("%s%s: %v", scheme, address, err)
		}
	}
}

// TestDialChecksFlow: a wrong number is told at once, not by each call.
func TestDialChecksFlow(t *testing.T) {
	_, err := rpc.Dial("tcp://127.0.0.1:1", rpc.ClientConfig{Flow: flow.Config{MaxStreams: -1}})
	wantKind(t, err, fault.Invalid)
	_, err = rpc.DialOver(nil, rpc.ClientConfig{Flow: flow.Config{BlockSize: 1}})
	wantKind(t, err, fault.Invalid)
}

// TestShutdownGivesUp: a handler that does not heed its context does not hold up
// Shutdown when its time is over.
func TestShutdownGivesUp(t *testing.T) {
	p := start(t, "tcp", setup{})
	entered, stop, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	p.store.call = func(context.Context, *storepb.Item) (*storepb.Receipt, error) {
		defer close(left)
		close(entered)
		<-stop
		return &storepb.Receipt{}, nil
	}
	called := make(chan error, 1)
	go func() { _, err := p.stub.Call(within(t), &storepb.Item{}); called <- err }()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	over := make(chan error, 1)
	go func() { over <- p.server.Shutdown(ctx) }()
	select {
	case err := <-over:
		wantKind(t, err, fault.Canceled)
	case <-time.After(time.Minute):
		t.Error("Shutdown waits for the handler")
	}
	close(stop)
	<-left
	if err := <-called; err == nil {
		t.Error("the call was not cut off")
	}
}
