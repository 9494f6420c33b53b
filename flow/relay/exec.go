package relay

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// child is a command whose file descriptors 0 and 1 are one socket, of which this
// node has the other end. It leads a process group of its own.
type child struct {
	conn  halfCloser
	cmd   *exec.Cmd
	grace time.Duration
}

// execPath is the only variable of a command's environment besides PANNIER_*.
const execPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// run starts the command of a wish.
func (h *Hub) run(x wish) (*child, error) {
	near, far, err := socketPair()
	if err != nil {
		return nil, &fault.Error{Op: "start command", Kind: fault.KindOf(err), Subject: x.to.Argv[0], Err: err}
	}
	defer far.Close()
	c := &child{conn: near, grace: h.cfg.Grace, cmd: &exec.Cmd{
		Path: x.to.Argv[0], Args: x.to.Argv, Dir: "/", Stdin: far, Stdout: far,
		Env:         []string{execPath, "PANNIER_RELAY=" + x.Relay, "PANNIER_PARTNER=" + x.partner, "PANNIER_FROM=" + x.From},
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}}
	if err := c.cmd.Start(); err != nil {
		_ = near.Close()
		return nil, &fault.Error{Op: "start command", Kind: destinationKind(err), Subject: x.to.Argv[0], Err: err}
	}
	return c, nil
}

// socketPair makes a connection of which one end is a file for a child.
func socketPair() (near halfCloser, far *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	far = os.NewFile(uintptr(fds[1]), "relay")
	mine := os.NewFile(uintptr(fds[0]), "relay")
	defer mine.Close()
	c, err := net.FileConn(mine) // a duplicate
	if err != nil {
		_ = far.Close()
		return nil, nil, err
	}
	return c.(*net.UnixConn), far, nil
}

// conclude gives a command whose connection is over the time to end by itself,
// then ends it and its group, and reaps it.
func (c *child) conclude() {
	reaped := make(chan struct{})
	go func() { _ = c.cmd.Wait(); close(reaped) }()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t := time.NewTimer(c.grace)
		select {
		case <-reaped:
			t.Stop()
			return
		case <-t.C:
			_ = syscall.Kill(-c.cmd.Process.Pid, sig) // its leader is not reaped yet, so the number is its own
		}
	}
	<-reaped
}
