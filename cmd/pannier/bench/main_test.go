package bench

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain makes the test binary an end of its own benchmarks.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "end" {
		if err := End(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// small is a Config that is over soon.
func small(t *testing.T) Config {
	t.Helper()
	self, err := Self("end")
	if err != nil {
		t.Fatal(err)
	}
	return Config{Runs: 1, Size: 3<<20 + 17, Calls: 20, Dir: t.TempDir(), Program: self, Progress: t.Output()}
}

// empty fails the test if a benchmark left files behind.
func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in %s: %v, %v", dir, left, err)
	}
}
