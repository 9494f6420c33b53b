package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// roads are sizes and carriers that make every road.
var roads = []struct {
	name, carrier string
	n             int
	road          sideeffect.Road
}{
	{"inline", "tcp", 1000, sideeffect.RoadInline},
	{"session", "tcp", 300 << 10, sideeffect.RoadSession},
	{"pipe session", "pipe", 300 << 10, sideeffect.RoadSession},
	{"stream", "http2", 300 << 10, sideeffect.RoadStream},
}

// onRoads runs a test on every road.
func onRoads(t *testing.T, f func(t *testing.T, p *pair, ctx context.Context, n int)) {
	for _, r := range roads {
		t.Run(r.name, func(t *testing.T) { f(t, start(t, r.carrier, setup{}), within(t), r.n) })
	}
}

// works checks that the session was not poisoned by what went before.
func (p *pair) works(ctx context.Context) {
	p.t.Helper()
	for _, n := range []int{10, 100 << 10} {
		var b bytes.Buffer
		p.store.call = run(func() *sideeffect.Descriptor { return up(sideeffect.Buffer(&b)) }, sideeffect.AwaitRemote)
		d := up(sideeffect.Memory(content(n)))
		if _, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d)); err != nil || !bytes.Equal(b.Bytes(), content(n)) {
			p.t.Fatalf("the next call: %v, %d bytes", err, b.Len())
		}
	}
}

func TestHandlerNeverRunsIt(t *testing.T) {
	onRoads(t, func(t *testing.T, p *pair, ctx context.Context, n int) {
		p.store.call = func(context.Context, *storepb.Item) (*storepb.Receipt, error) {
			return &storepb.Receipt{Name: "ran"}, nil
		}
		root, dir := rootOf(t)
		for _, d := range []*sideeffect.Descriptor{up(sideeffect.Memory(content(n))), down(sideeffect.File(root, "x"))} {
			_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
			wantKind(t, err, fault.NotStarted)
			wantCode(t, err, codes.FailedPrecondition)
			if d.RemoteStatus == sideeffect.Success || d.BytesTransferred != 0 || d.Err == nil {
				t.Fatalf("result %+v", d.Result)
			}
			d.Optional = true
			r, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
			if err != nil || r.GetName() != "ran" {
				t.Fatal(r, err)
			}
		}
		if len(entries(t, dir)) != 0 {
			t.Fatalf("left %v", entries(t, dir))
		}
		p.works(ctx)
	})
}

func TestHandlerFails(t *testing.T) {
	onRoads(t, func(t *testing.T, p *pair, ctx context.Context, n int) {
		root, dir := rootOf(t)
		// Before its effect.
		p.store.call = func(context.Context, *storepb.Item) (*storepb.Receipt, error) {
			return nil, status.Error(codes.AlreadyExists, "mine")
		}
		for _, d := range []*sideeffect.Descriptor{up(sideeffect.Memory(content(n))), down(sideeffect.File(root, "x"))} {
			_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
			wantCode(t, err, codes.AlreadyExists)
			if d.LocalStatus == sideeffect.Success || d.RemoteStatus == sideeffect.Success {
				t.Fatalf("result %+v", d.Result)
			}
		}
		// With a fault, which the client finds.
		p.store.call = func(context.Context, *storepb.Item) (*storepb.Receipt, error) {
			return nil, fault.New("find shelf", fault.Overloaded, "full")
		}
		_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(up(sideeffect.Memory(content(n)))))
		wantKind(t, err, fault.Overloaded)
		wantCode(t, err, codes.ResourceExhausted)
		_, err = p.stub.Call(ctx, &storepb.Item{})
		wantKind(t, err, fault.Overloaded)
		// After its effect: the upload stays stored; inside an error nothing comes back.
		p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
			var b bytes.Buffer
			if _, err := run(func() *sideeffect.Descriptor { return up(sideeffect.Buffer(&b)) }, sideeffect.AwaitRemote)(ctx, i); err != nil {
				return nil, err
			}
			return nil, status.Error(codes.Aborted, "after")
		}
		d := up(sideeffect.Memory(content(n)))
		_, err = p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
		wantCode(t, err, codes.Aborted)
		wantSuccess(t, d, n)
		p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
			_, err := run(func() *sideeffect.Descriptor { return down(sideeffect.Memory(content(n))) }, sideeffect.AwaitLocal)(ctx, i)
			if err != nil {
				return nil, err
			}
			return nil, status.Error(codes.Aborted, "after")
		}
		d = down(sideeffect.File(root, "y"))
		_, err = p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
		wantCode(t, err, codes.Aborted)
		if inline := n <= rpc.MaxInline; inline == (d.LocalStatus == sideeffect.Success) || inline && len(entries(t, dir)) != 0 {
			t.Fatalf("result %+v, left %v", d.Result, entries(t, dir))
		}
		p.works(ctx)
	})
}

