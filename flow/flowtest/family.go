package flowtest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Family is a process with those it has started, and those they have: what a test that
// ends a server ends. Elsewhere than on Linux it is the process alone.
func Family(pid int) []int {
	all := []int{pid}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, c := range strings.Fields(string(children)) {
		if n, err := strconv.Atoi(c); err == nil {
			all = append(all, Family(n)...)
		}
	}
	return all
}
