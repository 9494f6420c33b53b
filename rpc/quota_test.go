package rpc_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// TestQuotaTouchesNothing: a transfer whose announced size is over a quota is
// refused before the sink opens, on every road and at either end: an old target
// is not emptied, written to or locked, and a new one is not made.
func TestQuotaTouchesNothing(t *testing.T) {
	onRoads(t, func(t *testing.T, p *pair, ctx context.Context, n int) {
		for _, mode := range []sideeffect.Mode{sideeffect.Truncate, sideeffect.Append, sideeffect.AtOffset, sideeffect.Replace} {
			for _, dir := range []sideeffect.Direction{sideeffect.ClientToServer, sideeffect.ServerToClient} {
				for _, limited := range []string{"source", "sink"} {
					for _, old := range []bool{true, false} {
						t.Run(fmt.Sprint(mode, dir, " limit at the ", limited, " old target ", old), func(t *testing.T) {
							testUntouched(t, p, ctx, n, mode, dir, limited == "sink", old)
						})
					}
				}
			}
		}
		p.works(ctx)
	})
}

func testUntouched(t *testing.T, p *pair, ctx context.Context, n int, mode sideeffect.Mode, dir sideeffect.Direction, atSink, old bool) {
	root, folder := rootOf(t)
	name := filepath.Join(folder, "x")
	if old {
		if err := os.WriteFile(name, []byte("old content"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := stamp(t, folder)
	source, sink := up(sideeffect.Memory(content(n))), up(sideeffect.File(root, "x"))
	source.Direction, sink.Direction, sink.Mode = dir, dir, mode
	if mode == sideeffect.AtOffset {
		sink.Offset = 3
	}
	if atSink {
		sink.Quota = int64(n - 1)
	} else {
		source.Quota = int64(n - 1)
	}
	mine, theirs := source, sink
	if dir == sideeffect.ServerToClient {
		mine, theirs = sink, source
	}
	p.store.call = run(func() *sideeffect.Descriptor { return theirs }, sideeffect.AwaitRemote)
	if n <= rpc.MaxInline && dir == sideeffect.ServerToClient {
		p.store.call = run(func() *sideeffect.Descriptor { return theirs }, sideeffect.AwaitLocal)
	}
	_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(mine))
	wantKind(t, err, fault.QuotaExceeded)
	if !mine.QuotaExceeded || mine.BytesTransferred != 0 {
		t.Errorf("result %+v", mine.Result)
	}
	if after := stamp(t, folder); after != before {
		t.Errorf("the folder was\n%s and is\n%s", before, after)
	}
	if got, _ := os.ReadFile(name); old && !bytes.Equal(got, []byte("old content")) {
		t.Errorf("the target holds %q", got)
	}
}

// stamp is everything that changes when something in a folder is touched.
func stamp(t *testing.T, folder string) string {
	t.Helper()
	var b bytes.Buffer
	for _, name := range append(entries(t, folder), ".") {
		fi, err := os.Stat(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		st := fi.Sys().(*syscall.Stat_t)
		fmt.Fprintln(&b, name, fi.Mode(), st.Ino, st.Size, st.Mtim, st.Ctim)
	}
	return b.String()
}

// TestLargestNumber: the largest int64 is as good as no quota or no size, at either end.
func TestLargestNumber(t *testing.T) {
	onRoads(t, func(t *testing.T, p *pair, ctx context.Context, n int) {
		for _, dir := range []sideeffect.Direction{sideeffect.ClientToServer, sideeffect.ServerToClient} {
			var got bytes.Buffer
			source, sink := up(sideeffect.Memory(content(n))), up(sideeffect.Buffer(&got))
			for _, d := range []*sideeffect.Descriptor{source, sink} {
				d.Direction, d.Quota = dir, math.MaxInt64
			}
			mine, theirs := source, sink
			if dir == sideeffect.ServerToClient {
				mine, theirs = sink, source
			}
			p.store.call = run(func() *sideeffect.Descriptor { return theirs }, sideeffect.AwaitLocal)
			if _, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(mine)); err != nil || !bytes.Equal(got.Bytes(), content(n)) {
				t.Errorf("quotas, %v: %d bytes, %v", dir, got.Len(), err)
			}
			source.Local = sideeffect.Reader(bytes.NewReader(content(n)), math.MaxInt64)
			_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(mine))
			wantKind(t, err, fault.SourceChanged) // it has promised more
		}
		p.works(ctx)
	})
}

// TestQuotaForgotten: who has not set a Quota is told so at their end, though it is the other one that
// says that the quota is exceeded.
func TestQuotaForgotten(t *testing.T) {
	onRoads(t, func(t *testing.T, p *pair, ctx context.Context, n int) {
		root, _ := rootOf(t)
		source, sink := down(sideeffect.Memory(content(n))), down(sideeffect.File(root, "x"))
		sink.Quota = 0
		p.store.call = run(func() *sideeffect.Descriptor { return source }, sideeffect.AwaitRemote)
		_, err := p.stub.Call(ctx, &storepb.Item{}, rpc.With(sink))
		for what, err := range map[string]error{"the call": err, "the descriptor": sink.Err} {
			wantKind(t, err, fault.QuotaExceeded)
			if !strings.Contains(err.Error(), "set it to a number, or to NoQuota") {
				t.Errorf("%s says: %v", what, err)
			}
		}
	})
}
