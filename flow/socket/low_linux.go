package socket

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// setLow has whoever waits for the socket to become readable woken when n bytes have come, or all that can:
// the peer has ended, or has no window any more. Whoever waits when it is set hears of it.
func setLow(fd uintptr, n int) bool {
	return lowWakes() && unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, n) == nil
}

// room is how much the socket's buffer may hold, with what the kernel needs to keep it.
func room(fd uintptr) int {
	n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return 0
	}
	return n
}

// lowWakes says whether the kernel wakes who waits for more than it has a window for: since 5.10. Before 4.18 nothing did.
var lowWakes = sync.OnceValue(func() bool {
	var u unix.Utsname
	return unix.Uname(&u) == nil && since(unix.ByteSliceToString(u.Release[:]), 5, 10)
})

// since says whether a release is of that version or a later one.
func since(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n < 2 {
		return false
	}
	return a > major || a == major && b >= minor
}
