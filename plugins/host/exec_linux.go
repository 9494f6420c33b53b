package host

import "strconv"

// self is this program, also when its file has been replaced since.
const self = "/proc/self/exe"

// selfIsFixed: what is open as self is the same file as long as this process lives.
const selfIsFixed = true

// execPath names the file that is open as that descriptor, for exec.
func execPath(fd uintptr, _ string) string {
	return "/proc/self/fd/" + strconv.FormatUint(uint64(fd), 10)
}
