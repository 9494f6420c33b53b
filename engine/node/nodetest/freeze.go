package nodetest

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Freeze stops the process, and what it has started, in the middle of what they do, and returns when none of
// them runs any more: Linux. A system call under way may still end, but nobody hears of it. Only Kill follows.
//
// Whoever takes something away below a node as a power cut does freezes it first. One that lives on is told
// what nobody is told in a real one: a file system that is shut down while fdatasync(2) is under way may
// let it return without an error, although the new size of the file is lost (Linux 6.18: ext4 9, XFS 13
// of 100 times, where a file grows and is synced without end).
func (n *Node) Freeze() error {
	pid := n.PID()
	if pid == 0 {
		return nil
	}
	signalGroup(pid, syscall.SIGSTOP)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Microsecond) {
		all := append(Descendants(pid), pid)
		for _, p := range all { // tasks and bridges have groups of their own
			_ = syscall.Kill(p, syscall.SIGSTOP)
		}
		running := runs(all)
		if running == "" {
			return nil
		}
		if time.Now().After(end) {
			return fault.New("freeze node", fault.Deadline, "%s of %s does not stop", running, n.Name)
		}
	}
}

// runs names one thread of processes that may still get back to its program: any but one that is stopped, or
// that is in a system call which no signal breaks off and after which it is.
func runs(pids []int) string {
	for _, pid := range pids {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, f := range threads {
			text, err := os.ReadFile(f)
			if err != nil {
				continue // it has ended
			}
			if state, _ := parseStat(text); state != "T" && state != "D" && state != "Z" && state != "X" {
				return fmt.Sprintf("%s (%s)", filepath.Dir(f), state)
			}
		}
	}
	return ""
}
