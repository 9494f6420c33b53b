package main

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/node/nodetest"
)

// envPlay makes the test binary the scorecard itself.
const envPlay = "PANNIER_TEST_SCORECARD"

// TestMain makes this program what the checks start it as.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Getenv(envPlay) != "" || roles()[os.Args[1]] != nil) {
		main()
	}
	os.Exit(m.Run())
}

// TestNothingStays: however a scorecard ends, the daemons it has started end, and
// so does what go test runs.
func TestNothingStays(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(s.String(), func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "--control", "nothing", "--only", "22") // a control needs no mutants here
			cmd.Env = append(os.Environ(), envPlay+"=1", "TMPDIR="+t.TempDir())
			cmd.Stderr = os.Stderr
			started(t, cmd, 2, s)
		})
	}
	t.Run("tied", func(t *testing.T) {
		cmd := exec.Command(os.Args[0], roleTied, "/bin/sh", "-c", "sleep 1000 & sleep 1000")
		letGo, err := nodetest.Tie(cmd)
		if err != nil {
			t.Fatal(err)
		}
		started(t, cmd, 2, 0, letGo)
	})
}

// started starts a process, waits until so many processes descend from it, ends it,
// or lets it go, and wants them all to end.
func started(t *testing.T, cmd *exec.Cmd, n int, s syscall.Signal, letGo ...func()) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var below []int
	for below = nodetest.Descendants(cmd.Process.Pid); len(below) < n; below = nodetest.Descendants(cmd.Process.Pid) {
		if t.Context().Err() != nil {
			t.Fatalf("%d descend from it", len(below))
		}
		time.Sleep(5 * time.Millisecond)
	}
	for _, f := range letGo {
		f()
	}
	if s != 0 {
		_ = cmd.Process.Signal(s)
	}
	stuck := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	stuck.Stop()
	if left := nodetest.Outlive(below, 20*time.Second); left > 0 {
		t.Fatalf("%d of %d are still there", left, len(below))
	}
}
