package flow

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestWallClock: nothing here keeps a moment as a number of the wall clock. Whoever sets that clock
// would end sessions, or keep dead ones.
func TestWallClock(t *testing.T) {
	wall := regexp.MustCompile(`\.Unix(Nano|Milli|Micro)?\(`)
	looked := 0
	for _, pattern := range []string{"*.go", "carrier/*.go", "relay/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			looked++
			if at := wall.FindIndex(text); at != nil {
				t.Errorf("%s:%d: a moment as a number; take the time since something began", file, 1+strings.Count(string(text[:at[0]]), "\n"))
			}
		}
	}
	if looked < 50 {
		t.Errorf("only %d files were looked at", looked)
	}
}
