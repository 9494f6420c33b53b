package doctor

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What the kernel of Linux says.

// kernelClock is whether something keeps the clock right, and how far it may be off.
func kernelClock() (within time.Duration, synced bool, err error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return time.Duration(t.Maxerror) * time.Microsecond, state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, err
}

// kinds are file systems that lose data or promises, and what they are.
var kinds = map[int64]string{
	unix.TMPFS_MAGIC: "memory", unix.RAMFS_MAGIC: "memory", unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	unix.NFS_SUPER_MAGIC: "network", unix.SMB_SUPER_MAGIC: "network", unix.SMB2_SUPER_MAGIC: "network", unix.CIFS_SUPER_MAGIC: "network",
	unix.V9FS_MAGIC: "network", unix.CEPH_SUPER_MAGIC: "network", unix.AFS_SUPER_MAGIC: "network", unix.CODA_SUPER_MAGIC: "network",
}

// volumeOf is the file system that a directory is on.
func volumeOf(dir string) (v volume, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return v, err
	}
	return volume{free: s.Bavail * uint64(s.Bsize), size: s.Blocks * uint64(s.Bsize), files: s.Files, freeFiles: s.Ffree, kind: kinds[int64(s.Type)]}, nil
}

// protectsLinks reports whether the kernel refuses users a second name for the files of others.
func protectsLinks() bool {
	text, err := os.ReadFile("/proc/sys/fs/protected_hardlinks")
	return err == nil && strings.TrimSpace(string(text)) == "1"
}

// openFilesOf is how many descriptors a process may have; 0: this one.
func openFilesOf(pid int) (uint64, error) {
	if pid == 0 {
		var l unix.Rlimit
		err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
		return l.Cur, err
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "Max open files"); ok {
			soft := strings.Fields(rest)[0]
			if soft == "unlimited" {
				return unix.RLIM_INFINITY, nil
			}
			return strconv.ParseUint(soft, 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no line of open files", f.Name())
}

// leaseOf is whose a process is, and whether the kernel tells it of other users' files, too, who has them
// open. 0 is this process.
func leaseOf(pid int) (uid int, others bool, err error) {
	if pid == 0 {
		pid = os.Getpid()
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	uid = -1
	for lines := bufio.NewScanner(f); lines.Scan(); {
		switch fields := strings.Fields(lines.Text()); {
		case len(fields) > 2 && fields[0] == "Uid:":
			uid, err = strconv.Atoi(fields[2]) // the effective one
		case len(fields) > 1 && fields[0] == "CapEff:" && uid >= 0:
			var caps uint64
			caps, err = strconv.ParseUint(fields[1], 16, 64)
			return uid, caps&(1<<unix.CAP_LEASE) != 0, err
		}
		if err != nil {
			return 0, false, err
		}
	}
	return 0, false, fmt.Errorf("%s does not say what it may do", f.Name())
}

// watchLimits are how many directories one user may watch, with how many instances.
func watchLimits() (watches, instances uint64, err error) {
	for _, l := range []struct {
		to   *uint64
		name string
	}{{&watches, "max_user_watches"}, {&instances, "max_user_instances"}} {
		b, err := os.ReadFile("/proc/sys/fs/inotify/" + l.name)
		if err == nil {
			*l.to, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return watches, instances, nil
}

// PIDOf is the process that listens at a unix socket; 0: nobody knows.
func PIDOf(path string) int {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return 0
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	if err != nil {
		return 0
	}
	return pid
}
