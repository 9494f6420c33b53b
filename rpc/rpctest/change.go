package rpctest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

const (
	changeRuns = 20      // of each sort of change
	changeSize = 1 << 20 // of the source, in bytes
)

// change is what happens to a source while it is read.
type change struct {
	name string
	do   func(path string, other []byte) error
}

func changes() []change {
	return []change{
		{"truncated", func(p string, _ []byte) error { return os.Truncate(p, changeSize/2) }},
		{"appended", func(p string, other []byte) error {
			f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.Write(other[:1000])
			return err
		}},
		{"overwritten", func(p string, other []byte) error {
			f, err := os.OpenFile(p, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt(other, 0)
			return err
		}},
		{"replaced", func(p string, other []byte) error {
			if err := os.WriteFile(p+".new", other, 0o600); err != nil {
				return err
			}
			return os.Rename(p+".new", p)
		}},
		{"deleted", func(p string, _ []byte) error { return os.Remove(p) }},
	}
}

// FaultSource changes the source while it is read: the outcome is
// fault.SourceChanged or exactly one version, never a mixture. The old version is dated
// back, because nothing can be told within one tick of the file system's clock.
func FaultSource(t *testing.T, connect Connect) {
	b := connected(t, connect)
	s := newShelf(t, "")
	old := Content(changeSize, true)
	other := Content(changeSize+1, true)[:changeSize]
	rng := rand.New(rand.NewPCG(3, 4))
	for _, ch := range changes() {
		for i := range changeRuns {
			dir := directions()[i%2]
			s.put(t, "source", old)
			past := time.Now().Add(-time.Hour)
			if err := os.Chtimes(s.path("source"), past, past); err != nil {
				t.Fatal(err)
			}
			at, got := rng.IntN(changeSize), new(bytes.Buffer)
			var once sync.Once
			sink := writer(func(p []byte) (int, error) {
				if got.Len()+len(p) > at {
					once.Do(func() {
						if err := ch.do(s.path("source"), other); err != nil {
							t.Error(err)
						}
					})
				}
				return got.Write(p)
			})
			x := between(dir, sideeffect.RoadAuto, sideeffect.File(s.root, "source"), sideeffect.Writer(sink))
			x.source.Params.BlockSize, x.sink.Params.BlockSize = 64<<10, 64<<10
			err := b.move(within(t), fmt.Sprint(ch.name, i), x)
			switch {
			case err != nil:
				x.failed(t, err, fault.SourceChanged)
			case !bytes.Equal(got.Bytes(), old) && !bytes.Equal(got.Bytes(), other):
				t.Errorf("%s at %d, %v: a mixture of %d bytes is a success", ch.name, at, dir, got.Len())
			}
		}
	}
	b.works(within(t), t)
}

// FaultDisk fails the sink's disk: full at the n-th write, broken at the n-th
// sync. The error is typed, the old file stays, nothing else is left.
func FaultDisk(t *testing.T, connect Connect) {
	b := connected(t, connect)
	b.each(t, func(t *testing.T, ctx context.Context, dir sideeffect.Direction, l lane) {
		for _, f := range diskFaults() {
			for nth := 1; nth <= 3; nth++ {
				for _, mode := range []sideeffect.Mode{sideeffect.Replace, sideeffect.Append} {
					b.failDisk(ctx, t, dir, l, f, nth, mode)
				}
			}
		}
	})
}

// failDisk makes one transfer whose disk fails at the n-th operation and then
// for good.
func (b *bench) failDisk(ctx context.Context, t *testing.T, dir sideeffect.Direction, l lane, f diskFault, nth int, mode sideeffect.Mode) {
	s, count := newShelf(t, ""), 0
	s.put(t, "sink", filler(10))
	disk := Disk{Fail: func(op string) error {
		if op != f.op {
			return nil
		}
		if count++; count < nth {
			return nil
		}
		return f.err
	}}
	x := between(dir, l.road, sideeffect.Memory(Content(l.size, true)), sideeffect.FileOn(disk, s.root, "sink"))
	x.sink.Params.BlockSize, x.source.Params.BlockSize = 16<<10, 16<<10
	x.sink.Params.SyncEvery, x.sink.Mode = 100<<10, mode
	err := b.move(ctx, "disk", x)
	if count < nth {
		x.succeeded(t, err, l.size)
		return
	}
	x.failed(t, err, fault.KindOf(f.err))
	got, _ := os.ReadFile(s.path("sink"))
	if left := s.names(t); len(left) != 1 || !bytes.Equal(got, filler(10)) {
		t.Errorf("%v, %s %d: left %q, the old file has %d bytes", mode, f.op, nth, left, len(got))
	}
}
