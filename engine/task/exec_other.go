//go:build !linux

package task

import (
	"os/exec"

	"golang.org/x/sys/unix"
)

// runGroup runs a command, and kills what it has left behind, whether it ended well or not.
func runGroup(cmd *exec.Cmd) error {
	err := cmd.Run()
	if cmd.Process != nil {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	}
	return err
}
