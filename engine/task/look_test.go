package task

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
	"github.com/pannier/pannier/spec/relpath"
)

// TestChmod: the mode is set, of what is there and of nothing that a link leads to.
func TestChmod(t *testing.T) {
	o := on(t, "content")
	for range 2 {
		if _, err := step(t, Table{Task: "chmod", Mode: "0640"}).Run(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if fi, err := o.Root.Stat("in/a.dat"); err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if _, err := step(t, Table{Task: "chmod", Mode: "0700", Path: "{dir}"}).Run(t.Context(), o); err != nil {
		t.Error(err)
	}
	if err := o.Root.Symlink("a.dat", "in/link"); err != nil {
		t.Fatal(err)
	}
	if _, err := step(t, Table{Task: "chmod", Mode: "0666", Path: "in/link"}).Run(t.Context(), o); fault.KindOf(err) != fault.Invalid {
		t.Errorf("through a link: %v", err)
	}
	if fi, err := o.Root.Stat("in/a.dat"); err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	for _, mode := range []string{"", "rw", "4755", "0999"} {
		if _, err := Make(Standard(), []Table{{Task: "chmod", Mode: mode}}); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", mode, err)
		}
	}
}

// TestCheckPlace: names and free space are looked at also where there is no file yet, as
// at a receiver's pre tasks.
func TestCheckPlace(t *testing.T) {
	for _, c := range []struct {
		table Table
		kind  fault.Kind
	}{
		{Table{Paths: []string{"out/*", "in/*.dat"}}, 0},
		{Table{Paths: []string{"**/*.dat"}}, 0},
		{Table{Paths: []string{"*.dat", "in"}}, fault.Refused},
		{Table{FreeSpace: 1}, 0},
		{Table{FreeSpace: 1 << 62}, fault.NoSpace},
		{Table{MinAge: Duration(time.Hour)}, fault.NotFound},
	} {
		o := on(t, "content")
		if err := o.Root.Remove("in/a.dat"); err != nil {
			t.Fatal(err)
		}
		c.table.Task = "check"
		if _, err := step(t, c.table).Run(t.Context(), o); (err == nil) != (c.kind == 0) || err != nil && fault.KindOf(err) != c.kind {
			t.Errorf("%+v: %v", c.table, err)
		}
	}
	for _, bad := range []Table{{Paths: []string{"/in/*"}}, {Paths: []string{"["}}, {Paths: []string{""}}, {FreeSpace: -1}} {
		bad.Task = "check"
		if _, err := Make(Standard(), []Table{bad}); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestCheckAge: a file that may still be written to is refused.
func TestCheckAge(t *testing.T) {
	o, s := on(t, "content"), step(t, Table{Task: "check", MinAge: Duration(time.Hour)})
	if _, err := s.Run(t.Context(), o); fault.KindOf(err) != fault.Refused {
		t.Error(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := o.Root.Chtimes("in/a.dat", old, old); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Run(t.Context(), o); err != nil {
		t.Error(err)
	}
}

func TestMatchPath(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true}, {"a", "a/b", false}, {"*", "a/b", false}, {"**", "a/b", true}, {"a/**", "a", true}, {"a/**", "a/b/c", true}, {"a/**", "b/a", false},
		{"**/b", "b", true}, {"**/b", "a/a/b", true}, {"**/b", "a/b/c", false}, {"**/a/**/b", "a/x/a/y/b", true}, {"**/a/*/b", "a/a/a/b", true},
		{strings.Repeat("**/", 50) + "x", strings.Repeat("a/", 300) + "y", false},
	} {
		if got := matchesAny([]string{c.pattern}, c.name); got != c.want {
			t.Errorf("%q %q: %v", c.pattern, c.name, got)
		}
	}
}

// TestWait: it waits for a file of another name that is old enough, and no longer than
// its timeout.
func TestWait(t *testing.T) {
	o := on(t, "content")
	synctest.Test(t, func(t *testing.T) {
		s := step(t, Table{Task: "wait", Path: "{dir}/{stem}.ready", MinAge: Duration(5 * time.Second), Timeout: Duration(time.Minute)})
		began := time.Now()
		if _, err := s.Run(t.Context(), o); fault.KindOf(err) != fault.Deadline || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		began = time.Now()
		time.AfterFunc(10*time.Second, func() {
			now := time.Now()
			if err := errors.Join(o.Root.WriteFile("in/a.ready", nil, 0o666), o.Root.Chtimes("in/a.ready", now, now)); err != nil {
				t.Error(err)
			}
		})
		if _, err := s.Run(t.Context(), o); err != nil || time.Since(began) < 15*time.Second || time.Since(began) > 16*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if err := o.Root.Mkdir("in/dir", 0o777); err != nil {
			t.Fatal(err)
		}
		if _, err := step(t, Table{Task: "wait", Path: "in/dir"}).Run(t.Context(), o); fault.KindOf(err) != fault.Invalid {
			t.Errorf("a directory: %v", err)
		}
	})
}

// TestChecksum: what is written, sha256sum checks, and what that writes, verify; a file
// that has changed is found.
func TestChecksum(t *testing.T) {
	o := on(t, "content")
	for range 2 {
		if _, err := step(t, Table{Task: "checksum"}).Run(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ digest, program string }{{"sha256", "sha256sum"}, {"sha512", "sha512sum"}} {
		if _, err := step(t, Table{Task: "checksum", Digest: c.digest}).Run(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(c.program, "--check", "--strict", "a.dat."+c.digest)
		cmd.Dir = filepath.Join(o.Root.Name(), "in")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", c.program, err, out)
		}
		cmd = exec.Command("sh", "-c", c.program+" --binary ./in/a.dat >sums")
		cmd.Dir = o.Root.Name()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		if _, err := step(t, Table{Task: "verify", Digest: c.digest, Path: "sums"}).Run(t.Context(), o); err != nil {
			t.Errorf("%s: %v", c.program, err)
		}
	}
	if err := o.Root.WriteFile("in/a.dat", []byte("cOntent"), 0o666); err != nil {
		t.Fatal(err)
	}
	verify := step(t, Table{Task: "verify"})
	if _, err := verify.Run(t.Context(), o); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("a changed file: %v", err)
	}
	for text, kind := range map[string]fault.Kind{
		"": fault.NotFound, "00  other\n": fault.NotFound, "zz  a.dat\n": fault.Invalid, "00 a.dat\n": fault.NotFound, strings.Repeat("0", 1<<20): fault.Invalid,
	} {
		if err := o.Root.WriteFile("in/a.dat.sha256", []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := verify.Run(t.Context(), o); fault.KindOf(err) != kind {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	for _, to := range []string{"{error.text}/x", "{dir}/{stem}{ext}"} {
		if _, err := step(t, Table{Task: "checksum", To: to}).Run(t.Context(), o); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", to, err)
		}
	}
	if got := content(t, o, "in/a.dat"); got != "cOntent" {
		t.Error(got)
	}
}

// TestSnapshot: the record is JSON in a file, the failure too; but not one of an attempt before that did not end it.
func TestSnapshot(t *testing.T) {
	o := on(t, "content")
	o.Record.Failure = lifecycle.Failure{Kind: fault.NoSpace, Cause: "the disk is \"full\"\n"}
	if past := Tell(o); past.Failure != nil {
		t.Errorf("a task of an attempt that has not failed: %+v", past.Failure)
	}
	if v := VarsOf(o.Record, "hosta", o.File, 7); v["error.code"] != "" || v["error.text"] != "" {
		t.Errorf("and its variables: %q, %q", v["error.code"], v["error.text"])
	}
	o.Record.Failing = true
	if v := VarsOf(o.Record, "hosta", o.File, 7); v["error.code"] != "no space" {
		t.Errorf("an error task's: %q", v["error.code"])
	}
	for range 2 {
		if _, err := step(t, Table{Task: "snapshot", To: "log/{id}.json"}).Run(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	var got Told
	if err := json.Unmarshal([]byte(content(t, o, "log/01000000000000000000000000000000.json")), &got); err != nil {
		t.Fatal(err)
	}
	if got.Node != "hosta" || got.Partner != "hostb" || got.File != "in/a.dat" || got.Side != "sender" || got.Phase != "POST" || got.Info != "hello" ||
		got.Registered != "2026-01-31T15:04:05Z" || got.Failure == nil || got.Failure.Kind != "no space" || got.Failure.Cause != "the disk is \"full\"\n" {
		t.Errorf("%+v", got)
	}
}

// TestRescheduleWindows: the request is due when a window is open, after the delay.
func TestRescheduleWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := quantity.ParseWindow("20:00-06:00")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(time.Date(2026, 3, 2, 12, 0, 0, 0, time.Local)))
		o := on(t, "")
		o.Key.List = lifecycle.ErrorList
		s := step(t, Table{Task: "reschedule", Delay: Duration(time.Hour), Windows: quantity.Windows{w}})
		if res, err := s.Run(t.Context(), o); err != nil || res.Again != 8*time.Hour {
			t.Errorf("at noon: %v, %v", res.Again, err)
		}
		time.Sleep(10 * time.Hour)
		if res, err := s.Run(t.Context(), o); err != nil || res.Again != time.Hour {
			t.Errorf("at ten: %v, %v", res.Again, err)
		}
	})
}

// TestSecretFiles: settings name files by whole paths; what is secret nobody else may read,
// and nothing that blocks is waited for.
func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	if err := os.WriteFile(path, []byte("x"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSecret(path); fault.KindOf(err) != fault.Permission {
		t.Errorf("others can read it: %v", err)
	}
	if got, err := ReadFile(path); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.WriteFile(path, make([]byte, mostFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); fault.KindOf(err) != fault.TooLong {
		t.Errorf("too long: %v", err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSecret(filepath.Join(dir, "fifo")); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a FIFO: %v", err)
	}
	for _, text := range []string{"secret", "file:secret", "/etc/secret"} {
		if _, err := FileOf("secret", text); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestProductIsAnother: what would be made of itself is refused, because a second run would
// begin with what the first has made; and a source that a first run has removed is no error, but one that is
// gone before it is, though a file has the name.
func TestProductIsAnother(t *testing.T) {
	o := on(t, "content")
	p, err := NewProduct(&Table{To: "{dir}/{stem}{ext}"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Make(t.Context(), o, "", nil); fault.KindOf(err) != fault.Invalid {
		t.Error(err)
	}
	if p, err = NewProduct(&Table{To: "b", Remove: true}, ""); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(o.Root.Rename("in/a.dat", "b")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Make(t.Context(), o, "", nil); !errors.Is(err, fs.ErrNotExist) { // somebody has taken it away, and b is another's
		t.Error(err)
	}
	o.Again = true
	if res, err := p.Make(t.Context(), o, "", nil); err != nil || !res.Moved || res.File.String() != "b" {
		t.Errorf("%+v, %v", res, err)
	}
	o.File = relpath.Path{}
	if _, err := p.Make(t.Context(), o, "", nil); fault.KindOf(err) != fault.NotFound {
		t.Error(err)
	}
}
