package nodetest

import "syscall"

// group puts the process at the head of a group of its own, so that a wrapper and
// what it runs end together.
func group() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// signalGroup sends a signal to all of a group.
func signalGroup(pid int, s syscall.Signal) { _ = syscall.Kill(-pid, s) }
