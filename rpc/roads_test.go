package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// sizes around what changes the road or the number of blocks.
var sizes = []int{0, 1, 1000, rpc.MaxInline, rpc.MaxInline + 1, 300 << 10, 3<<20 + 7}

// TestPut moves files and memory of all sizes to the server, on every carrier
// and every road.
func TestPut(t *testing.T) {
	for _, name := range carriers {
		t.Run(name, func(t *testing.T) {
			p := start(t, name, setup{})
			for _, road := range []sideeffect.Road{sideeffect.RoadAuto, sideeffect.RoadInline, sideeffect.RoadSession, sideeffect.RoadStream} {
				for _, n := range sizes {
					t.Run(fmt.Sprintf("%v/%d", road, n), func(t *testing.T) { testPut(t, p, road, n) })
				}
			}
		})
	}
}

// refusal is the kind of error that a forced road has to give here; 0: works.
func (p *pair) refusal(road sideeffect.Road, n int) fault.Kind {
	switch {
	case road == sideeffect.RoadInline && n > rpc.MaxInline:
		return fault.Invalid
	case road == sideeffect.RoadSession && p.client.HTTP2:
		return fault.Unsupported
	}
	return 0
}

func (p *pair) expected(road sideeffect.Road, n int) sideeffect.Road {
	switch {
	case road != sideeffect.RoadAuto:
		return road
	case n <= rpc.MaxInline:
		return sideeffect.RoadInline
	case p.client.HTTP2:
		return sideeffect.RoadStream
	}
	return sideeffect.RoadSession
}

func testPut(t *testing.T, p *pair, road sideeffect.Road, n int) {
	ctx, want := within(t), content(n)
	root, dir := rootOf(t)
	var theirs *sideeffect.Descriptor
	p.store.call = run(func() *sideeffect.Descriptor {
		theirs = up(sideeffect.File(root, "stored"))
		return theirs
	}, sideeffect.AwaitRemote)
	d := up(sideeffect.Memory(want))
	d.Road, d.Hash = road, sideeffect.SHA256
	reply, err := p.stub.Call(ctx, &storepb.Item{Name: "x"}, rpc.With(d))
	if k := p.refusal(road, n); k != 0 {
		wantKind(t, err, k)
		if d.LocalStatus != sideeffect.NotStarted || len(entries(t, dir)) != 0 {
			t.Fatalf("a refused effect has result %+v and left %v", d.Result, entries(t, dir))
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "stored"))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("stored %d bytes of %d: %v", len(got), n, err)
	}
	wantSuccess(t, d, n)
	wantSuccess(t, theirs, n)
	if reply.GetBytes() != int64(n) || d.Result.Road != p.expected(road, n) || d.Digest.IsZero() || !d.Digest.Equal(theirs.Digest) {
		t.Fatalf("reply %v, road %v, digests %v and %v", reply, d.Result.Road, d.Digest, theirs.Digest)
	}
	if d.Verified != "blocks+root+sha256" || theirs.Verified != d.Verified {
		t.Fatalf("verified %q and %q", d.Verified, theirs.Verified)
	}
}

// TestBlocks: blocks are of 1 MiB between processes of one host, and of 256 KiB on the stream road, whose
// messages HTTP/2 cuts into frames.
func TestBlocks(t *testing.T) {
	p := start(t, "tcp", setup{})
	for road, want := range map[sideeffect.Road]int64{sideeffect.RoadSession: 1, sideeffect.RoadStream: 4} {
		p.store.call = run(func() *sideeffect.Descriptor { return up(sideeffect.Writer(io.Discard)) }, sideeffect.AwaitRemote)
		d := up(sideeffect.Memory(content(1 << 20)))
		d.Road = road
		if _, err := p.stub.Call(within(t), &storepb.Item{Name: "x"}, rpc.With(d)); err != nil {
			t.Fatal(err)
		}
		if n := d.Stats.Blocks; n != want {
			t.Errorf("%v: 1 MiB came in %d blocks", road, n)
		}
	}
}

// TestGet is TestPut in the other direction.
func TestGet(t *testing.T) {
	for _, name := range carriers {
		t.Run(name, func(t *testing.T) {
			p := start(t, name, setup{})
			for _, await := range []sideeffect.Await{sideeffect.AwaitLocal, sideeffect.AwaitRemote} {
				for _, road := range []sideeffect.Road{sideeffect.RoadAuto, sideeffect.RoadInline, sideeffect.RoadSession, sideeffect.RoadStream} {
					for _, n := range sizes {
						t.Run(fmt.Sprintf("%v/%v/%d", await, road, n), func(t *testing.T) { testGet(t, p, await, road, n) })
					}
				}
			}
		})
	}
}

