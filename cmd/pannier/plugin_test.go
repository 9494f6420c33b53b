package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pannier/pannier/cmd/internal/command"
)

// TestPluginNew: what "plugin new" writes builds, is short, tests itself and passes
// verify; one that is broken does not pass.
func TestPluginNew(t *testing.T) {
	source, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	run := func(want int, args ...string) string {
		t.Helper()
		var out, messages bytes.Buffer
		if code := command.Run(context.Background(), rootCommand(), args, nil, &out, &messages); code != want {
			t.Fatalf("%q: exit code %d, want %d\n%s%s", args, code, want, &out, &messages)
		}
		return out.String() + messages.String()
	}
	run(command.Usage, "plugin", "new", "Box/..", "--source", source)
	if text := run(command.Usage, "plugin", "new", "box"); !strings.Contains(text, "--source") { // a test is no release
		t.Error(text)
	}
	if _, err := os.Stat("pannier-plugin-box"); err == nil {
		t.Error("a module that cannot be built was written")
	}
	run(command.Done, "plugin", "new", "box", "--source", source)
	if text := run(command.Failed, "plugin", "new", "box", "--source", source); !strings.Contains(text, "exists") {
		t.Error(text)
	}
	t.Chdir("pannier-plugin-box")
	sums, err := os.ReadFile(filepath.Join(source, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("go.sum", sums, 0o666); err != nil { // so that nothing is fetched
		t.Fatal(err)
	}
	text, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0 // of all that is no test
	all, _ := filepath.Glob("*.go")
	for _, name := range all {
		if b, err := os.ReadFile(name); err == nil && !strings.HasSuffix(name, "_test.go") {
			lines += bytes.Count(b, []byte("\n"))
		}
	}
	if lines == 0 || lines >= 60 {
		t.Errorf("%q have %d lines", all, lines)
	}
	goRun := func(args ...string) {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %q: %v\n%s", args, err, out)
		}
	}
	if out, err := exec.Command("gofmt", "-l", ".").CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("gofmt: %s, %v", out, err)
	}
	goRun("vet", ".")
	goRun("test", ".")
	goRun("build", ".")
	at := t.TempDir()
	if text := run(command.Done, "plugin", "verify", "./pannier-plugin-box", "--endpoint", "box://"+at); !strings.Contains(text, " 0 failed") {
		t.Error(text)
	}
	broken := bytes.Replace(text, []byte("Remove: true}"), []byte("Remove: true, Offsets: true}"), 1) // which Read does not look at
	if bytes.Equal(broken, text) {
		t.Fatal("nothing to break")
	}
	if err := os.WriteFile("main.go", broken, 0o666); err != nil {
		t.Fatal(err)
	}
	goRun("build", ".")
	if text := run(command.Some, "plugin", "verify", "./pannier-plugin-box", "--endpoint", "box://"+at); !regexp.MustCompile(`offset.*\tfailed`).MatchString(text) {
		t.Error(text)
	}
}
