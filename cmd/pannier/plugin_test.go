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

// TestPluginNew types in section 3 of spec/firstbridge.md: what "plugin new" writes builds, and passes verify. It is short,
// and tests itself; one that is broken does not pass.
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
	at := t.TempDir()
	typed(t, source, strings.NewReplacer("plugin new box", "plugin new box --source "+source, "go mod tidy", "cp "+source+"/go.sum .", "/tmp/empty", at), " 0 failed") // so that nothing is fetched
	if text := run(command.Failed, "plugin", "new", "box", "--source", source); !strings.Contains(text, "exists") {
		t.Error(text)
	}
	t.Chdir("pannier-plugin-box")
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
		cmd.Env = append(os.Environ(), fetchesNothing...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %q: %v\n%s", args, err, out)
		}
	}
	if out, err := exec.Command("gofmt", "-l", ".").CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("gofmt: %s, %v", out, err)
	}
	goRun("vet", ".")
	goRun("test", ".")
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

var fetchesNothing = []string{"GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off"}

// typed types in the block of spec/firstbridge.md that makes a bridge, with the places of a test, and wants something said.
func typed(t *testing.T, source string, places *strings.Replacer, want string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(source, "spec/firstbridge.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```\n(pannier plugin new .*?)```\n").FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 1 {
		t.Fatalf("%d blocks make a bridge", len(blocks))
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", places.Replace(blocks[0][1]))
	cmd.Env = append(os.Environ(), fetchesNothing...)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
		t.Fatalf("%s\n%v\n%s", blocks[0][1], err, out)
	}
}