// TestWrongWish: a handler that wants something else than the client offers
// gets an Invalid error, may try again, and the effect still runs once only.
func TestWrongWish(t *testing.T) {
	onRoads(t, func(t *testing.T, p *pair, ctx context.Context, n int) {
		p.store.call = func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
			se, err := rpc.SideEffect(ctx)
			if err != nil {
				return nil, err
			}
			if se.Size() != int64(n) || se.Limit() != sideeffect.NoQuota || se.Kind() != "file" || se.Index() != 0 {
				t.Errorf("hints %v %v %v %v", se.Size(), se.Limit(), se.Kind(), se.Index())
			}
			var b bytes.Buffer
			wantKind(t, se.Run(ctx, nil, sideeffect.AwaitLocal), fault.Invalid)
			wantKind(t, se.Run(ctx, down(sideeffect.Memory(nil)), sideeffect.AwaitLocal), fault.Invalid)
			pipe := up(sideeffect.Buffer(&b))
			pipe.Kind = sideeffect.KindPipe
			wantKind(t, se.Run(ctx, pipe, sideeffect.AwaitLocal), fault.Invalid)
			wantKind(t, se.Start(), fault.Invalid)
			d := up(sideeffect.Buffer(&b))
			if err := se.Init(ctx, d); err != nil {
				return nil, err
			}
			if err := se.Check(ctx, sideeffect.AwaitRemote); err != nil {
				return nil, err
			}
			wantSuccess(t, d, n)
			wantKind(t, se.Run(ctx, up(sideeffect.Buffer(&b)), sideeffect.AwaitLocal), fault.Invalid)
			return &storepb.Receipt{}, nil
		}
		d := up(sideeffect.Memory(content(n)))
		if _, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d)); err != nil {
			t.Fatal(err)
		}
		wantSuccess(t, d, n)
		_, err := rpc.SideEffect(ctx)
		wantKind(t, err, fault.NotFound)
	})
}

// TestQuota: at either end, either policy, on every road; never a byte too many.
func TestQuota(t *testing.T) {
	onRoads(t, func(t *testing.T, p *pair, ctx context.Context, n int) {
		for _, policy := range []sideeffect.OverQuota{sideeffect.Fail, sideeffect.Cut} {
			for _, there := range []bool{false, true} {
				for _, dir := range []sideeffect.Direction{sideeffect.ClientToServer, sideeffect.ServerToClient} {
					testQuota(t, p, ctx, n, policy, there, dir)
				}
			}
		}
		p.works(ctx)
	})
}

func testQuota(t *testing.T, p *pair, ctx context.Context, n int, policy sideeffect.OverQuota, there bool, dir sideeffect.Direction) {
	t.Helper()
	root, folder := rootOf(t)
	source, sink := sideeffect.Memory(content(n)), sideeffect.File(root, "x")
	mine, theirs := up(source), up(sink)
	if dir == sideeffect.ServerToClient {
		mine, theirs = down(sink), down(source)
	}
	limited := mine
	if there {
		limited = theirs
	}
	limited.Quota, limited.OverQuota = int64(n/2), policy
	p.store.call = run(func() *sideeffect.Descriptor { return theirs }, sideeffect.AwaitLocal)
	_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(mine))
	if policy == sideeffect.Fail {
		wantKind(t, err, fault.QuotaExceeded)
		wantCode(t, err, codes.ResourceExhausted)
		if len(entries(t, folder)) != 0 || !mine.QuotaExceeded {
			t.Fatalf("%v, limit there %v: left %v, result %+v", dir, there, entries(t, folder), mine.Result)
		}
		return
	}
	if err != nil {
		t.Fatalf("%v, limit there %v: %v", dir, there, err)
	}
	got, err := os.ReadFile(filepath.Join(folder, "x"))
	if err != nil || !bytes.Equal(got, content(n)[:n/2]) || !mine.QuotaExceeded || mine.BytesTransferred != int64(n/2) {
		t.Fatalf("%v, limit there %v: stored %d of %d: %v, result %+v", dir, there, len(got), n/2, err, mine.Result)
	}
}

