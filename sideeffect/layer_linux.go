package sideeffect

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func (f osFile) SyncData() error {
	return f.control("fdatasync", func(fd int) error { return unix.Fdatasync(fd) })
}

// Allocate takes no pages of a tmpfs, which would be all of them before the first byte; it
// only looks whether there is room.
func (f osFile) Allocate(n int64) error {
	err := f.control("fallocate", func(fd int) error {
		var fs unix.Statfs_t
		if err := unix.Fstatfs(fd, &fs); err == nil && fs.Type == unix.TMPFS_MAGIC {
			return roomOf(fd, &fs, n)
		}
		return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, n)
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// roomOf is ENOSPC if a file system that has no more than fs says has no room for n bytes of a file, of
// which some may be there.
func roomOf(fd int, fs *unix.Statfs_t, n int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if fs.Blocks > 0 && (n-512*st.Blocks+int64(fs.Bsize)-1)/int64(fs.Bsize) > int64(fs.Bavail) { // 0: a tmpfs without limit
		return unix.ENOSPC
	}
	return nil
}

// willNeed asks the kernel to read n bytes at off from disk. It is a hint:
// nothing is lost without it.
func willNeed(f *os.File, off, n int64) {
	_ = unix.Fadvise(int(f.Fd()), off, n, unix.FADV_WILLNEED)
}
