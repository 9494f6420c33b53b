package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/spec/fault"
)

// roleTied is this program as the head of a group in which a command runs that
// starts others, as go test does: "tied COMMAND...". The group ends with the
// scorecard.
const roleTied = "tied"

// tied is a command for that role. When ctx ends its whole group does.
func tied(ctx context.Context, argv ...string) (cmd *exec.Cmd, letGo func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, fault.Wrap("find program", "", err)
	}
	cmd = exec.CommandContext(ctx, self, append([]string{roleTied}, argv...)...)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	letGo, err = nodetest.Tie(cmd)
	return cmd, letGo, err
}

// tiedRole runs the command and ends as it does.
func tiedRole(args []string) error {
	if len(args) == 0 {
		return fault.New("run tied", fault.Invalid, "the role is started by the scorecard itself")
	}
	nodetest.Tied()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(max(exit.ExitCode(), exitFailed)) // it has said why
	}
	return fault.Wrap("run", args[0], err)
}
