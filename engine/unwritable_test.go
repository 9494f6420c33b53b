package engine

import (
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
)

// TestSealed: a read-only file system is told with what a unit may have to do with it, here and not
// to the partner; without a service manager, and of other errors, it is not.
func TestSealed(t *testing.T) {
	x := &run{engine: &Engine{}, r: lifecycle.Record{}}
	for _, c := range []struct {
		invocation string
		errno      syscall.Errno
		want       bool
	}{{"1", syscall.EROFS, true}, {"", syscall.EROFS, false}, {"1", syscall.EACCES, false}} {
		t.Setenv("INVOCATION_ID", c.invocation)
		f := x.failureOf(fault.Wrap("place file", "a", &fs.PathError{Op: "open", Path: "a", Err: c.errno}))
		if has := strings.Contains(f.Cause, Unseal); has != c.want || f.Kind != fault.Permission || strings.Contains(toTell(f).Cause, Unseal) {
			t.Errorf("%+v: %+v", c, f)
		}
	}
}

// TestUnwritableRoot: what a node sees of a root is said with its rule.
func TestUnwritableRoot(t *testing.T) {
	dir := t.TempDir()
	for root, want := range map[string]string{"": "", dir: "", dir + "/none": "rule r: the node sees no directory " + dir + "/none"} {
		if got := UnwritableRoot(&Rule{Name: "r", Root: root}); got != want {
			t.Errorf("%q: %q, want %q", root, got, want)
		}
	}
}
