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

// HostileNames are at least 500 names that must not be opened below a folder
// that SetTrap has prepared.
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
	for c := 1; c < 32; c++ {
		names = append(names, fmt.Sprintf("folder/%c", c), fmt.Sprintf("%c/x", c), fmt.Sprintf("x%c", c))
	}
	for c := 0x80; c <= 0xff; c++ { // no UTF-8, overlong forms of dots and slashes among them
		names = append(names, "a"+string([]byte{byte(c)}), string([]byte{byte(c), 0xae, byte(c), 0xae})+"/x")
	}
	for n := range 20 {
		names = append(names, strings.Repeat("z", 256+n*n), strings.Repeat("folder/", 147+n)+"x", strings.Repeat("..\\", n+1)+"x", "folder"+strings.Repeat("/", n+2)+"x")
	}
	for depth := 1; depth <= 20; depth++ {
		up := strings.Repeat("../", depth)
		names = append(names, up+"secret", "folder/"+up+"secret", strings.Repeat("folder/../", depth)+"x", up)
	}
	return names
}

// SetTrap prepares what the hostile names lead to: links out of dir, which has
// to be empty, into a folder outside that it makes, to themselves and to
// devices, FIFOs, a folder.
func SetTrap(dir, outside string) error {
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, step := range []func() error{
		func() error { return os.Mkdir(outside, 0o700) },
		func() error { return os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600) },
		func() error { return os.Mkdir(at("folder"), 0o700) },
		func() error { return syscall.Mkfifo(at("fifo"), 0o600) },
		func() error { return syscall.Mkfifo(at("folder/fifo"), 0o600) },
		func() error { return os.Symlink(outside, at("folder/up")) },
		func() error { return os.Symlink(outside, at("out")) },
		func() error { return os.Symlink(filepath.Join(outside, "secret"), at("outfile")) },
		func() error { return os.Symlink("loop", at("loop")) },
		func() error { return os.Symlink("out", at("chain")) },
		func() error { return os.Symlink("/dev/zero", at("device")) },
		func() error { return os.Symlink("/dev/log", at("socket")) },
	} {
		if err := step(); err != nil {
			return fault.Wrap("set trap", dir, err)
		}
	}
	return nil
}

// Tree lists what is below some folders, with sizes.
func Tree(dirs ...string) (string, error) {
	var list strings.Builder
	for _, dir := range dirs {
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
			return "", fault.Wrap("list", dir, err)
		}
	}
	return list.String(), nil
}

// FaultPaths asks for hostile names at either end, as source and as sink, in
// every mode: each is refused with a typed error, nothing hangs, nothing
// is created or changed.
func FaultPaths(t *testing.T, connect Connect) {
	b := connected(t, connect)
	s := newShelf(t, "")
	outside := filepath.Join(t.TempDir(), "outside")
	if err := SetTrap(s.dir, outside); err != nil {
		t.Fatal(err)
	}
	before, err := Tree(s.dir, outside)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range HostileNames() {
		for _, dir := range directions() {
			good := sideeffect.Memory(Content(20<<10*(i%2)+10, true))
			x := between(dir, sideeffect.RoadAuto, sideeffect.File(s.root, name), sideeffect.Memory(make([]byte, 10)))
			x.refused(t, b.move(within(t), "source", x), name)
			x = between(dir, sideeffect.RoadAuto, good, sideeffect.File(s.root, name))
			x.sink.Mode = sideeffect.Mode(i % 5)
			x.refused(t, b.move(within(t), "sink", x), name)
		}
		if after, err := Tree(s.dir, outside); err != nil || after != before {
			t.Fatalf("%.40q: there was\n%s\nand now\n%s%v", name, before, after, err)
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
