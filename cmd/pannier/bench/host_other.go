//go:build !linux

package bench

import (
	"os/exec"
	"runtime"

	"github.com/pannier/pannier/spec/fault"
)

// memoryDir is empty: there is no tmpfs to look for.
const memoryDir = ""

func readUsage() (Usage, error) {
	return Usage{}, fault.New("read usage", fault.Unsupported, "the figures are read from Linux; this is %s", runtime.GOOS)
}

func room(string) (tmpfs bool, free int64, err error) {
	return false, 0, fault.New("look at directory", fault.Unsupported, "the figures are read from Linux; this is %s", runtime.GOOS)
}

func detach(*exec.Cmd) {}

func usageOf(int) (Usage, error) { return readUsage() }

func usageOfAll(int) (Usage, error) { return readUsage() }

func manyFiles() error { return nil }

func fileSystem(string) string { return "unknown" }

func readBy(int) (int64, error) {
	_, err := readUsage()
	return 0, err
}