// TestModes: offsets, append and create behave the same on every road.
func TestModes(t *testing.T) {
	onRoads(t, func(t *testing.T, p *pair, ctx context.Context, n int) {
		root, dir := rootOf(t)
		name := filepath.Join(dir, "f")
		put := func(mode sideeffect.Mode, offset int64) error {
			p.store.call = run(func() *sideeffect.Descriptor {
				d := up(sideeffect.File(root, "f"))
				d.Mode, d.Offset = mode, offset
				return d
			}, sideeffect.AwaitRemote)
			d := up(sideeffect.Memory(content(n)))
			d.Offset = 1 // of the source
			_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
			return err
		}
		want := append([]byte("old"), content(n)[1:]...)
		os.WriteFile(name, []byte("old"), 0o600)
		wantKind(t, put(sideeffect.CreateNew, 0), fault.Exists)
		if err := put(sideeffect.Append, 0); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(name); !bytes.Equal(got, want) {
			t.Fatalf("append made %d bytes", len(got))
		}
		if err := put(sideeffect.AtOffset, 0); err != nil { // offset 0 does not truncate
			t.Fatal(err)
		}
		copy(want, content(n)[1:])
		if got, _ := os.ReadFile(name); !bytes.Equal(got, want) {
			t.Fatalf("at offset 0 made %d bytes", len(got))
		}
		if err := put(sideeffect.Replace, 0); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(name); !bytes.Equal(got, content(n)[1:]) {
			t.Fatalf("replace made %d bytes", len(got))
		}
	})
}

// TestNoFile: a file that is not there fails the call before it is made; at
// the server it fails the effect, and the client's sink is not touched.
func TestNoFile(t *testing.T) {
	onRoads(t, func(t *testing.T, p *pair, ctx context.Context, n int) {
		root, dir := rootOf(t)
		called := false
		p.store.call = func(context.Context, *storepb.Item) (*storepb.Receipt, error) {
			called = true
			return &storepb.Receipt{}, nil
		}
		_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(up(sideeffect.File(root, "missing"))))
		wantKind(t, err, fault.NotFound)
		wantCode(t, err, codes.NotFound)
		if called {
			t.Fatal("the call was made without its file")
		}
		p.store.call = run(func() *sideeffect.Descriptor { return down(sideeffect.File(root, "missing")) }, sideeffect.AwaitLocal)
		d := down(sideeffect.File(root, "mine"))
		_, err = p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
		wantKind(t, err, fault.NotFound)
		if len(entries(t, dir)) != 0 {
			t.Fatalf("left %v", entries(t, dir))
		}
		p.works(ctx)
	})
}

// lateWriter fails when everything has been written.
type lateWriter struct{ bytes.Buffer }

func (*lateWriter) Flush() error { return syscall.ENOSPC }

