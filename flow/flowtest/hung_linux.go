package flowtest

import (
	"fmt"
	"os"
	"sync"
	"syscall"
)

// HungMount makes a directory, which has to be there, a file system that answers nothing, as a mount whose server is gone:
// whoever looks at it waits until end is called, and has an error then. It needs /dev/fuse, and the right to mount.
func HungMount(dir string) (end func() error, err error) {
	server, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	if err := syscall.Mount("hung", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", server, os.Getuid(), os.Getgid())); err != nil {
		_ = syscall.Close(server)
		return nil, &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	return sync.OnceValue(func() error {
		_ = syscall.Close(server)
		return os.NewSyscallError("umount", syscall.Unmount(dir, syscall.MNT_DETACH))
	}), nil
}
