// Package tasktest is what tests of tasks need: one end of a request, with a file.
package tasktest

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Name is a path.
func Name(t testing.TB, s string) relpath.Path {
	t.Helper()
	p, err := relpath.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// On is a receiver's end of a request whose file, of that name and content, has arrived;
// the next task is its first post task.
func On(t testing.TB, name, content string) *task.On {
	t.Helper()
	dir := t.TempDir()
	at := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	now := time.Date(2026, 1, 31, 15, 4, 5, 0, time.UTC)
	r, err := lifecycle.Accept(lifecycle.Key{Requester: "hosta", ID: lifecycle.ID{1}}, lifecycle.Receiver, lifecycle.Spec{
		Partner: "hosta", Rule: "invoices", Source: Name(t, "out/sent"), Target: Name(t, name), Info: "hello", Tasks: [3]uint8{0, 1, 1},
	}, now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	r.Phase, r.Size, r.Verified = lifecycle.Post, int64(len(content)), "blocks+root"
	key, ok := r.NextTask()
	if !ok {
		t.Fatal("no task")
	}
	return &task.On{Key: key, Root: root, File: Name(t, name), Record: &r, Log: slog.New(slog.DiscardHandler), Vars: task.VarsOf(&r, "hostb", Name(t, name), int64(len(content)))}
}

// Step makes the only step of a list.
func Step(t testing.TB, all task.Catalogue, table task.Table) task.Step {
	t.Helper()
	steps, err := task.Make(all, []task.Table{table})
	if err != nil {
		t.Fatal(err)
	}
	return steps[0]
}

// Refused says that each table is refused when it is read, with a word on what to change.
func Refused(t *testing.T, all task.Catalogue, tables map[string]task.Table) {
	t.Helper()
	for says, table := range tables {
		says, _, _ = strings.Cut(says, " #")
		if _, err := task.Make(all, []task.Table{table}); fault.KindOf(err) != fault.Invalid || err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, want %q", table, err, says)
		}
	}
}

// Content is what is in a file below the root.
func Content(t testing.TB, o *task.On, name string) string {
	t.Helper()
	b, err := o.Root.ReadFile(name)
	if err != nil {
		return "no file"
	}
	return string(b)
}

// Clean says that nothing unfinished is anywhere below the root.
func Clean(t testing.TB, o *task.On) {
	t.Helper()
	_ = filepath.WalkDir(o.Root.Name(), func(name string, _ os.DirEntry, err error) error {
		if err == nil && strings.Contains(filepath.Base(name), ".pannier-") {
			t.Errorf("left behind: %s", name)
		}
		return nil
	})
}
