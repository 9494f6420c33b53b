package spec_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestFirstCall: what firstcall.md has typed in is complete: it makes a module that
// generates its stubs, builds and carries a file. Versions are this module's, so that
// nothing has to be fetched.
func TestFirstCall(t *testing.T) {
	if _, err := exec.LookPath("protoc"); err != nil {
		t.Skip("protoc is not installed (package protobuf-compiler)")
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("firstcall.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var script []string
	for _, block := range regexp.MustCompile("(?s)```(sh|proto|go)\n(.*?)```").FindAllSubmatch(text, 3) {
		if string(block[1]) == "sh" {
			script = strings.Split(string(block[2]), "\n")
			continue
		}
		first, _, _ := strings.Cut(string(block[2]), "\n")
		file := filepath.Join(dir, strings.TrimPrefix(first, "// "))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, block[2], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if len(script) < 8 {
		t.Fatalf("it has %d lines of commands", len(script))
	}
	run := func(in, line string) {
		t.Helper()
		cmd := exec.Command("sh", "-e", "-c", line)
		cmd.Dir, cmd.Env = in, append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	mod, err1 := os.ReadFile(filepath.Join(root, "go.mod"))
	sum, err2 := os.ReadFile(filepath.Join(root, "go.sum"))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	mod = bytes.Replace(mod, []byte("module github.com/pannier/pannier"), []byte("module example.com/store"), 1)
	mod = append(mod, "\nrequire github.com/pannier/pannier v0.0.0\nreplace github.com/pannier/pannier => "+root+"\n"...)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), mod, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range script {
		switch {
		case strings.HasPrefix(line, "go build -o bin/"):
			run(root, strings.Replace(line, "-o bin/", "-o "+dir+"/bin/", 1))
		case strings.Contains(line, "protoc "), strings.Contains(line, "go build ."):
			run(dir, strings.Replace(line, "go mod tidy && ", "", 1))
		}
	}
	// a socket's path is short
	at, err := os.MkdirTemp("", "first")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(at)
	if err := os.Mkdir(filepath.Join(dir, "received"), 0o700); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(filepath.Join(dir, "store"), "serve", "unix://"+at+"/s", "received")
	server.Dir = dir
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = server.Process.Kill(), server.Wait() }()
	for {
		if _, err := os.Stat(at + "/s"); err == nil {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("the server does not listen")
		}
		time.Sleep(5 * time.Millisecond)
	}
	run(dir, "./store put unix://"+at+"/s main.go && cmp main.go received/main.go")
}
