package rpctest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

const (
	killRuns   = 12
	killSize   = 4 << 20
	killWindow = 512 << 10 // of the sessions that FaultKilled is given
)

// kill is one transfer whose connections are cut when its sink has written so
// many bytes.
func kill(t *testing.T, b *bench, s *shelf, dir sideeffect.Direction, name string, at int64) (transfer, error) {
	t.Helper()
	var written atomic.Int64
	var once sync.Once
	disk := Disk{Fail: func(op string) error {
		if op == "write" && written.Add(32<<10) > at {
			once.Do(b.Cut)
		}
		return nil
	}}
	x := between(dir, sideeffect.RoadAuto, sideeffect.File(s.root, "source"), sideeffect.FileOn(disk, s.root, "sink"))
	for _, d := range []*sideeffect.Descriptor{x.source, x.sink} {
		d.Hash, d.Params.BlockSize, d.Params.SyncEvery = sideeffect.SHA256, 32<<10, 64<<10
	}
	x.sink.Resume = true
	return x, b.move(within(t), name, x)
}

// FaultKilled cuts all connections at random points of transfers whose
// sessions cannot go on, and starts them again with Resume: at most what was
// missing and one window moves again. connect's sessions have a negative
// ResumeTimeout and windows of at most 512 KiB.
func FaultKilled(t *testing.T, connect Connect) {
	b := connected(t, connect)
	rng := rand.New(rand.NewPCG(5, 6))
	most := int64(0)
	for i := range killRuns {
		dir, s := directions()[i%2], newShelf(t, "")
		want := Content(killSize+i, true)
		s.put(t, "source", want)
		at := rng.Int64N(killSize-killWindow) + 64<<10
		x, err := kill(t, b, s, dir, fmt.Sprint("kill", i), at)
		if err == nil {
			t.Errorf("%v at %d: survived", dir, at)
			continue
		}
		typed(t, "client", x.client.Err)
		if x.sink.LocalStatus == sideeffect.Success || s.has(t, "sink") {
			t.Errorf("%v at %d: the sink calls it a success: %+v", dir, at, x.sink.Result)
		}
		missing := killSize + int64(i) - s.partial(t)
		x, err = kill(t, b, s, dir, fmt.Sprint("again", i), 1<<40)
		x.succeeded(t, err, killSize+i)
		again := int64(killSize+i) - x.sink.ResumedFrom
		most = max(most, again-missing)
		if x.sink.ResumedFrom == 0 || again > missing+killWindow {
			t.Errorf("%v at %d: %d bytes were missing, %d moved", dir, at, missing, again)
		}
		if got, _ := os.ReadFile(s.path("sink")); !bytes.Equal(got, want) || len(s.names(t)) != 2 {
			t.Errorf("%v at %d: the sink holds %d bytes beside %q", dir, at, len(got), s.names(t))
		}
	}
	t.Logf("%d kills, at most %d bytes moved twice", killRuns, most)
	b.works(within(t), t)
}

// FaultCut cuts all connections at random points of transfers whose sessions
// go on over new ones: the transfer succeeds by itself, or says that it is lost.
func FaultCut(t *testing.T, connect Connect) {
	b := connected(t, connect)
	rng := rand.New(rand.NewPCG(7, 8))
	lost := 0
	for i := range killRuns {
		dir, s := directions()[i%2], newShelf(t, "")
		want := Content(killSize+i, true)
		s.put(t, "source", want)
		x, err := kill(t, b, s, dir, fmt.Sprint("cut", i), rng.Int64N(killSize))
		if err != nil { // the gRPC call itself does not survive its connection
			lost++
			typed(t, "client", x.client.Err, fault.Lost, fault.DeadPeer, fault.Canceled, fault.Stale)
			continue
		}
		x.succeeded(t, err, killSize+i)
		if got, _ := os.ReadFile(s.path("sink")); !bytes.Equal(got, want) {
			t.Errorf("%v: the sink holds %d bytes", dir, len(got))
		}
	}
	t.Logf("%d of %d transfers ended with their call", lost, killRuns)
	b.works(within(t), t)
}

// partial is how many bytes an earlier transfer has left.
func (s *shelf) partial(t testing.TB) (size int64) {
	t.Helper()
	for _, n := range s.names(t) {
		if fi, err := os.Stat(s.path(n)); err == nil && strings.HasPrefix(n, ".") && !strings.HasSuffix(n, ".state") {
			size = fi.Size()
		}
	}
	return size
}

func (s *shelf) has(t testing.TB, name string) bool {
	t.Helper()
	_, err := os.Lstat(s.path(name))
	return err == nil
}
