package ftpserver

import (
	"fmt"
	"os"
	"syscall"
)

// mount makes the directory a file system of so many bytes; once it is one, that many more or less.
func mount(dir string, bytes int64, again bool) error {
	flags := uintptr(0)
	if again {
		flags = syscall.MS_REMOUNT
	}
	return os.NewSyscallError("mount", syscall.Mount("tmpfs", dir, "tmpfs", flags, fmt.Sprintf("size=%d,mode=0755", bytes)))
}

// unmount takes it away, whoever is still in it.
func unmount(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
