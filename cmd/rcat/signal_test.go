package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	server := exec.Command("rcat", "serve", "--root", root, "--listen", socket, "--writable")
	said, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Process.Kill()
	var address string
	if _, err := fmt.Fscanf(said, "listening on %s\n", &address); err != nil {
		t.Fatal(err)
	}

	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		client := exec.Command("rcat", "put", "-", socket+":x")
		var messages bytes.Buffer
		client.Stderr = &messages
		input, output, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
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
		err = client.Wait()
		output.Close()
		if code := client.ProcessState.ExitCode(); code != command.Interrupted {
			t.Errorf("%v: %v\n%s", s, err, &messages)
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
