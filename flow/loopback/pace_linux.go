package loopback

import (
	"strings"

	"golang.org/x/sys/unix"
)

const calm = "reno"

// paces tells which congestion controls do, whatever queues packets below.
var paces = func(name string) bool { return strings.HasPrefix(name, "bbr") }

// unpace gives a socket calm if it would pace and could be given back what it has.
func unpace(fd uintptr) bool {
	had := get(fd)
	return paces(had) && set(fd, had) && set(fd, calm)
}

// repace gives a socket that has calm from its listener what the system has now. Where a route has
// decided, it stays.
func repace(fd uintptr) {
	if get(fd) != calm {
		return
	}
	fresh, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fresh)
	set(fd, get(uintptr(fresh)))
}

// get is the congestion control of a socket; "": it has none.
func get(fd uintptr) string {
	name, err := unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil {
		return ""
	}
	return name
}

func set(fd uintptr, name string) bool {
	return unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name) == nil
}
