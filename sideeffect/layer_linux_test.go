package sideeffect

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRoomOfATmpfs: a file that cannot fit is refused before its first byte, what of it is there counts
// as room, and nothing is taken for one that fits.
func TestRoomOfATmpfs(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "partial"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content := make([]byte, 3*4096)
	_, _ = rand.Read(content) // zeros may take no room
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil { // a file system may give blocks when it writes them
		t.Fatal(err)
	}
	for _, tc := range []struct {
		total, free uint64 // blocks of 4 KiB
		size        int64
		full        bool
	}{
		{100, 10, 10 * 4096, false},
		{100, 10, 13 * 4096, false}, // 3 are there
		{100, 10, 20 * 4096, true},
		{100, 0, 3 * 4096, false},
		{100, 0, 3*4096 + 1, true},
		{0, 0, 1 << 40, false}, // mounted without a limit
	} {
		fs := unix.Statfs_t{Type: unix.TMPFS_MAGIC, Bsize: 4096, Blocks: tc.total, Bavail: tc.free}
		err := roomOf(int(f.Fd()), &fs, tc.size)
		if errors.Is(err, unix.ENOSPC) != tc.full || !tc.full && err != nil {
			t.Errorf("%+v: %v", tc, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Size != 3*4096 {
		t.Errorf("the file has %d bytes, %v", st.Size, err)
	}
}
