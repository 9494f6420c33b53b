package engine

import (
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine/answers"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// TestSealed: a read-only file system is told with what a unit may have to do with it, here and not
// to the partner; without a service manager, and of other errors, it is not.
func TestSealed(t *testing.T) {
	x := &run{engine: &Engine{}, r: lifecycle.Record{}}
	for _, c := range []struct {
		invocation string
		errno      syscall.Errno
		kind       fault.Kind
		want       bool
	}{{"1", syscall.EROFS, fault.IO, true}, {"", syscall.EROFS, fault.IO, false}, {"1", syscall.EACCES, fault.Permission, false}} {
		t.Setenv("INVOCATION_ID", c.invocation)
		f := x.failureOf(fault.Wrap("place file", "a", &fs.PathError{Op: "open", Path: "a", Err: c.errno}))
		if has := strings.Contains(f.Cause, Unseal); has != c.want || f.Kind != c.kind || strings.Contains(toTell(f).Cause, Unseal) {
			t.Errorf("%+v: %+v", c, f)
		}
	}
}

// TestUnwritableRoots: what a node sees of a root is said with its rule.
func TestUnwritableRoots(t *testing.T) {
	dir := t.TempDir()
	for root, want := range map[string][]string{"": nil, dir: nil, dir + "/none": {"rule r: the node sees no directory " + dir + "/none"}} {
		if got := UnwritableRoots(&Rule{Name: "r", Root: root}); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", root, got, want)
		}
	}
}

// TestHungRoots: a root whose file system does not answer holds up nobody for longer than
// answers.Patience, and what is said of it is not that it cannot be written; others are told of.
func TestHungRoots(t *testing.T) {
	defer func(was func(string) error) { access = was }(access)
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		access = func(dir string) error {
			if dir == "/hung" {
				<-goOn
			}
			return map[string]error{"/sealed": syscall.EROFS, "/sent": syscall.EROFS}[dir]
		}
		rules := []*Rule{{Name: "a", Root: "/sealed", Direction: Receive}, {Name: "b", Root: "/hung"}, {Name: "c", Root: "/good"}, {Name: "d"}, {Name: "e", Root: "/sent", Direction: Send}}
		want := []string{
			"rule a: the node cannot write its root /sealed: read-only file system; " + Unseal,
			"rule b: whether the node can write its root /hung is not known: its file system does not answer",
			"rule e: the node cannot write its root /sent: read-only file system; unless partners send nothing by it: " + Unseal,
		}
		began := time.Now()
		if got := UnwritableRoots(rules...); !slices.Equal(got, want) || time.Since(began) != answers.Patience {
			t.Errorf("after %v: %q, want %q", time.Since(began), got, want)
		}
		close(goOn)
		synctest.Wait()
		if got := UnwritableRoots(rules...); !slices.Equal(got, slices.Delete(want, 1, 2)) {
			t.Errorf("%q", got)
		}
	})
}

// TestBarred: a receiver that may not write is told which directory that is, and what to do about it; its
// partner that it is the receiver's directory, and not which.
func TestBarred(t *testing.T) {
	defer func(was func(string) error) { access = was }(access)
	file, err := relpath.Parse("sub/a")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		side  lifecycle.Side
		shut  string // the directory
		errno syscall.Errno
		want  string
	}{
		{lifecycle.Receiver, "/shut", syscall.EACCES, "/shut"}, {lifecycle.Receiver, "/shut/sub", syscall.EACCES, "/shut/sub"},
		{lifecycle.Sender, "/shut", syscall.EACCES, ""}, {lifecycle.Receiver, "/shut", syscall.ENOENT, ""}, {lifecycle.Receiver, "/other", syscall.EACCES, ""},
	} {
		access = func(dir string) error {
			if dir == c.shut {
				return syscall.EACCES
			}
			return nil
		}
		x := &run{engine: &Engine{}, r: lifecycle.Record{Side: c.side, File: file}, rule: &Rule{Root: "/shut"}}
		f := x.failureOf(fault.Wrap("place file", "a", &fs.PathError{Op: "openat", Path: ".a.part", Err: c.errno}))
		want := "the node may not write into " + c.want + ": place file "
		if has := strings.HasPrefix(f.Cause, want) && strings.HasSuffix(f.Cause, "; "+LetWrite); has != (c.want != "") {
			t.Errorf("%+v: %+v", c, f)
		}
		if told := toTell(f).Cause; c.want != "" && told != "the receiver may not write into its directory" || strings.Contains(told, "/shut") {
			t.Errorf("%+v: the partner hears %q", c, told)
		}
	}
}

// TestRemedy: a directory that its owner or mode shuts is none that a unit's sandbox does.
func TestRemedy(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{syscall.EACCES: LetWrite, syscall.EROFS: Unseal} {
		if got := RootTrouble("r", "/x", errno.Error(), false); !strings.HasSuffix(got, "; "+want) {
			t.Errorf("%v: %q", errno, got)
		}
	}
}
