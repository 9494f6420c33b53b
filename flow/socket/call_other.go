//go:build !linux || race

package socket

import "syscall"

// Read reads from a descriptor that does not wait, as syscall.Read but for EINTR, which is no reason to return.
func Read(fd uintptr, p []byte) (int, error) { return call(syscall.Read, fd, p) }

func write(fd uintptr, p []byte) (int, error) { return call(syscall.Write, fd, p) }

// call is as the other systems have it, and the race detector, which wants to see what is read and written.
func call(do func(int, []byte) (int, error), fd uintptr, p []byte) (int, error) {
	for {
		if n, err := do(int(fd), p); err != syscall.EINTR {
			return n, err
		}
	}
}
