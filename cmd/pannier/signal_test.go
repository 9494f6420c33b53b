package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
)

// TestSecondSignal: the first signal lets what runs finish, a second one does
// not; what it has cut off is done after the next start.
func TestSecondSignal(t *testing.T) {
	dir, err := os.MkdirTemp("", "signal") // short: a socket is in it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	files := filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	file := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "p.toml")
	file(path, fmt.Sprintf(`
node = { name = "a", state = %q, drain = "1h" }
[[rule]]
name = "slow"
direction = "send"
partners = ["a"]
root = %q
sender = { pre = [ { task = "exec", argv = ["/bin/sh", "-c", "touch began; until test -e gate; do sleep 0.01; done"] } ] }
`, dir+"/state", files))
	file(filepath.Join(files, "x"), "x")

	var said *messages
	start := func() *exec.Cmd {
		t.Helper()
		said = &messages{}
		cmd := exec.CommandContext(t.Context(), "pannier", "serve", "--config", path)
		cmd.Stderr = said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said.until(t, "node is open")
		return cmd
	}
	operator, err := admin.Dial("unix://" + dir + "/state/admin.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()

	cmd := start()
	r, err := operator.Submit(t.Context(), &adminpb.SubmitRequest{Partner: "a", Rule: "slow", Source: "x", Target: "y"})
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(files, "began")); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	said.until(t, "draining")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM {
		t.Fatalf("it ended with %v\n%s", cmd.ProcessState, said)
	}

	file(filepath.Join(files, "gate"), "")
	cmd = start()
	done, err := operator.Wait(t.Context(), &adminpb.WaitRequest{Ref: &adminpb.Ref{Id: r.GetRequest().GetId()}})
	if err != nil || done.GetState() != adminpb.Request_DONE {
		t.Errorf("after the next start: %v, %v\n%s", done, err, said)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v\n%s", err, said)
	}
}
