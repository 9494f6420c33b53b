package nodetest

import (
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/pannier/pannier/spec/fault"
)

// envTie has the number of the descriptor that tells a tied process of its
// starter's end.
const envTie = "PANNIER_TIED_TO"

// Tie readies a command whose program calls Tied, before it is started: it heads a
// group of its own, and that group ends when this process does, however that
// happens. letGo is called once the command has ended.
func Tie(cmd *exec.Cmd) (letGo func(), err error) {
	r, w, err := os.Pipe() // nobody writes: its end is the news
	if err != nil {
		return nil, fault.Wrap("tie process", "", err)
	}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, r)
	cmd.Env = append(cmd.Env, envTie+"="+strconv.Itoa(2+len(cmd.ExtraFiles)))
	cmd.SysProcAttr = group()
	return func() { _, _ = r.Close(), w.Close() }, nil
}

// Tied ends this process and its group at once when the process that has tied it
// ends. Without one it does nothing. What it starts itself knows nothing of it.
func Tied() {
	number, err := strconv.Atoi(os.Getenv(envTie))
	_ = os.Unsetenv(envTie)
	if err != nil || number < 3 {
		return
	}
	syscall.CloseOnExec(number)
	starter := os.NewFile(uintptr(number), "starter")
	go func() {
		if _, err := starter.Read(make([]byte, 1)); err == io.EOF {
			signalGroup(syscall.Getpgrp(), syscall.SIGKILL)
		}
	}()
}
