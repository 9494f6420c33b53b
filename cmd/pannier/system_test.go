package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// Programs of the system with which relays and others are tested. .ci/test installs them where it can, and
// tells what was skipped where it could not.

// systemProgram is the path of a program, or skips the test.
func systemProgram(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			t.Skipf("there is no %s, so nothing is tested with it; apt-get install %s", name, pkg)
		}
	}
	return path
}

// service runs a program until the test ends. What it says is told if the test fails.
func service(t *testing.T, argv ...string) *messages {
	t.Helper()
	said := &messages{}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with what it starts
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // which ends what it has started, too
		kill := time.AfterFunc(5*time.Second, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		_ = cmd.Wait()
		kill.Stop()
		if t.Failed() {
			t.Logf("%s says\n%s", argv[0], said)
		}
	})
	return said
}

// listens waits until something listens at an address.
func listens(t *testing.T, address string) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return
		}
		if time.Since(began) > 30*time.Second {
			t.Fatal(err)
		}
	}
}

// runs is what a program prints, which has to end well.
func runs(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := tries(t, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tries is what a program prints, and how it ended, with what it has complained of.
func tries(t *testing.T, argv ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%q: %w: %s%s", argv, err, &complaint, &out)
	}
	return out.String(), err
}
