package flowtest

import (
	"fmt"
	"os"
	"syscall"
)

// SmallMount makes a directory, which has to be there, a file system that is full after so many bytes. It needs the right
// to mount.
func SmallMount(dir string, bytes int64) error { return small(dir, bytes, 0) }

// ResizeSmall gives it another size.
func ResizeSmall(dir string, bytes int64) error { return small(dir, bytes, syscall.MS_REMOUNT) }

// ReadOnlySmall lets nobody write to it any more.
func ReadOnlySmall(dir string, bytes int64) error {
	return small(dir, bytes, syscall.MS_REMOUNT|syscall.MS_RDONLY)
}

func small(dir string, bytes int64, flags uintptr) error {
	return os.NewSyscallError("mount", syscall.Mount("tmpfs", dir, "tmpfs", flags, fmt.Sprintf("size=%d,mode=0755", bytes)))
}

// Unmount takes it away, whoever is still in it.
func Unmount(dir string) error {
	return os.NewSyscallError("umount", syscall.Unmount(dir, syscall.MNT_DETACH))
}
