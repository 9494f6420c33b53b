package bench

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pannier/pannier/engine/node/nodetest"
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
	peak, err1 := procValue("/proc/self/status", "VmHWM")
	rss, err2 := procValue("/proc/self/status", "VmRSS")
	seconds := func(t syscall.Timeval) float64 { return time.Duration(t.Nano()).Seconds() }
	return Usage{User: seconds(r.Utime), System: seconds(r.Stime), PeakRSS: peak, RSS: rss}, errors.Join(err1, err2)
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

// readBy is how many bytes a process has read since it started, from files and all else, in
// memory or not.
func readBy(pid int) (int64, error) {
	file := "/proc/" + strconv.Itoa(pid) + "/io"
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, fault.Wrap("read usage", file, err)
	}
	var n int64
	if _, err := fmt.Sscanf(string(text), "rchar: %d", &n); err != nil {
		return 0, fault.New("read usage", fault.Unsupported, "no rchar in %s", file)
	}
	return n, nil
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

// usageOf is what another process has used since it started, in ticks of 10 ms.
func usageOf(pid int) (Usage, error) {
	u, _, err := usageAndReaped(pid)
	return u, err
}

// usageOfAll is what a process and those below it have used together, those that have
// ended included. Peaks are added up.
func usageOfAll(pid int) (u Usage, err error) {
	below := nodetest.Descendants(pid)
	for {
		if u, err = usageOfThese(append(below, pid)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return u, err
		}
		// The time of one that ends meanwhile would be there twice, or not at all.
		now := nodetest.Descendants(pid)
		if slices.Equal(below, now) {
			return u, err
		}
		below = now
	}
}

func usageOfThese(pids []int) (all Usage, err error) {
	for _, pid := range pids {
		u, reaped, err := usageAndReaped(pid)
		if err != nil {
			return all, err
		}
		all.User, all.System = all.User+u.User, all.System+u.System+reaped
		all.RSS, all.PeakRSS = all.RSS+u.RSS, all.PeakRSS+u.PeakRSS
	}
	return all, nil
}

// usageAndReaped is usageOf, and the processor time of its children that have ended.
func usageAndReaped(pid int) (u Usage, reaped float64, err error) {
	const op = "read usage"
	dir := "/proc/" + strconv.Itoa(pid)
	b, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return u, 0, fault.Wrap(op, "", err)
	}
	// The name, in parentheses, may hold anything; after it utime and stime are
	// the 12th and 13th fields, those of ended children the next.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 15 {
		return u, 0, fault.New(op, fault.Unsupported, "%s/stat has %d fields", dir, len(fields))
	}
	var ticks [4]float64
	for i := range ticks {
		n, bad := strconv.ParseFloat(fields[11+i], 64)
		ticks[i], err = n/100, errors.Join(err, bad) // USER_HZ, the same on every architecture of Linux
	}
	u = Usage{User: ticks[0], System: ticks[1]}
	if fields[0] != "Z" { // what has ended has no memory
		var err1, err2 error
		u.PeakRSS, err1 = procValue(dir+"/status", "VmHWM")
		u.RSS, err2 = procValue(dir+"/status", "VmRSS")
		err = errors.Join(err, err1, err2)
	}
	return u, ticks[2] + ticks[3], err
}

// fileSystem names what dir is on.
func fileSystem(dir string) string {
	var s syscall.Statfs_t
	if syscall.Statfs(dir, &s) != nil {
		return "unknown"
	}
	switch s.Type {
	case tmpfsMagic:
		return "tmpfs"
	case 0xef53:
		return "ext4"
	case 0x58465342:
		return "xfs"
	case 0x9123683e:
		return "btrfs"
	case 0x794c7630:
		return "overlayfs"
	}
	return "0x" + strconv.FormatInt(int64(s.Type), 16)
}

// manyFiles raises how many descriptors this process, and what it starts, may have to
// what the system lets it have.
func manyFiles() error {
	var l syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	if err == nil {
		l.Cur = l.Max
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
	}
	return fault.Wrap("raise number of descriptors", "", err)
}
