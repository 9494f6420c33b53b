package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// envAlone says that this process has mounts of its own.
const envAlone = "PANNIER_SCORE_ALONE"

// alone runs the program once more, as root in a mount namespace of its own, and returns how
// that ended. Without one, whoever makes a mount namespace meanwhile has a copy of each disk
// whose power is cut: it is not unmounted then, and mounted again it is still without power.
func alone() (code int, ran bool) {
	if os.Geteuid() != 0 || os.Getenv(envAlone) != "" {
		return 0, false
	}
	self, err := os.Executable()
	if err != nil {
		return 0, false
	}
	c := exec.Command(self, os.Args[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), envAlone+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM) // a terminal tells both
	if err := c.Start(); err != nil {                     // not allowed, in a container
		signal.Stop(signals)
		return 0, false
	}
	go func() {
		for range signals {
			_ = c.Process.Signal(syscall.SIGTERM)
		}
	}()
	err = c.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return exit.ExitCode(), true
	}
	if err != nil {
		return exitCouldNot, true
	}
	return 0, true
}
