package host_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/pannier/pannier/plugins"
)

// TestWritesOfCall: a call to a process is one write of each of the two, beside which nothing goes to and fro.
func TestWritesOfCall(t *testing.T) {
	cfg, _ := config(t)
	p := run(t, cfg)
	s, err := p.Open(t.Context(), plugins.Endpoint{URL: "odd:late"})
	if err != nil {
		t.Fatal(err)
	}
	is, err := p.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const calls = 50
	least := 10 * calls
	for range 10 { // a busy host writes some messages in two parts, and each process wakes its own threads so
		before := written(t, os.Getpid()) + written(t, is.PID)
		for range calls {
			if _, err := s.Stat(t.Context(), "/300"); err != nil {
				t.Fatal(err)
			}
		}
		least = min(least, written(t, os.Getpid())+written(t, is.PID)-before)
	}
	if least > calls*10/3 {
		t.Errorf("%d calls are %d writes", calls, least)
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
