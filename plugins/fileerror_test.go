package plugins_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// TestFileError: what is wrong with a name is not tried again, as a disk's error would be, and no path
// of the host is told.
func TestFileError(t *testing.T) {
	at := t.TempDir()
	for name, to := range map[string]string{"loop": "loop", "out": os.TempDir()} {
		if err := os.Symlink(to, filepath.Join(at, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(at, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(at)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, want := range map[string]fault.Kind{
		"none": fault.NotFound, "file/below": fault.Invalid, "loop": fault.Invalid, "out/x": fault.Permission, strings.Repeat("x", 256): fault.TooLong,
	} {
		_, err := root.Open(name)
		if is := plugins.FileError("read", "/"+name, err); fault.KindOf(is) != want || strings.Contains(is.Error(), at) {
			t.Errorf("%.20s: %v is %v, not %v", name, is, fault.KindOf(is), want)
		}
		if is := plugins.FileError("rename", "/"+name, root.Rename("file", name+"/x")); fault.KindOf(is) == fault.IO || fault.KindOf(is) == fault.Internal {
			t.Errorf("renaming to below %.20s: %v is %v", name, is, fault.KindOf(is))
		}
	}
	_, err = root.Open("out/x")
	if err := plugins.FileError("read", "/out/x", fault.Wrap("open", "", err)); fault.KindOf(err) != fault.Permission {
		t.Errorf("what was derived before: %v", err)
	}
	own := fault.New("read", fault.Stale, "it has gone")
	if err := plugins.FileError("read", "/x", own); !errors.Is(err, fault.Stale) {
		t.Error(err)
	}
	if err := plugins.FileError("read", "/x", &os.PathError{Op: "read", Path: at, Err: syscall.EIO}); fault.KindOf(err) != fault.IO || strings.Contains(err.Error(), at) {
		t.Error(err)
	}
	if err := plugins.FileError("read", "/x", nil); err != nil {
		t.Error(err)
	}
}
