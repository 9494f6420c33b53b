package nodetest

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Descendants are the processes below one, as /proc has them: Linux.
func Descendants(pid int) (all []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range files {
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if _, parent := stateOf(child); parent == pid {
			all = append(append(all, child), Descendants(child)...)
		}
	}
	return all
}

// Outlive waits until processes have ended. Those that have not after that time are
// killed, and it returns how many they were.
func Outlive(pids []int, within time.Duration) (left int) {
	for end := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		var running []int
		for _, pid := range pids {
			if state, _ := stateOf(pid); state != "" && state != "Z" {
				running = append(running, pid)
			}
		}
		if len(running) > 0 && time.Now().Before(end) {
			continue
		}
		for _, pid := range running {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(running)
	}
}

// stateOf is what a process does, as "R", and who has started it; "" when it is
// not there.
func stateOf(pid int) (state string, parent int) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", 0
	}
	return parseStat(text)
}

// parseStat is that of a file in /proc, of a process or a thread.
func parseStat(text []byte) (state string, parent int) {
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(fields[1])
	return fields[0], parent
}