// TestLateFailure: a sink that fails after the last byte fails both ends; the
// source never sees a success before the verdict.
func TestLateFailure(t *testing.T) {
	onRoads(t, func(t *testing.T, p *pair, ctx context.Context, n int) {
		for _, await := range []sideeffect.Await{sideeffect.AwaitLocal, sideeffect.AwaitRemote} {
			theirs := up(sideeffect.Writer(&lateWriter{}))
			p.store.call = run(func() *sideeffect.Descriptor { return theirs }, await)
			d := up(sideeffect.Memory(content(n)))
			_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
			wantKind(t, err, fault.NoSpace)
			wantKind(t, theirs.Err, fault.NoSpace)
			if d.RemoteStatus != sideeffect.Failure || d.BytesTransferred != 0 || theirs.LocalStatus != sideeffect.Failure {
				t.Fatalf("results %+v and %+v", d.Result, theirs.Result)
			}
			theirs = down(sideeffect.Memory(content(n)))
			p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
				if l := rpc.SideEffects(ctx)[0].Limit(); l != int64(n+1) {
					t.Errorf("limit %d", l)
				}
				_, err := run(func() *sideeffect.Descriptor { return theirs }, await)(ctx, i)
				if await == sideeffect.AwaitRemote {
					wantKind(t, err, fault.NoSpace)
				}
				return &storepb.Receipt{}, nil
			}
			d = down(sideeffect.Writer(&lateWriter{}))
			d.Quota = int64(n + 1)
			_, err = p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
			wantKind(t, err, fault.NoSpace)
			if theirs.RemoteStatus == sideeffect.Success {
				t.Fatalf("the source believes %+v", theirs.Result)
			}
		}
	})
}

// TestDigestsDiffer: the two ends may not want different algorithms; one may
// want what the other does not care about.
func TestDigestsDiffer(t *testing.T) {
	onRoads(t, func(t *testing.T, p *pair, ctx context.Context, n int) {
		for _, c := range []struct {
			mine, theirs sideeffect.Algorithm
			ok           bool
		}{
			{sideeffect.SHA256, sideeffect.SHA512, false},
			{sideeffect.SHA256, sideeffect.None, true},
			{sideeffect.None, sideeffect.BLAKE3, true},
		} {
			var b bytes.Buffer
			p.store.call = run(func() *sideeffect.Descriptor {
				d := up(sideeffect.Buffer(&b))
				d.Hash = c.theirs
				return d
			}, sideeffect.AwaitRemote)
			d := up(sideeffect.Memory(content(n)))
			d.Hash = c.mine
			_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
			if c.ok != (err == nil) {
				t.Fatalf("%v and %v: %v", c.mine, c.theirs, err)
			}
			if !c.ok {
				wantKind(t, err, fault.Invalid)
			}
		}
	})
}

// TestPipe: live bytes both ways while the call runs, over every session.
func TestPipe(t *testing.T) {
	for _, name := range carriers {
		t.Run(name, func(t *testing.T) {
			p, ctx := start(t, name, setup{}), within(t)
			p.store.call = func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
				se, err := rpc.SideEffect(ctx)
				if err != nil {
					return nil, err
				}
				var got bytes.Buffer
				d := up(sideeffect.Duplex(bytes.NewReader(content(200<<10)), &got))
				d.Kind = sideeffect.KindPipe
				if err := se.Run(ctx, d, sideeffect.AwaitRemote); err != nil {
					return nil, err
				}
				return &storepb.Receipt{Item: &storepb.Item{Body: got.Bytes()}}, nil
			}
			var got bytes.Buffer
			d := up(sideeffect.Duplex(bytes.NewReader(content(100<<10)), &got))
			d.Kind = sideeffect.KindPipe
			r, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(d))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(r.GetItem().GetBody(), content(100<<10)) || !bytes.Equal(got.Bytes(), content(200<<10)) {
				t.Fatalf("%d and %d bytes", len(r.GetItem().GetBody()), got.Len())
			}
			wantSuccess(t, d, 300<<10)
		})
	}
}