func testGet(t *testing.T, p *pair, await sideeffect.Await, road sideeffect.Road, n int) {
	ctx, want := within(t), content(n)
	root, dir := rootOf(t)
	var theirs *sideeffect.Descriptor
	p.store.call = run(func() *sideeffect.Descriptor {
		theirs = down(sideeffect.Memory(want))
		return theirs
	}, await)
	d := down(sideeffect.File(root, "got"))
	d.Road, d.Hash = road, sideeffect.BLAKE3
	_, err := p.stub.Call(ctx, &storepb.Item{Name: "x"}, rpc.With(d))
	k := p.refusal(road, n)
	if road == sideeffect.RoadInline && await == sideeffect.AwaitRemote && k == 0 {
		k = fault.Invalid
	}
	if k != 0 {
		wantKind(t, err, k)
		if len(entries(t, dir)) != 0 {
			t.Fatalf("a refused effect left %v", entries(t, dir))
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "got"))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes of %d: %v", len(got), n, err)
	}
	wantSuccess(t, d, n)
	expected := p.expected(road, n)
	if await == sideeffect.AwaitRemote {
		if road == sideeffect.RoadAuto {
			expected = p.expected(road, rpc.MaxInline+1)
		}
		wantSuccess(t, theirs, n)
	} else if theirs.LocalStatus != sideeffect.Success || theirs.Err != nil {
		t.Fatalf("server's result %+v", theirs.Result)
	}
	if d.Result.Road != expected || theirs.Result.Road != expected || d.Verified != "blocks+root+blake3" {
		t.Fatalf("roads %v and %v, want %v; verified %q", d.Result.Road, theirs.Result.Road, expected, d.Verified)
	}
}

// TestSeveral: sixteen effects both ways in one call, run in another order.
func TestSeveral(t *testing.T) {
	for _, name := range []string{"tcp", "http2"} {
		t.Run(name, func(t *testing.T) {
			p, ctx := start(t, name, setup{}), within(t)
			var stored [rpc.MaxEffects]bytes.Buffer
			p.store.call = func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
				all := rpc.SideEffects(ctx)
				for i := len(all) - 1; i >= 0; i-- {
					se := all[i]
					d := up(sideeffect.Buffer(&stored[i]))
					if se.Direction() == sideeffect.ServerToClient {
						d = down(sideeffect.Memory(content(5000 * i)))
					}
					if err := se.Run(ctx, d, sideeffect.AwaitLocal); err != nil {
						return nil, err
					}
				}
				return &storepb.Receipt{}, nil
			}
			var ds []*sideeffect.Descriptor
			var got [rpc.MaxEffects]bytes.Buffer
			for i := range rpc.MaxEffects {
				if i%2 == 0 {
					ds = append(ds, up(sideeffect.Memory(content(5000*i))))
				} else {
					ds = append(ds, down(sideeffect.Buffer(&got[i])))
				}
			}
			if _, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(ds[:5]...), rpc.With(ds[5:]...)); err != nil {
				t.Fatal(err)
			}
			for i, d := range ds {
				wantSuccess(t, d, 5000*i)
				where := &stored[i]
				if i%2 == 1 {
					where = &got[i]
				}
				if !bytes.Equal(where.Bytes(), content(5000*i)) {
					t.Errorf("effect %d: %d bytes", i, where.Len())
				}
			}
			_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(ds...), rpc.With(up(sideeffect.Memory(nil))))
			wantKind(t, err, fault.Invalid)
		})
	}
}

// tardy is an identity whose sources take a time to say their size, so that others come meanwhile.
type tardy struct{ sideeffect.Identity }

func (s tardy) OpenSource(spec sideeffect.SourceSpec) (sideeffect.Source, error) {
	src, err := s.Identity.OpenSource(spec)
	return tardySource{src}, err
}

type tardySource struct{ sideeffect.Source }

func (s tardySource) Size() int64 {
	time.Sleep(3 * time.Millisecond)
	return s.Source.Size()
}

// TestReplyFilledAtOnce: effects that a handler runs side by side take no more room in the reply than
// there is.
func TestReplyFilledAtOnce(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	const n = rpc.MaxInline/4 + 1 // so that three fit
	p.store.call = func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
		var all sync.WaitGroup
		var errs [rpc.MaxEffects]error
		begin := make(chan struct{})
		for i, se := range rpc.SideEffects(ctx) {
			all.Go(func() {
				<-begin
				errs[i] = se.Run(ctx, down(tardy{sideeffect.Memory(content(n))}), sideeffect.AwaitLocal)
			})
		}
		close(begin)
		all.Wait()
		return &storepb.Receipt{}, errors.Join(errs[:]...)
	}
	for range 3 {
		var ds []*sideeffect.Descriptor
		var got [rpc.MaxEffects]bytes.Buffer
		for i := range got {
			ds = append(ds, down(sideeffect.Buffer(&got[i])))
		}
		if _, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(ds...)); err != nil {
			t.Fatal(err)
		}
		inline := 0
		for _, d := range ds {
			wantSuccess(t, d, n)
			if d.Result.Road == sideeffect.RoadInline {
				inline++
			}
		}
		if inline != 3 {
			t.Fatalf("%d effects went inside the reply", inline)
		}
	}
}

