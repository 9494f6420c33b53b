package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func name(t testing.TB, s string) relpath.Path {
	t.Helper()
	p, err := relpath.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// on is a request's end whose file is in/a.dat with the given content, and the
// next task the first post task.
func on(t testing.TB, content string) *On {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "in"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "in/a.dat"), []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	r, err := lifecycle.Register(lifecycle.Key{Requester: "hosta", ID: lifecycle.ID{1}}, lifecycle.Sender, lifecycle.Spec{
		Partner: "hostb", Rule: "invoices", Source: name(t, "in/a.dat"), Target: name(t, "a.dat"), Info: "hello", Tasks: [3]uint8{0, 1, 1},
	}, time.Date(2026, 1, 31, 15, 4, 5, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	r.Phase = lifecycle.Post
	key, ok := r.NextTask()
	if !ok {
		t.Fatal("no task")
	}
	return &On{Key: key, Record: &r, Root: root, File: name(t, "in/a.dat"), Vars: VarsOf(&r, "hosta", name(t, "in/a.dat"), int64(len(content))), Log: slog.New(slog.DiscardHandler)}
}

// step makes the only step of a list.
func step(t testing.TB, table Table) Step {
	t.Helper()
	steps, err := Make(Standard(), []Table{table})
	if err != nil {
		t.Fatal(err)
	}
	return steps[0]
}

func content(t testing.TB, o *On, file string) string {
	t.Helper()
	b, err := o.Root.ReadFile(file)
	if err != nil {
		return "no file"
	}
	return string(b)
}

// TestMakeRefuses: a table that cannot work is refused when it is read, with a
// word on what to change.
func TestMakeRefuses(t *testing.T) {
	three, ten := Size(3), Size(10)
	for _, c := range []struct {
		table Table
		says  string
	}{
		{Table{Task: "fly"}, "not known"},
		{Table{Task: "exec"}, "set argv"},
		{Table{Task: "exec", Argv: []string{"gzip"}}, "whole path"},
		{Table{Task: "exec", Argv: []string{"/bin/{name}"}}, "without variables"},
		{Table{Task: "exec", Argv: []string{"/bin/echo", "{nome}"}}, "no variable {nome}"},
		{Table{Task: "move"}, "set to"},
		{Table{Task: "move", To: "archive/{date"}, "brace"},
		{Table{Task: "mkdir"}, "set path"},
		{Table{Task: "mkdir", Path: "../x"}, "no name below the rule's root"},
		{Table{Task: "delete", Path: "/etc/{name}"}, "no name below the rule's root"},
		{Table{Task: "move", To: "a//{name}"}, "no name below the rule's root"},
		{Table{Task: "snapshot", To: "{path}"}, "the file itself"},
		{Table{Task: "copy", To: ".b.pannier-r/a"}, "for unfinished files"},
		{Table{Task: "check"}, "set what to check"},
		{Table{Task: "check", Name: "["}, "not a pattern"},
		{Table{Task: "check", MinSize: &ten, MaxSize: &three}, "no file has both"},
		{Table{Task: "check", Digest: "sha256:zz"}, "64 hexadecimal digits"},
		{Table{Task: "check", Digest: "md5:" + strings.Repeat("0", 32)}, "64 hexadecimal digits"},
		{Table{Task: "check", Digest: "blake3:" + strings.Repeat("0", 62)}, "64 hexadecimal digits"},
		{Table{Task: "exec", Argv: []string{"/bin/echo"}, Warning: []int{0}}, "1 to 255"},
		{Table{Task: "exec", Argv: []string{"/bin/echo"}, Warning: []int{4, 300}}, "1 to 255"},
		{Table{Task: "log", Level: "loud"}, "debug, info, warn or error"},
		{Table{Task: "transfer", Partner: "hostc"}, "partner and rule"},
		{Table{Task: "reschedule"}, "set delay"},
		{Table{Task: "reschedule", Delay: 1, Codes: []string{"bad luck"}}, "no kind of failure: internal, invalid argument, "},
	} {
		_, err := Make(Standard(), []Table{{Task: "log"}, c.table})
		if err == nil || fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "task 2") {
			t.Errorf("%+v: %v", c.table, err)
		}
	}
}

// TestFileTasks: what each does, and that a second run, as after a crash in the
// middle of the first, changes nothing and is no error.
func TestFileTasks(t *testing.T) {
	for _, c := range []struct {
		table   Table
		want    map[string]string // content by name
		file    string            // the request's file afterwards
		deleted bool
	}{
		{table: Table{Task: "move", To: "archive/{date}/{name}"}, want: map[string]string{"archive/2026-01-31/a.dat": "content", "in/a.dat": "no file"}, file: "archive/2026-01-31/a.dat"},
		{table: Table{Task: "rename", To: "{stem}-{id}{ext}"}, want: map[string]string{"in/a-01000000000000000000000000000000.dat": "content"}, file: "in/a-01000000000000000000000000000000.dat"},
		{table: Table{Task: "copy", To: "out/{name}"}, want: map[string]string{"out/a.dat": "content", "in/a.dat": "content"}},
		{table: Table{Task: "link", To: "out/{name}"}, want: map[string]string{"out/a.dat": "content", "in/a.dat": "content"}},
		{table: Table{Task: "delete"}, want: map[string]string{"in/a.dat": "no file"}, deleted: true},
		{table: Table{Task: "delete", Path: "in/other"}, want: map[string]string{"in/a.dat": "content"}},
		{table: Table{Task: "mkdir", Path: "x/{rule}/y"}, want: map[string]string{"in/a.dat": "content"}},
	} {
		t.Run(c.table.Task+" "+c.table.To+c.table.Path, func(t *testing.T) {
			o, s := on(t, "content"), step(t, c.table)
			for run := range 2 {
				syncs := 0
				o.Again = run > 0
				syncFile = func(f *os.File) error { syncs++; return f.Sync() }
				res, err := s.Run(t.Context(), o)
				syncFile = (*os.File).Sync
				if err != nil {
					t.Fatalf("run %d: %v", run, err)
				}
				if syncs == 0 && c.table.Task != "mkdir" { // an earlier run may have been killed before it
					t.Errorf("run %d: no directory is synced", run)
				}
				for file, want := range c.want {
					if got := content(t, o, file); got != want {
						t.Fatalf("run %d: %s is %q, want %q", run, file, got, want)
					}
				}
				if res.Moved != (c.file != "" || c.deleted) || res.File.String() != c.file {
					t.Fatalf("run %d: moved %v to %q", run, res.Moved, res.File)
				}
			}
			left, err := filepath.Glob(filepath.Join(o.Root.Name(), "*", ".copy-*"))
			if err != nil || len(left) > 0 {
				t.Fatalf("left behind: %v, %v", left, err)
			}
		})
	}
}

// TestFileTasksFail: nothing is lost when a task fails.
func TestFileTasksFail(t *testing.T) {
	for _, c := range []struct {
		table Table
		prep  func(*On)
		kind  fault.Kind
	}{
		{Table{Task: "move", To: "{error.text}/{name}"}, nil, fault.Invalid},
		{Table{Task: "move", To: "in"}, nil, fault.Exists},
		{Table{Task: "move", To: "in/a.dat"}, func(o *On) { o.File = name(t, "in/gone") }, fault.NotFound}, // another's file has the name
		{Table{Task: "rename", To: "{dir}/b"}, nil, fault.Invalid},
		{Table{Task: "link", To: "in/b"}, func(o *On) { o.Root.WriteFile("in/b", nil, 0o666) }, fault.Exists},
		{Table{Task: "copy", To: "in/b"}, func(o *On) { o.File = name(t, "in") }, fault.Invalid},
		{Table{Task: "copy", To: "{info}/b"}, func(o *On) { o.Vars["info"] = "../x" }, fault.Invalid},
		{Table{Task: "move", To: "b"}, func(o *On) { o.File = relpath.Path{} }, fault.NotFound},
		{Table{Task: "move", To: "in/{info}"}, func(o *On) { o.Vars["info"] = ".b.pannier-r0123456789abcdef" }, fault.Invalid},
		{Table{Task: "rename", To: "{info}"}, func(o *On) { o.Vars["info"] = ".b.pannier-r0123456789abcdef.state" }, fault.Invalid},
		{Table{Task: "copy", To: "{info}/a"}, func(o *On) { o.Vars["info"] = ".b.pannier-r0123456789abcdef.state" }, fault.Invalid},
		{Table{Task: "link", To: "{info}"}, func(o *On) { o.Vars["info"] = ".b.pannier-r0123456789abcdef.state" }, fault.Invalid},
		{Table{Task: "delete", Path: "in/{info}"}, func(o *On) { o.Vars["info"] = ".b.pannier-r0123456789abcdef" }, fault.Invalid},
		{Table{Task: "mkdir", Path: "in/a.dat/x"}, nil, 0},
	} {
		o := on(t, "content")
		if c.prep != nil {
			c.prep(o)
		}
		if _, err := step(t, c.table).Run(t.Context(), o); err == nil || c.kind != 0 && c.kind != fault.Exists && fault.KindOf(err) != c.kind {
			t.Errorf("%+v: %v", c.table, err)
		}
		if got := content(t, o, "in/a.dat"); got != "content" {
			t.Errorf("%+v: the file is %q", c.table, got)
		}
	}
}

// TestCopyName: what has the name of an unfinished copy is neither waited for nor
// written through, and no other request's copy has it, nor may anybody ask for it.
func TestCopyName(t *testing.T) {
	o := on(t, "content")
	at := "out/" + copyName(o.Key)
	for what, put := range map[string]func() error{
		"a FIFO":        func() error { return syscall.Mkfifo(filepath.Join(o.Root.Name(), at), 0o600) },
		"a link":        func() error { return o.Root.Symlink("../in/other", at) },
		"a longer file": func() error { return o.Root.WriteFile(at, []byte("more than the content"), 0o600) },
	} {
		if err := errors.Join(o.Root.MkdirAll("out", 0o777), o.Root.WriteFile("in/other", []byte("other"), 0o666), put()); err != nil {
			t.Fatal(err)
		}
		if _, err := step(t, Table{Task: "copy", To: "out/{name}", Timeout: Duration(10 * time.Second)}).Run(t.Context(), o); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got, other := content(t, o, "out/a.dat"), content(t, o, "in/other"); got != "content" || other != "other" {
			t.Errorf("%s: the copy is %q, the other file %q", what, got, other)
		}
		if err := o.Root.Remove("out/a.dat"); err != nil {
			t.Fatal(err)
		}
	}
	same := o.Key
	same.Key.Requester = "hostc" // who has chosen the same id
	if copyName(same) == copyName(o.Key) || !sideeffect.IsOwn(copyName(same)) {
		t.Errorf("%q and %q", copyName(same), copyName(o.Key))
	}
}

func TestCheck(t *testing.T) {
	three, ten := Size(3), Size(10)
	for _, c := range []struct {
		table Table
		kind  fault.Kind // 0: fine
	}{
		{Table{MinSize: &three, MaxSize: &ten, Name: "*.dat"}, 0},
		{Table{MinSize: &ten}, fault.Refused},
		{Table{MaxSize: &three}, fault.Refused},
		{Table{Name: "*.xml"}, fault.Refused},
		{Table{Digest: "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"}, 0},
		{Table{Digest: "sha256:ED7002B439E9AC845F22357D822BAC1444730FBDB6016D3EC9432297B9EC9F73"}, 0},
		{Table{Digest: "sha256:" + strings.Repeat("00", 32)}, fault.Corrupt},
		{Table{Digest: "{info}"}, fault.Invalid},
	} {
		c.table.Task = "check"
		if _, err := step(t, c.table).Run(t.Context(), on(t, "content")); (err == nil) != (c.kind == 0) || err != nil && fault.KindOf(err) != c.kind {
			t.Errorf("%+v: %v", c.table, err)
		}
	}
}

func TestReschedule(t *testing.T) {
	s := step(t, Table{Task: "reschedule", Delay: Duration(time.Minute), Codes: []string{"no space"}})
	o := on(t, "")
	if _, err := s.Run(t.Context(), o); fault.KindOf(err) != fault.Invalid {
		t.Errorf("in a list of post tasks: %v", err)
	}
	o.Key.List = lifecycle.ErrorList
	if res, err := s.Run(t.Context(), o); err != nil || res.Again != 0 {
		t.Errorf("another failure: %+v, %v", res, err)
	}
	o.Vars["error.code"] = fault.NoSpace.String()
	if res, err := s.Run(t.Context(), o); err != nil || res.Again != time.Minute {
		t.Errorf("%+v, %v", res, err)
	}
	o.Delays = DefaultReschedules
	if res, err := s.Run(t.Context(), o); fault.KindOf(err) != fault.Refused {
		t.Errorf("more often than it may: %+v, %v", res, err)
	}
	o.Delays = 2
	s = step(t, Table{Task: "reschedule", Delay: Duration(time.Minute), Attempts: 2})
	if res, err := s.Run(t.Context(), o); fault.KindOf(err) != fault.Refused {
		t.Errorf("more often than attempts: %+v, %v", res, err)
	}
}

// forwarder keeps what it is asked for.
type forwarder struct{ asked []Forward }

func (f *forwarder) Forward(_ context.Context, r Forward) (lifecycle.ID, error) {
	f.asked = append(f.asked, r)
	return r.ID, nil
}

// TestTransfer: a forward that runs twice asks for the same request.
func TestTransfer(t *testing.T) {
	s, o, f := step(t, Table{Task: "transfer", Partner: "hostc", Rule: "on", Info: "from {node}: {info}", Wait: true}), on(t, ""), &forwarder{}
	if _, err := s.Run(t.Context(), o); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("without a forwarder: %v", err)
	}
	o.Next, o.Follow = f, lifecycle.ID{9}
	for range 2 {
		if _, err := s.Run(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	want := Forward{ID: derived(o.Key), Partner: "hostc", Rule: "on", File: o.File, Follow: lifecycle.ID{9}, Info: "from hosta: hello", Hops: 1, Wait: true}
	if len(f.asked) != 2 || f.asked[0] != want || f.asked[1] != want {
		t.Fatalf("%+v", f.asked)
	}
	other := o.Key
	other.Index++
	if derived(other) == want.ID {
		t.Fatal("two tasks of a list make one request")
	}
}

// TestVariables: replaced once, from left to right; what a value contains is not
// looked at again.
func TestVariables(t *testing.T) {
	v := Vars{"info": "{path}", "path": "x{info}", "name": "{{"}
	for in, want := range map[string]string{
		"{info}{path}": "{path}x{info}", "{{info}}": "{info}", "a{{{name}}}b": "a{{{}b", "": "", "plain": "plain",
	} {
		tmpl, err := ParseTemplate(in)
		if err != nil || tmpl.Fill(v) != want {
			t.Errorf("%q: %q, %v; want %q", in, tmpl.Fill(v), err, want)
		}
	}
	for dir, want := range map[string]string{"": "x.ready in ,/ .", "a/b": "a/b/x.ready in a/b,/ a/b."} {
		tmpl, err := ParseTemplate("{dir}/{stem}.ready in {dir},/ {dir}.")
		if got := tmpl.Fill(Vars{"dir": dir, "stem": "x"}); err != nil || got != want {
			t.Errorf("in %q: %q, %v; want %q", dir, got, err, want)
		}
	}
	for _, in := range []string{"{", "}", "{no}", "{path", "path}", "{}", "{PATH}"} {
		if _, err := ParseTemplate(in); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", in, err)
		}
	}
	given := on(t, "12345").Vars
	for name := range variables {
		if _, ok := given[name]; !ok {
			t.Errorf("{%s} has no value", name)
		}
	}
	if len(given) != len(variables) || given["size"] != "5" || given["stem"] != "a" || given["time"] != "150405" || given["task"] == "" {
		t.Errorf("%v", given)
	}
}

// TestDocumented: spec/tasks.md has the table of variables as it is.
func TestDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../spec/tasks.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, says := range variables {
		if row := fmt.Sprintf("| `{%s}` | %s |", name, says); !strings.Contains(string(doc), row) {
			t.Errorf("missing in spec/tasks.md: %s", row)
		}
	}
}
