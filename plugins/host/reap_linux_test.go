package host

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// TestEnded: a child that has ended is still there when that is known, so that its number is nobody
// else's, and is gone after Wait.
func TestEnded(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended(cmd.Process.Pid)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	if err != nil || !bytes.Contains(stat, []byte(") Z ")) {
		t.Errorf("%s, %v: it is no zombie", stat, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	ended(cmd.Process.Pid) // returns, whatever has the number now
}
