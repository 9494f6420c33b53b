package rpc_test

// What an attack on this package found, one test each.

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
)

const retryAll = `{"methodConfig":[{"name":[{}],"waitForReady":true,"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.3s","maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}`

// TestRetryAfterRestartRunsOnce: a retry policy repeats the call at a server that
// was restarted meanwhile and remembers nothing.
func TestRetryAfterRestartRunsOnce(t *testing.T) {
	root, dir := rootOf(t)
	var runs atomic.Int32
	first := make(chan struct{})
	var served sync.WaitGroup
	serve := func(addr string) (*rpc.Server, string) {
		s, err := rpc.NewServer(rpc.ServerConfig{})
		if err != nil {
			t.Fatal(err)
		}
		st := &store{}
		st.call = func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
			se, err := rpc.SideEffect(ctx)
			if err != nil {
				return nil, err
			}
			d := up(sideeffect.File(root, "log"))
			d.Mode = sideeffect.Append
			if err := se.Run(ctx, d, sideeffect.AwaitRemote); err != nil {
				return nil, err
			}
			if runs.Add(1) == 1 {
				close(first)
				<-ctx.Done() // the server dies before it answers
				return nil, status.Error(codes.Unavailable, "dying")
			}
			return &storepb.Receipt{}, nil
		}
		storepb.RegisterStoreServer(s, st)
		var a string
		for range 50 {
			if a, err = s.Listen(addr); err == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil {
			t.Fatal(err)
		}
		served.Go(func() { s.Serve() })
		return s, a
	}
	s1, addr := serve("tcp://127.0.0.1:0")
	cc, err := rpc.Dial(addr, rpc.ClientConfig{DialOptions: []grpc.DialOption{grpc.WithDefaultServiceConfig(retryAll)}})
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	done := make(chan error, 1)
	d := up(sideeffect.Memory([]byte("once\n")))
	go func() {
		_, err := storepb.NewStoreClient(cc).Call(within(t), &storepb.Item{}, rpc.With(d))
		done <- err
	}()
	<-first
	s1.Stop()
	s2, _ := serve(addr)
	defer func() { s2.Stop(); served.Wait() }()
	err = <-done
	b, _ := os.ReadFile(filepath.Join(dir, "log"))
	if runs.Load() != 1 || err == nil || string(b) != "once\n" {
		t.Errorf("the effect ran %d times, the file is %q, the call returned %v", runs.Load(), b, err)
	}
}

// TestInlineWithResumeAndSyncs: a sink that keeps resume state takes small
// contents too.
func TestInlineWithResumeAndSyncs(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	root, dir := rootOf(t)
	p.store.call = run(func() *sideeffect.Descriptor {
		d := up(sideeffect.File(root, "x"))
		d.Resume, d.Params.SyncEvery = true, 4096
		return d
	}, sideeffect.AwaitRemote)
	for _, n := range []int{100, 8000, 100000} {
		d := up(sideeffect.Memory(content(n)))
		_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
		if left := entries(t, dir); err != nil || len(left) != 1 {
			t.Errorf("%d bytes: %v; the folder has %v", n, err, left)
		}
	}
}

// slowSink opens slowly.
type slowSink struct {
	sideeffect.Identity
	entered chan struct{}
	gate    chan struct{}
}

func (s slowSink) OpenSink(spec sideeffect.SinkSpec) (sideeffect.Sink, error) {
	close(s.entered)
	<-s.gate
	return s.Identity.OpenSink(spec)
}

// TestHandlerLeavesItsRun: the handler returns while a goroutine of its own is
// opening the sink; nothing stays.
func TestHandlerLeavesItsRun(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	root, dir := rootOf(t)
	over := make(chan error, 1)
	slow := slowSink{sideeffect.File(root, "x"), make(chan struct{}), make(chan struct{})}
	p.store.call = func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
		se, _ := rpc.SideEffect(ctx)
		go func() { over <- se.Run(context.WithoutCancel(ctx), up(slow), sideeffect.AwaitRemote) }()
		<-slow.entered
		return &storepb.Receipt{}, nil
	}
	d := up(sideeffect.Memory(content(300000)))
	_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
	close(slow.gate)
	runErr := <-over
	if left := entries(t, dir); err == nil || runErr == nil || len(left) > 0 {
		t.Errorf("call: %v; Run: %v; the folder has %v", err, runErr, left)
	}
}

// TestReservedRoomIsGivenBack: room reserved for what was announced does not stay
// with a file that was cut.
func TestReservedRoomIsGivenBack(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	root, dir := rootOf(t)
	p.store.call = run(func() *sideeffect.Descriptor { return up(sideeffect.File(root, "x")) }, sideeffect.AwaitRemote)
	d := up(sideeffect.Memory(make([]byte, 64<<20)))
	d.Quota, d.OverQuota = 1<<20+5, sideeffect.Cut
	_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
	fi, serr := os.Stat(filepath.Join(dir, "x"))
	if serr != nil {
		t.Fatal(err, serr)
	}
	st := fi.Sys().(*syscall.Stat_t)
	if err != nil || fi.Size() != 1<<20+5 || st.Blocks*512 > 4<<20 {
		t.Errorf("%v; %d bytes, which occupy %d on disk", err, fi.Size(), st.Blocks*512)
	}
}

// TestTwoRunsOfOneEffect: a mistake of a handler fails one of its calls, not the
// process.
func TestTwoRunsOfOneEffect(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	root, _ := rootOf(t)
	p.store.call = func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
		se, _ := rpc.SideEffect(ctx)
		var wg sync.WaitGroup
		var failed atomic.Int32
		for range 2 {
			wg.Go(func() {
				if se.Run(ctx, up(sideeffect.File(root, "x")), sideeffect.AwaitRemote) != nil {
					failed.Add(1)
				}
			})
		}
		wg.Wait()
		if failed.Load() != 1 {
			t.Errorf("%d of two Runs failed", failed.Load())
		}
		return &storepb.Receipt{}, nil
	}
	for range 20 {
		if _, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(up(sideeffect.Memory(content(300000))))); err != nil {
			t.Error(err)
		}
	}
}
