package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pannier/pannier/cmd/internal/command"
)

// TestSignals: the first signal ends a client that waits for its input, with
// nothing left at the server, and a server in good order.
func TestSignals(t *testing.T) {
	dir, err := os.MkdirTemp("", "rcat") // short enough for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := "unix:" + filepath.Join(dir, "s")
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	server, _ := serveFor(t, "--root", root, "--listen", socket, "--writable")
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		client, messages, err := interrupted(t, s, root, "put", "-", socket+":x")
		if code := client.ProcessState.ExitCode(); code != command.Interrupted {
			t.Errorf("%v: %v\n%s", s, err, messages)
		}
		if err := errors.Join(awaitGone(filepath.Join(root, "*")), awaitGone(filepath.Join(root, ".*"))); err != nil {
			t.Error(err)
		}
	}

	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err != nil {
		t.Error(err)
	}
}

// TestInterruptedTrust: a key that the server has proved is remembered also where the transfer is interrupted.
func TestInterruptedTrust(t *testing.T) {
	root, here, there := t.TempDir(), t.TempDir(), t.TempDir()
	own, err := exec.Command("rcat", "key", "--state", here).Output()
	if err != nil {
		t.Fatal(err)
	}
	key, err := exec.Command("rcat", "key", "--state", there).Output()
	if err != nil {
		t.Fatal(err)
	}
	_, address := serveFor(t, "--root", root, "--listen", "127.0.0.1:0", "--writable", "--state", there, "--allow", strings.TrimSpace(string(own)))
	address = strings.TrimPrefix(address, "tls://")
	client, messages, err := interrupted(t, os.Interrupt, root, "put", "--state", here, "--key", strings.TrimSpace(string(key)), "--trust", "-", address+":x")
	if client.ProcessState.ExitCode() != command.Interrupted {
		t.Fatalf("%v\n%s", err, messages)
	}
	if err := os.WriteFile(filepath.Join(root, "y"), []byte("known"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := exec.Command("rcat", "get", "--state", here, address+":y").CombinedOutput(); err != nil || !strings.HasPrefix(string(got), "known") {
		t.Errorf("%v\n%s", err, got)
	}
}

// serveFor starts a server until the end of the test and returns its address.
func serveFor(t *testing.T, args ...string) (server *exec.Cmd, address string) {
	t.Helper()
	server = exec.Command("rcat", append([]string{"serve"}, args...)...)
	said, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill() })
	if _, err := fmt.Fscanf(said, "listening on %s\n", &address); err != nil {
		t.Fatal(err)
	}
	return server, address
}

// interrupted runs a client that puts its standard input at x below root, and gives it a signal while it waits for more.
func interrupted(t *testing.T, s os.Signal, root string, args ...string) (client *exec.Cmd, messages *bytes.Buffer, err error) {
	t.Helper()
	client, messages = exec.Command("rcat", args...), new(bytes.Buffer)
	client.Stderr = messages
	input, output, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	client.Stdin = input
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	input.Close()
	if _, err := output.Write(content(1 << 20)); err != nil {
		t.Fatal(err)
	}
	if err := awaitBytes(filepath.Join(root, ".x.pannier-t*"), 256<<10); err != nil {
		t.Fatal(err)
	}
	if err := client.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	return client, messages, client.Wait()
}
