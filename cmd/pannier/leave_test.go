package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
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
		daemons := childrenOf(cmd.Process.Pid)
		for ; len(daemons) < 2; daemons = childrenOf(cmd.Process.Pid) {
			if t.Context().Err() != nil {
				t.Fatalf("it has %d daemons", len(daemons))
			}
			time.Sleep(5 * time.Millisecond)
		}
		_ = cmd.Process.Signal(s)
		stuck := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		stuck.Stop()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			var left []int
			for _, pid := range daemons {
				if state, _ := stateOf(pid); state != "" && state != "Z" {
					left = append(left, pid)
				}
			}
			if len(left) == 0 {
				break
			}
			if time.Now().After(end) {
				for _, pid := range left {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
				t.Errorf("%v: %d daemons are still there", s, len(left))
				break
			}
		}
	}
}

// childrenOf are the processes that one has started.
func childrenOf(pid int) (all []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range files {
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if _, parent := stateOf(child); parent == pid {
			all = append(all, child)
		}
	}
	return all
}

// stateOf is what a process does, as "R", and who has started it; "" when it is
// not there.
func stateOf(pid int) (state string, parent int) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if err != nil || len(fields) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(fields[1])
	return fields[0], parent
}
