package host_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestWritesOfCall: a call to a process is one write of each of the two, beside which nothing goes to and fro.
func TestWritesOfCall(t *testing.T) {
	cfg, _ := config(t)
	p := run(t, cfg)
	s := open(t, p, t.TempDir())
	is, err := p.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const calls = 50
	least := [2]int{calls * 10, calls * 10}
	for range 20 { // a busy host writes some messages in two parts
		before := [2]int{written(t, os.Getpid()), written(t, is.PID)}
		for range calls {
			if _, err := s.Stat(t.Context(), "/"); err != nil {
				t.Fatal(err)
			}
		}
		for i, pid := range []int{os.Getpid(), is.PID} {
			least[i] = min(least[i], written(t, pid)-before[i])
		}
	}
	if most := calls * 3 / 2; least[0] > most || least[1] > most {
		t.Errorf("%d calls are %d writes of the host, and %d of the plugin", calls, least[0], least[1])
	}
}

// written is how often a process has written.
func written(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "syscw: "); ok {
			times, err := strconv.Atoi(strings.TrimSpace(n))
			if err != nil {
				t.Fatal(err)
			}
			return times
		}
	}
	t.Fatalf("%q", text)
	return 0
}
