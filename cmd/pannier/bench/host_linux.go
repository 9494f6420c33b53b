package bench

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// tmpfsMagic is statfs(2)'s type of a tmpfs.
const tmpfsMagic = 0x01021994

// memoryDir is where a tmpfs usually is.
const memoryDir = "/dev/shm"

func readUsage() (Usage, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return Usage{}, fault.Wrap("read usage", "", err)
	}
	peak, err := procValue("/proc/self/status", "VmHWM")
	seconds := func(t syscall.Timeval) float64 { return time.Duration(t.Nano()).Seconds() }
	return Usage{User: seconds(r.Utime), System: seconds(r.Stime), PeakRSS: peak}, err
}

// procValue is the value of a "Name:  123 kB" line, in bytes.
func procValue(file, name string) (int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, fault.Wrap("read usage", file, err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		rest, ok := strings.CutPrefix(s.Text(), name+":")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 54)
		if err != nil {
			return 0, fault.New("read usage", fault.Internal, "%s in %s: %w", name, file, err)
		}
		return kib << 10, nil
	}
	return 0, fault.New("read usage", fault.Unsupported, "no %s in %s", name, file)
}

// room says whether dir is on a tmpfs and how many bytes fit there; a tmpfs
// holds no more than there is memory, whatever its size says.
func room(dir string) (tmpfs bool, free int64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return false, 0, fault.Wrap("look at directory", dir, err)
	}
	tmpfs, free = s.Type == tmpfsMagic, int64(s.Bavail)*s.Bsize
	if !tmpfs {
		return false, free, nil
	}
	memory, err := procValue("/proc/meminfo", "MemAvailable")
	return true, min(free, memory), err
}

// detach keeps the terminal's interrupt from the ends: the parent ends them, in
// order, and reports an interruption and not what the ends died of.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
