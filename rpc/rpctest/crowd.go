package rpctest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// crowdSize is how many transfers run at the same time.
const crowdSize = 100

// FaultCrowd runs a hundred transfers of all sorts at once, a third of which
// fail on purpose: no other one notices, and nothing is left.
func FaultCrowd(t *testing.T, connect Connect) {
	b, s, ctx := connected(t, connect), newShelf(t, ""), within(t)
	rng := rand.New(rand.NewPCG(9, 10))
	var wg sync.WaitGroup
	for i := range crowdSize {
		size, at := smallSizes[rng.IntN(len(smallSizes))]+rng.IntN(300<<10), rng.IntN(3)
		dir, ill := directions()[i%2], i%3 == 0
		wg.Go(func() { b.member(ctx, t, s, i, size, at, dir, ill) })
	}
	wg.Wait()
	for _, n := range s.names(t) {
		if strings.HasPrefix(n, ".") || strings.HasPrefix(n, "ill") {
			t.Errorf("left %q", n)
		}
	}
	b.works(ctx, t)
}

// member is one transfer of the crowd; an ill one fails in one of three ways.
func (b *bench) member(ctx context.Context, t *testing.T, s *shelf, i, size, how int, dir sideeffect.Direction, ill bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	name := fmt.Sprint("well", i)
	if ill {
		name = fmt.Sprint("ill", i)
	}
	disk := Disk{Fail: func(op string) error {
		switch {
		case !ill:
		case how == 0 && op == "sync":
			return syscall.EIO
		case how == 1 && op == "rename":
			cancel()
			return syscall.ENOSPC
		}
		return nil
	}}
	want := Content(size+1, true)
	x := between(dir, sideeffect.RoadAuto, sideeffect.Memory(want), sideeffect.FileOn(disk, s.root, name))
	x.source.Hash = sideeffect.Algorithm(i % 4)
	if ill && how == 2 {
		x.sink.Quota = int64(size)
	}
	err := b.move(ctx, name, x)
	if ill {
		x.failed(t, err, fault.IO, fault.NoSpace, fault.Canceled, fault.QuotaExceeded)
		return
	}
	x.succeeded(t, err, len(want))
	if got, err := s.root.ReadFile(name); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes of %d: %v", name, len(got), len(want), err)
	}
}
