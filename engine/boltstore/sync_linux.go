package boltstore

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData makes what was written durable, and the file's length if it has changed.
func syncData(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
