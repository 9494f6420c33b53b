package rpc_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/rpc/rpctest"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// watched is an identity whose sources tell what is read of them, and can say
// that they are another version than they are.
type watched struct {
	sideeffect.Identity
	reading func(off int64) error // may be nil
	version sideeffect.Version    // zero: the true one
	read    atomic.Int64          // bytes
	opened  atomic.Int64
}

func (w *watched) OpenSource(spec sideeffect.SourceSpec) (sideeffect.Source, error) {
	src, err := w.Identity.OpenSource(spec)
	w.opened.Add(1)
	return &watchedSource{src, w}, err
}

type watchedSource struct {
	sideeffect.Source
	w *watched
}

func (s *watchedSource) Version() sideeffect.Version {
	if !s.w.version.IsZero() {
		return s.w.version
	}
	return s.Source.Version()
}

func (s *watchedSource) ReadBlock(p []byte, off int64) (int, error) {
	if s.w.reading != nil {
		if err := s.w.reading(off); err != nil {
			return 0, err
		}
	}
	n, err := s.Source.ReadBlock(p, off)
	s.w.read.Add(int64(n))
	return n, err
}

const resumeSize = 16 << 20 // several windows, of the largest blocks

// TestResume: a transfer that broke off goes on where the disk stands, at
// either end, on every session; the whole digest still holds.
func TestResume(t *testing.T) {
	onSessions(t, func(t *testing.T, p *pair, ctx context.Context) {
		for _, upload := range []bool{true, false} {
			r := newResumed(t, p, upload)
			r.breakOff(ctx)
			r.goOn(ctx, true)
		}
	})
}

// TestResumeChanged: what was kept of another version, or of other content
// under the same version, is never spliced.
func TestResumeChanged(t *testing.T) {
	onSessions(t, func(t *testing.T, p *pair, ctx context.Context) {
		for _, upload := range []bool{true, false} {
			for _, lie := range []bool{false, true} {
				r := newResumed(t, p, upload)
				r.breakOff(ctx)
				src, err := r.source.Identity.OpenSource(sideeffect.SourceSpec{})
				if err != nil {
					t.Fatal(err)
				}
				if lie {
					r.source.version = src.Version()
				}
				src.Close()
				r.want = bytes.Clone(r.want)
				r.want[100]++
				r.write()
				r.goOn(ctx, false)
			}
		}
	})
}

// TestResumeBeyondQuota: what was kept is more than the source may send now. Exactly its quota arrives.
func TestResumeBeyondQuota(t *testing.T) {
	onSessions(t, func(t *testing.T, p *pair, ctx context.Context) {
		for _, upload := range []bool{true, false} {
			r := newResumed(t, p, upload)
			r.breakOff(ctx)
			r.want = r.want[:100_000]
			r.change = func(source, _ *sideeffect.Descriptor) {
				source.Quota, source.OverQuota = int64(len(r.want)), sideeffect.Cut
			}
			r.goOn(ctx, false)
		}
	})
}

// TestResumeWithinBlock: a run that was cut within a block broke off behind its last byte. With that
// quota the next one needs no more; with a larger one it begins anew, for blocks from there
// would not end where blocks end.
func TestResumeWithinBlock(t *testing.T) {
	const quota = 100_000
	onSessions(t, func(t *testing.T, p *pair, ctx context.Context) {
		for _, upload := range []bool{true, false} {
			for _, larger := range []bool{true, false} {
				r := newResumed(t, p, upload)
				cut := func(_, sink *sideeffect.Descriptor) {
					sink.Quota, sink.OverQuota = quota, sideeffect.Cut
				}
				r.change = func(source, sink *sideeffect.Descriptor) {
					cut(source, sink)
					left := quota
					sink.Pace = func(_ context.Context, n int) error {
						if left -= n; left > 0 {
							return nil
						}
						return fault.New("pace", fault.IO, "injected")
					}
				}
				if _, _, err := r.call(ctx); err == nil {
					t.Fatal("the call was not broken off")
				}
				if r.change = nil; !larger {
					r.change, r.want = cut, r.want[:quota]
				}
				r.goOn(ctx, !larger)
			}
		}
	})
}

// TestResumeWithLargeBlocks: what came in large blocks goes on in them on a session that would choose smaller ones.
func TestResumeWithLargeBlocks(t *testing.T) {
	first, second := start(t, "tcp", setup{}), start(t, "tcp", setup{flow: flow.Config{BlockSize: 64 << 10}})
	for _, upload := range []bool{true, false} {
		r := newResumed(t, first, upload)
		r.breakOff(within(t))
		r.p = second
		r.goOn(within(t), true)
	}
}

// TestResumeInSmallerBlocks: where the source insists on smaller blocks than there were, the transfer begins anew.
func TestResumeInSmallerBlocks(t *testing.T) {
	onSessions(t, func(t *testing.T, p *pair, ctx context.Context) {
		for _, upload := range []bool{true, false} {
			r := newResumed(t, p, upload)
			r.breakOff(ctx)
			r.change = func(source, _ *sideeffect.Descriptor) { source.Params.BlockSize = 32 << 10 }
			r.goOn(ctx, upload) // a client takes what the server's sink proposes
		}
	})
}

