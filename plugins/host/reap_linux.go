package host

import (
	"os/exec"

	"golang.org/x/sys/unix"
)

// reap waits for the end of a process, and ends its group. That is done while it is a zombie: until
// somebody takes notice of it, its number and that of its group are nobody else's.
func (r *runner) reap(cmd *exec.Cmd) error {
	ended(cmd.Process.Pid)
	r.reaping.Lock()
	defer r.reaping.Unlock()
	defer close(r.reaped)
	_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // what it has started and left
	return cmd.Wait()
}

// ended waits until a child has ended, and leaves it a zombie.
func ended(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		continue
	}
}