// TestStreaming: side effects of the three kinds of streaming calls.
func TestStreaming(t *testing.T) {
	for _, name := range carriers {
		t.Run(name, func(t *testing.T) {
			p, ctx := start(t, name, setup{}), within(t)
			const n = 200 << 10
			p.store.gather = func(st grpc.ClientStreamingServer[storepb.Item, storepb.Receipt]) error {
				var b bytes.Buffer
				r, err := run(func() *sideeffect.Descriptor { return up(sideeffect.Buffer(&b)) }, sideeffect.AwaitRemote)(st.Context(), &storepb.Item{})
				if err != nil {
					return err
				}
				for {
					if _, err := st.Recv(); err != nil {
						return st.SendAndClose(r)
					}
				}
			}
			p.store.watch = func(i *storepb.Item, st grpc.ServerStreamingServer[storepb.Receipt]) error {
				r, err := run(func() *sideeffect.Descriptor { return down(sideeffect.Memory(content(n))) }, sideeffect.AwaitLocal)(st.Context(), i)
				if err != nil {
					return err
				}
				return st.Send(r)
			}
			p.store.talk = func(st grpc.BidiStreamingServer[storepb.Item, storepb.Receipt]) error {
				i, err := st.Recv()
				if err != nil {
					return err
				}
				return st.Send(&storepb.Receipt{Name: i.GetName()}) // does not run it
			}
			d := up(sideeffect.Memory(content(n)))
			g, err := p.stub.Gather(ctx, rpc.With(d))
			if err != nil {
				t.Fatal(err)
			}
			if err := g.Send(&storepb.Item{}); err != nil {
				t.Fatal(err)
			}
			if r, err := g.CloseAndRecv(); err != nil || r.GetBytes() != n {
				t.Fatal(r, err)
			}
			wantSuccess(t, d, n)

			var got bytes.Buffer
			d = down(sideeffect.Buffer(&got))
			w, err := p.stub.Watch(ctx, &storepb.Item{}, rpc.With(d))
			if err != nil {
				t.Fatal(err)
			}
			for err == nil {
				_, err = w.Recv()
			}
			if err.Error() != "EOF" || !bytes.Equal(got.Bytes(), content(n)) {
				t.Fatal(err, got.Len())
			}
			wantSuccess(t, d, n)

			d = up(sideeffect.Memory(content(n)))
			b, err := p.stub.Talk(ctx, rpc.With(d))
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Send(&storepb.Item{Name: "hello"}); err != nil {
				t.Fatal(err)
			}
			if r, err := b.Recv(); err != nil || r.GetName() != "hello" {
				t.Fatal(r, err)
			}
			_, err = b.Recv()
			wantKind(t, err, fault.NotStarted)
			wantCode(t, err, codes.FailedPrecondition)
			if d.LocalStatus != sideeffect.NotStarted {
				t.Fatalf("result %+v", d.Result)
			}
		})
	}
}

// TestClientsBlocks: a client's configuration bounds the blocks of what it takes, and pace those of both ends.
func TestClientsBlocks(t *testing.T) {
	p := start(t, "tcp", setup{withoutClient: true})
	for _, tc := range []struct {
		name   string
		flow   flow.Config
		change func(source, sink *sideeffect.Descriptor)
		want   int64
	}{
		{"as the server would", flow.Config{}, func(_, _ *sideeffect.Descriptor) {}, 8},
		{"as configured", flow.Config{BlockSize: 64 << 10}, func(_, _ *sideeffect.Descriptor) {}, 128},
		{"a window of the sink", flow.Config{}, func(_, sink *sideeffect.Descriptor) { sink.Params.Window = 1 << 20 }, 32},
		{"a paced source", flow.Config{}, func(source, _ *sideeffect.Descriptor) { source.Pace = unpaced }, 32},
		{"a paced sink", flow.Config{}, func(_, sink *sideeffect.Descriptor) { sink.Pace = unpaced }, 32},
		{"a wish of the sink", flow.Config{}, func(_, sink *sideeffect.Descriptor) { sink.Params.BlockSize = 512 << 10 }, 16},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cc := must(rpc.DialOver(must(carrier.NewDialer(p.address, carrier.Options{})), rpc.ClientConfig{Flow: tc.flow}))
			defer cc.Close()
			for _, upload := range []bool{true, false} {
				source, sink := up(sideeffect.Memory(content(8<<20))), up(sideeffect.Writer(io.Discard))
				mine, theirs := source, sink
				if !upload {
					mine, theirs = sink, source
					mine.Direction, theirs.Direction = sideeffect.ServerToClient, sideeffect.ServerToClient
				}
				tc.change(source, sink)
				p.store.call = run(func() *sideeffect.Descriptor { return theirs }, sideeffect.AwaitRemote)
				if _, err := storepb.NewStoreClient(cc).Call(within(t), &storepb.Item{Name: "x"}, rpc.With(mine)); err != nil {
					t.Fatal(err)
				}
				if n := sink.Stats.Blocks; n != tc.want {
					t.Errorf("upload %v: 8 MiB in %d blocks, want %d", upload, n, tc.want)
				}
			}
		})
	}
}

func unpaced(context.Context, int) error { return nil }
