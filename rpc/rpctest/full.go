package rpctest

import (
	"bytes"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// diskFault is an operation of Disk and how it fails.
type diskFault struct {
	op  string
	err syscall.Errno
}

func diskFaults() []diskFault {
	return []diskFault{{"write", syscall.ENOSPC}, {"write", syscall.EDQUOT}, {"write", syscall.EIO}, {"sync", syscall.EIO}}
}

// FaultFull fills a real file system of 8 MiB: contents that do not fit fail
// with fault.NoSpace and leave nothing, those that fit go on working. It
// needs the right to mount, and is skipped without it.
func FaultFull(t *testing.T, connect Connect) {
	dir := t.TempDir()
	if err := mountTmpfs(dir); err != nil {
		t.Skipf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	b := connected(t, connect)
	s := newShelf(t, dir)
	for _, dir := range directions() {
		for _, mode := range []sideeffect.Mode{sideeffect.Replace, sideeffect.CreateNew, sideeffect.Append} {
			for _, source := range []sideeffect.Identity{
				sideeffect.Memory(Content(9<<20, true)),
				sideeffect.Reader(bytes.NewReader(Content(9<<20, true)), -1), // no room can be reserved
			} {
				x := between(dir, sideeffect.RoadAuto, source, sideeffect.File(s.root, "sink"))
				x.sink.Mode = mode
				x.failed(t, b.move(within(t), "full", x), fault.NoSpace)
				if left := s.names(t); len(left) != 0 {
					t.Errorf("%v, %v: left %q", dir, mode, left)
				}
			}
		}
		x := between(dir, sideeffect.RoadAuto, sideeffect.Memory(Content(6<<20, true)), sideeffect.File(s.root, "sink"))
		x.succeeded(t, b.move(within(t), "fits", x), 6<<20)
		if err := os.Remove(s.path("sink")); err != nil {
			t.Fatal(err)
		}
	}
}