// TestCollision: messages that have the inline field's number themselves.
func TestCollision(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	var b bytes.Buffer
	p.store.clash = func(ctx context.Context, in *storepb.Taken) (*storepb.Receipt, error) {
		if string(in.GetMine()) != "mine" {
			t.Errorf("request's own field is %q", in.GetMine())
		}
		return run(func() *sideeffect.Descriptor { return up(sideeffect.Buffer(&b)) }, sideeffect.AwaitRemote)(ctx, nil)
	}
	p.store.back = func(ctx context.Context, in *storepb.Item) (*storepb.Taken, error) {
		_, err := run(func() *sideeffect.Descriptor { return down(sideeffect.Memory(content(10))) }, sideeffect.AwaitLocal)(ctx, in)
		return &storepb.Taken{Yours: []byte("yours")}, err
	}
	d := up(sideeffect.Memory(content(10)))
	if _, err := p.stub.Clash(ctx, &storepb.Taken{Mine: []byte("mine")}, rpc.With(d)); err != nil || d.Result.Road != sideeffect.RoadSession {
		t.Fatal(err, d.Result.Road)
	}
	d.Road = sideeffect.RoadInline
	_, err := p.stub.Clash(ctx, &storepb.Taken{Mine: []byte("mine")}, rpc.With(d))
	wantKind(t, err, fault.Unsupported)

	var got bytes.Buffer
	d = down(sideeffect.Buffer(&got))
	r, err := p.stub.ClashBack(ctx, &storepb.Item{}, rpc.With(d))
	if err != nil || string(r.GetYours()) != "yours" || d.Result.Road != sideeffect.RoadSession || got.Len() != 10 {
		t.Fatal(r, err, d.Result)
	}
	d.Road = sideeffect.RoadInline
	_, err = p.stub.ClashBack(ctx, &storepb.Item{}, rpc.With(d))
	wantKind(t, err, fault.Unsupported)

	// A request that carries the number already, as an unknown field.
	item := &storepb.Item{}
	item.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, rpc.InlineRequestField, protowire.BytesType), []byte("old")))
	p.store.call = run(func() *sideeffect.Descriptor { return up(sideeffect.Buffer(&b)) }, sideeffect.AwaitRemote)
	d = up(sideeffect.Memory(content(10)))
	if _, err := p.stub.Call(ctx, item, rpc.With(d)); err != nil || d.Result.Road != sideeffect.RoadSession {
		t.Fatal(err, d.Result)
	}
}

// TestPlainConnection: With on a connection that does not know it fails the
// call instead of losing the file.
func TestPlainConnection(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	p.store.call = func(context.Context, *storepb.Item) (*storepb.Receipt, error) {
		t.Error("the handler ran without its file")
		return &storepb.Receipt{}, nil
	}
	_, err := storepb.NewStoreClient(p.cc.GRPC()).Call(ctx, &storepb.Item{}, rpc.With(up(sideeffect.Memory(nil))))
	if err == nil {
		t.Fatal("the option was ignored")
	}
}

// TestMutableMessages: neither end's messages are touched by what rides in them.
func TestMutableMessages(t *testing.T) {
	kept := &storepb.Receipt{Name: "kept", Item: &storepb.Item{Name: "inner"}, Notes: []string{"a", "b"}, Counts: map[string]int64{"x": 1}}
	seen := 0
	interceptor := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if len(req.(*storepb.Item).ProtoReflect().GetUnknown()) != 0 {
			t.Error("the interceptor sees the request's field")
		}
		reply, err := next(ctx, req)
		seen++
		return reply, err
	}
	p, ctx := start(t, "tcp", setup{server: []grpc.ServerOption{grpc.UnaryInterceptor(interceptor)}}), within(t)
	p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
		all := rpc.SideEffects(ctx)
		var b bytes.Buffer
		err := errors.Join(all[0].Run(ctx, up(sideeffect.Buffer(&b)), sideeffect.AwaitLocal),
			all[1].Run(ctx, down(sideeffect.Memory(content(77))), sideeffect.AwaitLocal))
		return kept, err
	}
	for range 3 {
		request := &storepb.Item{Name: "req"}
		var got bytes.Buffer
		d, e := up(sideeffect.Memory(content(99))), down(sideeffect.Buffer(&got))
		r, err := p.stub.Call(ctx, request, rpc.With(d, e))
		if err != nil || !bytes.Equal(got.Bytes(), content(77)) || e.Result.Road != sideeffect.RoadInline {
			t.Fatal(err, got.Len())
		}
		if r.String() != kept.String() || len(r.ProtoReflect().GetUnknown()) != 0 || len(request.ProtoReflect().GetUnknown()) != 0 || len(kept.ProtoReflect().GetUnknown()) != 0 {
			t.Fatalf("messages changed: %v, %v", r, request)
		}
	}
	if seen != 3 {
		t.Fatal("interceptor ran", seen)
	}
}
