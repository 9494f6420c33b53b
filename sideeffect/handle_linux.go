package sideeffect

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

func handleOf(path string) (FileHandle, error) {
	const op = "get file handle"
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return FileHandle{}, fault.Wrap(op, path, &os.PathError{Op: "name_to_handle_at", Path: path, Err: err})
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return FileHandle{}, fault.Wrap(op, path, &os.PathError{Op: "stat", Path: path, Err: err})
	}
	return FileHandle{Dev: uint64(st.Dev), Ino: st.Ino, Type: h.Type(), Bytes: h.Bytes()}, nil
}

// openHandle opens whatever the kernel finds under the handle.
func (b byHandle) openHandle(flags int) (*os.File, error) {
	h := unix.NewFileHandle(b.handle.Type, b.handle.Bytes)
	fd, err := unix.OpenByHandleAt(int(b.mount.Fd()), h, flags|unix.O_NONBLOCK|unix.O_CLOEXEC)
	runtime.KeepAlive(b.mount)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), b.String()), nil
}
