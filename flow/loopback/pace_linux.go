package loopback

import (
	"slices"

	"golang.org/x/sys/unix"
)

const calm = "reno"

// paced are the congestion controls that pace, whatever queues packets below.
var paced = []string{"bbr", "bbr2", "bbr3"}

// unpace gives a socket calm if it would pace, and returns what it had; "": it is left as it was.
func unpace(fd uintptr) (chosen string) {
	had, err := unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil || !slices.Contains(paced, had) {
		return ""
	}
	if !pace(fd, had) || !pace(fd, calm) { // it can be had again
		return ""
	}
	return had
}

func pace(fd uintptr, with string) bool {
	return unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, with) == nil
}
