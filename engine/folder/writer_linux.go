package folder

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// writing reports whether a process of this host has the file open for writing; known is
// false where the kernel does not tell. It takes a read lease, which is given only without
// a writer, and gives it back at once.
func writing(f *os.File) (is, known bool) {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK) // the end of f ends it, too
		return false, true
	}
	return errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EAGAIN)
}

// foreign reports whether a file is another user's than this process: of those the kernel tells
// only who has CAP_LEASE.
func foreign(fi fs.FileInfo) bool {
	s, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) != os.Geteuid()
}
