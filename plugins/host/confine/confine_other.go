//go:build !linux

package confine

import (
	"os"
	"os/exec"
	"time"
)

// Start starts cmd, without limits: what is open cannot be executed here.
func Start(cmd *exec.Cmd, _ *os.File, _ Limits, _ time.Duration) error { return cmd.Start() }
