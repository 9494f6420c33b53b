//go:build !linux

package host

import (
	"os/exec"

	"golang.org/x/sys/unix"
)

// reap waits for the end of a process, and ends its group.
func (r *runner) reap(cmd *exec.Cmd) error {
	err := cmd.Wait()
	r.reaping.Lock()
	defer r.reaping.Unlock()
	_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // what it has started and left
	close(r.reaped)
	return err
}
