package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/flow/flowtest/freeport"
)

// TestAPIExamples runs the examples of spec/admin.md, as they stand there, beside a node.
func TestAPIExamples(t *testing.T) {
	systemProgram(t, "curl", "curl")
	text, err := os.ReadFile("../../spec/admin.md")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, err := os.Executable() // is pannier when it is called so
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, filepath.Join(bin, "pannier")); err != nil {
		t.Fatal(err)
	}
	n, err := nodetest.New(dir, "hosta", filepath.Join(bin, "pannier"))
	if err != nil {
		t.Fatal(err)
	}
	port := freeport.For(t, "127.0.0.1")
	rules := fmt.Sprintf("[http]\nlisten = [\"unix://%s/http.sock\", \"tls://%s\"]\n[[rule]]\nname = \"out\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%%ROOT%%\"\n", n.State, port)
	if err := n.Write(nil, nil, rules); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.Root, "report.txt"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	examples := 0
	for _, part := range strings.Split(string(text), "\n```sh\n")[1:] {
		script, _, _ := strings.Cut(part, "\n```")
		cmd := exec.Command("bash", "-euc", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "STATE="+n.State, "CONFIG="+n.Config(), "PORT="+port, "PATH="+bin+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s\n%v\n%s", script, err, out)
		}
		if answer := string(out); strings.Contains(answer, `"error":`) && strings.Contains(answer, `"kind":`) || strings.HasPrefix(answer, "{") && !json.Valid(out) {
			t.Errorf("%s\nsays %s", script, answer)
		}
		examples++
	}
	if examples < 6 {
		t.Errorf("%d examples", examples)
	}
}
