package flowtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Family is a process with those it has started, and those they have: what a test that
// ends a server ends. Elsewhere than on Linux it is the process alone.
func Family(pid int) []int {
	all := []int{pid}
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // each has its own
	for _, t := range threads {
		children, _ := os.ReadFile(t)
		for _, c := range strings.Fields(string(children)) {
			if n, err := strconv.Atoi(c); err == nil {
				all = append(all, Family(n)...)
			}
		}
	}
	return all
}

// Kill ends a process and its family without a word. When it returns, all of them are gone,
// and so are their sockets: who is killed runs on for a while, and one that was being started
// meanwhile would keep them. So all are stopped before any is killed, and looked for again
// until nobody was found twice: only of processes that stand still does /proc say for
// certain what they have started.
func Kill(pid int) {
	all := map[int]bool{pid: true}
	for still, tries := 0, 0; still < 2 && tries < 1000; tries++ { // not for ever: in vfork, one stops late
		still++
		for p := range all {
			for _, q := range Family(p) {
				all[q] = true
			}
		}
		for p := range all {
			if !strings.Contains("TtZX", state(p)) {
				still = 0
				_ = syscall.Kill(p, syscall.SIGSTOP)
			}
		}
		if still == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	for p := range all {
		_ = syscall.Kill(p, syscall.SIGKILL)
	}
	for p := range all {
		for !strings.Contains("ZX", state(p)) {
			time.Sleep(time.Millisecond)
		}
	}
}

// state is the letter that /proc has for what a process does: T stopped, Z ended and not
// waited for. Empty: there is none, or no /proc.
func state(pid int) string {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if _, after, ok := strings.Cut(string(stat), ") "); ok { // the name, before it, may have anything
		return after[:1]
	}
	return ""
}
