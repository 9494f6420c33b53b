package flow

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// queued is how many of the bytes written to a socket the peer's system has not acknowledged; false: it is none.
func queued(raw syscall.RawConn) (n int, ok bool) {
	var err error
	closed := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n, closed == nil && err == nil
}