// resumed is a transfer that is broken off and tried again.
type resumed struct {
	t            *testing.T
	p            *pair
	upload       bool
	from, to     *os.Root
	fromDir, dir string
	source       *watched
	disk         func(op string) error                     // asked before each operation on the sink's file; may be nil
	change       func(source, sink *sideeffect.Descriptor) // before the call; may be nil
	over         func()                                    // when the client's call is over, and perhaps not the server's; may be nil
	want         []byte
}

func newResumed(t *testing.T, p *pair, upload bool) *resumed {
	r := &resumed{t: t, p: p, upload: upload, want: content(resumeSize)}
	r.from, r.fromDir = rootOf(t)
	r.to, r.dir = rootOf(t)
	r.write()
	r.source = &watched{Identity: sideeffect.File(r.from, "f")}
	return r
}

func (r *resumed) write() {
	if err := os.WriteFile(filepath.Join(r.fromDir, "new"), r.want, 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(r.fromDir, "new"), filepath.Join(r.fromDir, "f")); err != nil {
		r.t.Fatal(err)
	}
}

// call makes the call and returns both ends' descriptors.
func (r *resumed) call(ctx context.Context) (source, sink *sideeffect.Descriptor, err error) {
	source, sink = up(r.source), up(sideeffect.File(r.to, "f"))
	if r.disk != nil {
		sink.Local = sideeffect.FileOn(rpctest.Disk{Fail: r.disk}, r.to, "f")
	}
	sink.Resume, sink.Params.SyncEvery = true, 64<<10
	sink.Hash = sideeffect.SHA256
	if r.change != nil {
		r.change(source, sink)
	}
	mine, theirs := source, sink
	if !r.upload {
		source.Direction, sink.Direction = sideeffect.ServerToClient, sideeffect.ServerToClient
		mine, theirs = sink, source
	}
	returned := make(chan struct{})
	r.p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
		defer close(returned)
		return run(func() *sideeffect.Descriptor { return theirs }, sideeffect.AwaitRemote)(ctx, i)
	}
	_, err = r.p.stub.Call(ctx, &storepb.Item{}, rpc.With(mine))
	if r.over != nil {
		r.over()
	}
	<-returned // a cancelled call is over earlier at the client
	return source, sink, err
}

// breakOff cancels the call when half of the source has been read.
func (r *resumed) breakOff(ctx context.Context) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.source.reading = func(off int64) error {
		if off < resumeSize/2 {
			return nil
		}
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	_, sink, err := r.call(ctx)
	if err == nil || sink.LocalStatus == sideeffect.Success {
		r.t.Fatalf("the call was not broken off: %v", err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "f")); err == nil {
		r.t.Fatal("the unfinished file has its name")
	}
	r.source.reading = nil
}

func (r *resumed) goOn(ctx context.Context, continues bool) {
	r.t.Helper()
	source, sink, err := r.call(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(r.dir, "f"))
	if err != nil || !bytes.Equal(got, r.want) {
		r.t.Fatalf("upload %v: %d bytes: %v", r.upload, len(got), err)
	}
	wantSuccess(r.t, source, len(r.want))
	wantSuccess(r.t, sink, len(r.want))
	if sink.Verified != "blocks+root+sha256" || (sink.ResumedFrom > 0) != continues || source.ResumedFrom != sink.ResumedFrom {
		r.t.Fatalf("upload %v: resumed from %d and %d, verified %q", r.upload, source.ResumedFrom, sink.ResumedFrom, sink.Verified)
	}
	if left := entries(r.t, r.dir); len(left) != 1 {
		r.t.Fatalf("left %v", left)
	}
}

// cutter keeps the connections it has made, to cut them.
type cutter struct {
	*carrier.Dialer
	mu    sync.Mutex
	conns []net.Conn
}

func (c *cutter) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := c.Dialer.Dial(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, conn)
	return conn, err
}

// TestLaneLost: the session loses its connections in the middle of an effect
// and gets new ones; the call does not notice.
func TestLaneLost(t *testing.T) {
	for _, upload := range []bool{true, false} {
		p, ctx := start(t, "tcp", setup{withoutClient: true}), within(t)
		d := &cutter{Dialer: must(carrier.NewDialer(p.address, carrier.Options{}))}
		cc := must(rpc.DialOver(d, rpc.ClientConfig{}))
		p.stub = storepb.NewStoreClient(cc)
		r := newResumed(t, p, upload)
		once := sync.Once{}
		r.source.reading = func(off int64) error {
			if off > resumeSize/2 {
				once.Do(func() { d.conns[0].Close() }) // the control lane
			}
			return nil
		}
		r.goOn(ctx, false)
		d.mu.Lock()
		if len(d.conns) < 3 {
			t.Errorf("%d connections were made: the lane was not lost", len(d.conns))
		}
		d.mu.Unlock()
		cc.Close()
	}
}
