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

func TestProgressLine(t *testing.T) {
	for _, c := range []struct {
		p    sideeffect.Progress
		want string
	}{
		{sideeffect.Progress{Moved: 9 << 20, Acknowledged: 0, Total: 10 << 20}, strings.Repeat("░", 30) + "    0%         0 B             -"},
		{sideeffect.Progress{Moved: 10 << 20, Acknowledged: 5 << 20, Total: 10 << 20},
			strings.Repeat("█", 15) + strings.Repeat("░", 15) + "   50%     5.0 MiB     2.5 MiB/s"},
		{sideeffect.Progress{Moved: 1 << 20, Acknowledged: 1<<20 - 1, Total: 1 << 20}, strings.Repeat("█", 30) + "   99%    1024 KiB     512 KiB/s"},
		{sideeffect.Progress{Moved: 1 << 20, Acknowledged: 1 << 20, Total: 1 << 20}, strings.Repeat("█", 30) + "  100%     1.0 MiB     512 KiB/s"},
		{sideeffect.Progress{Moved: 3 << 10, Acknowledged: 2 << 10, Total: -1}, "   2.0 KiB     1.0 KiB/s"},
		{sideeffect.Progress{Total: 0}, "       0 B             -"},
	} {
		if got := progressLine(c.p, 2*time.Second); got != c.want {
			t.Errorf("%+v:\n%q\n%q", c.p, got, c.want)
		}
	}
}

// TestMeterOnTerminal: a terminal gets a line that is removed at the end.
func TestMeterOnTerminal(t *testing.T) {
	master, slave := terminal(t)
	m := startMeter(slave, time.Now)
	m.note(sideeffect.Progress{Moved: 100, Acknowledged: 50, Total: 100})
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

// TestMeterElsewhere: anything else gets nothing.
func TestMeterElsewhere(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/messages")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	m := startMeter(file, time.Now)
	m.note(sideeffect.Progress{Moved: 100, Acknowledged: 50, Total: 100})
	m.close()
	if info, err := file.Stat(); err != nil || info.Size() != 0 {
		t.Error(info.Size(), err)
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
