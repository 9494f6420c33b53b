package rpctest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// HostileNames are at least 200 names that must not be opened below a folder
// that trap has prepared.
func HostileNames() []string {
	names := []string{
		"", ".", "..", "/", "//", "/etc/passwd", "~/../x/", "a/", "a//b", "./a", "a/.", "a/..", "..\\a", "\\", "a\\b", "C:\\x", "\\\\host\\share",
		"fifo", "device", "socket", "folder", "folder/", "out", "outfile", "out/secret", "loop", "loop/a", "chain", "chain/secret",
		"fifo/", "folder/fifo", "folder/up/secret", "new/", "\xff", "a\xc3", "\xed\xa0\x80", "a\u2028b", "a\u2029b", "a\u0085b",
		strings.Repeat("x", 256), strings.Repeat("x/", 600) + "x", strings.Repeat("é", 128), strings.Repeat("y", 1<<16),
	}
	for c := range 32 {
		names = append(names, fmt.Sprintf("a%cb", c), fmt.Sprintf("%c", c))
	}
	for c := 0x7f; c < 0xa0; c++ {
		names = append(names, "a"+string(rune(c)))
	}
	for depth := 1; depth <= 20; depth++ {
		up := strings.Repeat("../", depth)
		names = append(names, up+"secret", "folder/"+up+"secret", strings.Repeat("folder/../", depth)+"x", up)
	}
	return names
}

// trap prepares what the hostile names lead to.
func (s *shelf) trap(t testing.TB) (outside string) {
	t.Helper()
	outside = filepath.Join(t.TempDir(), "outside")
	for _, err := range []error{
		os.Mkdir(outside, 0o700),
		os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600),
		os.Mkdir(s.path("folder"), 0o700),
		syscall.Mkfifo(s.path("fifo"), 0o600),
		syscall.Mkfifo(s.path("folder/fifo"), 0o600),
		os.Symlink(outside, s.path("folder/up")),
		os.Symlink(outside, s.path("out")),
		os.Symlink(filepath.Join(outside, "secret"), s.path("outfile")),
		os.Symlink("loop", s.path("loop")),
		os.Symlink("out", s.path("chain")),
		os.Symlink("/dev/zero", s.path("device")),
		os.Symlink("/dev/log", s.path("socket")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return outside
}

// FaultPaths asks for hostile names at either end, as source and as sink, in
// every mode: each is refused with a typed error, nothing hangs, nothing
// is created or changed.
func FaultPaths(t *testing.T, connect Connect) {
	b := connected(t, connect)
	s := newShelf(t, "")
	outside := s.trap(t)
	before := s.tree(t, outside)
	for i, name := range HostileNames() {
		for _, dir := range directions() {
			good := sideeffect.Memory(Content(20<<10*(i%2)+10, true))
			x := between(dir, sideeffect.RoadAuto, sideeffect.File(s.root, name), sideeffect.Memory(make([]byte, 10)))
			x.refused(t, b.move(within(t), "source", x), name)
			x = between(dir, sideeffect.RoadAuto, good, sideeffect.File(s.root, name))
			x.sink.Mode = sideeffect.Mode(i % 5)
			x.refused(t, b.move(within(t), "sink", x), name)
		}
		if after := s.tree(t, outside); after != before {
			t.Fatalf("%.40q: there was\n%s\nand now\n%s", name, before, after)
		}
	}
	b.works(within(t), t)
}

// refused: for the name's own sake, before any byte.
func (x transfer) refused(t testing.TB, err error, name string) {
	t.Helper()
	x.failed(t, err)
	switch fault.KindOf(err) {
	case fault.Invalid, fault.TooLong, fault.Permission, fault.NotFound, fault.Exists:
	default:
		t.Errorf("%.40q: %v", name, err)
	}
}

// tree lists what is below the folder and outside, with sizes.
func (s *shelf) tree(t testing.TB, outside string) string {
	t.Helper()
	var list strings.Builder
	for _, dir := range []string{s.dir, outside} {
		err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			fi, err := d.Info()
			if err == nil && fi.Mode().IsRegular() {
				fmt.Fprintln(&list, p, fi.Size())
			} else {
				fmt.Fprintln(&list, p)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return list.String()
}
