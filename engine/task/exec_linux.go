package task

import (
	"os/exec"

	"golang.org/x/sys/unix"
)

// runGroup runs a command, and kills what it has left behind, whether it ended well or not: before
// it is waited for, because after that somebody else may have its number.
func runGroup(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	for unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	return cmd.Wait()
}
