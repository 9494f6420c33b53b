package carrier

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// What is kept of a process's descriptors for all but connections, so that files
// and stores can be opened however many strangers call: a quarter, within limits.
const (
	leastReserve = 16
	mostReserve  = 1024
)

// reserved is the descriptor from which on they are kept; 0: no limit is known.
func reserved() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil || r.Cur > 1<<30 {
		return 0
	}
	limit := int(r.Cur)
	return limit - min(max(limit/4, leastReserve), mostReserve)
}

// uses reports whether a connection uses a descriptor from a number on. The system
// gives the lowest free one, so that its number says how many are in use.
func uses(c net.Conn, from int) bool {
	s, ok := c.(syscall.Conn)
	if !ok || from <= 0 {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	above := false
	err = raw.Control(func(fd uintptr) { above = int(fd) >= from })
	return err == nil && above
}
