package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/sideeffect"
)

// TestMeterOnTerminal: a terminal gets a line that is removed at the end.
func TestMeterOnTerminal(t *testing.T) {
	master, slave := terminal(t)
	m := startMeter(slave, time.Now)
	m.note(sideeffect.Progress{Moved: 100, Received: 50, Total: 100})
	seen := make([]byte, 0, 4096)
	for !strings.Contains(string(seen), "50%") {
		n, err := master.Read(seen[len(seen):cap(seen)])
		if err != nil {
			t.Fatal(err)
		}
		seen = seen[:len(seen)+n]
	}
	m.close()
	rest := make([]byte, 4096)
	n, err := master.Read(rest)
	if err != nil || !strings.HasSuffix(string(rest[:n]), "\r\x1b[K") {
		t.Errorf("%q, %v", rest[:n], err)
	}
}

// terminal is both ends of a pseudo-terminal.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Skip(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Skip(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}
