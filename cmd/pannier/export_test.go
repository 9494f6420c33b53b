package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/flow/flowtest/freeport"
)

// TestExportByToken: what is exported by who sees all is applied as it was; who sees addresses in part
// only is told so, and gets nothing that looks whole.
func TestExportByToken(t *testing.T) {
	dir, err := os.MkdirTemp("", "pn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, err := os.Executable() // is pannier when it is called so
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "pannier")
	if err := os.Symlink(program, bin); err != nil {
		t.Fatal(err)
	}
	n, err := nodetest.New(dir, "hosta", bin)
	if err != nil {
		t.Fatal(err)
	}
	port := freeport.For(t, "127.0.0.1")
	if err := n.Write(nil, nil, fmt.Sprintf("[http]\nlisten = [\"unix://%s/http.sock\", \"tls://%s\"]\n", n.State, port)); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	run := func(in string, args ...string) (out, messages string, code int) {
		cmd := exec.Command(bin, args...)
		var stdout, stderr bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &stdout, &stderr
		_ = cmd.Run() // its code says it
		return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
	}
	local := []string{"--config", n.Config()}
	text := fmt.Sprintf("[[rule]]\nname = \"told\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = %q\npost = [{ task = \"http\", url = \"https://hooks.example/canary\" }]\n", n.Root)
	if _, messages, code := run(text, append(local, "apply", "-f", "-")...); code != command.Done {
		t.Fatal(messages)
	}
	key, messages, code := run("", append(local, "id", "--http")...)
	if code != command.Done {
		t.Fatal(messages)
	}
	by := func(scope string, args ...string) (out, messages string, code int) {
		token, messages, code := run("", append(local, "token", "create", scope, "--scope", scope)...)
		if code != command.Done {
			t.Fatal(messages)
		}
		file := filepath.Join(dir, scope)
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		defer run("", append(local, "token", "delete", scope)...)
		return run("", append([]string{"--admin", "tls://" + port, "--token-file", file, "--server-key", strings.TrimSpace(key)}, args...)...)
	}
	whole, messages, code := by("operate", "export")
	if code != command.Done || !strings.HasSuffix(whole, text) {
		t.Errorf("operate: %d %s%s", code, whole, messages)
	}
	if out, messages, code := run(whole, append(local, "apply", "-f", "-")...); code != command.Done || out != "rule told: same\n" {
		t.Errorf("what was exported is applied: %d %s%s", code, out, messages)
	}
	ci, messages, code := run("", append(local, "token", "create", "ci", "--scope", "read")...)
	if code != command.Done {
		t.Fatal(messages)
	}
	if out, messages, code := by("administer", "export"); code != command.Done || strings.Contains(out, "[[token]]") || !strings.Contains(messages, "left out: 2; --tokens") {
		t.Errorf("without tokens: %d %s%s", code, out, messages)
	}
	all, messages, code := run("", append(local, "export", "--tokens")...)
	if code != command.Done || !strings.Contains(all, "[[token]]\nname = \"ci\"") || strings.Contains(all, strings.TrimSpace(ci)) {
		t.Errorf("with tokens: %d %s%s", code, all, messages)
	}
	for _, scope := range []string{"read", "operate"} {
		if out, messages, code := by(scope, "export", "--tokens"); code == command.Done || out != "" || !strings.Contains(messages, "administer") {
			t.Errorf("tokens, by scope %s: %d %s%s", scope, code, out, messages)
		}
	}
	if _, messages, code := run("", append(local, "token", "delete", "ci")...); code != command.Done {
		t.Error(messages)
	}
	if out, messages, code := run(all, append(local, "apply", "-f", "-")...); code != command.Done || !strings.Contains(out, "token ci: new") {
		t.Errorf("applied again: %d %s%s", code, out, messages)
	}
	other := filepath.Join(dir, "ci")
	if err := os.WriteFile(other, []byte(ci), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, messages, code := run("", "--admin", "tls://"+port, "--token-file", other, "--server-key", strings.TrimSpace(key), "ls"); code != command.Done {
		t.Errorf("the token, after that: %d %s", code, messages)
	}
	out, messages, code := by("read", "export")
	if code != command.Permission || out != "" || !strings.Contains(messages, "Take a token with scope operate") {
		t.Errorf("read: %d %s%s", code, out, messages)
	}
	file := filepath.Join(dir, "token")
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 40)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, other := range [][]string{nil, {"--server-key", "sha256:" + strings.Repeat("0", 64)}} { // no authority has signed it, and another key
		out, messages, code = run("", append([]string{"--admin", "tls://" + port, "--token-file", file, "export"}, other...)...)
		if code != command.Permission || out != "" || !strings.Contains(messages, "Nothing was sent to it") {
			t.Errorf("another daemon, %v: %d %s%s", other, code, out, messages)
		}
	}
	out, messages, code = by("read", "export", "--json")
	if code != command.Done || strings.Contains(out, "canary") || !strings.Contains(out, `hooks.example`) {
		t.Errorf("read, as JSON: %d %s%s", code, out, messages)
	}
}
