package main

import (
	"io"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/node/nodetest"
)

// TestBenchLeavesNothing: however a benchmark ends, so do the daemons that it has
// started.
func TestBenchLeavesNothing(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		cmd := exec.CommandContext(t.Context(), "pannier", "bench", "engine", "--cases", "4kB-64", "--count", "100000", "--dir", t.TempDir())
		cmd.Stderr = io.Discard
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		daemons := nodetest.Descendants(cmd.Process.Pid)
		for ; len(daemons) < 2; daemons = nodetest.Descendants(cmd.Process.Pid) {
			if t.Context().Err() != nil {
				t.Fatalf("it has %d daemons", len(daemons))
			}
			time.Sleep(5 * time.Millisecond)
		}
		_ = cmd.Process.Signal(s)
		stuck := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		stuck.Stop()
		if left := nodetest.Outlive(daemons, 20*time.Second); left > 0 {
			t.Errorf("%v: %d daemons are still there", s, left)
		}
	}
}
