package carrier

import (
	"syscall"
	"time"
)

// deferAccept has the kernel keep connections to itself until they have said
// something or have been silent for d, in whole seconds and rounded up to 1, 3, 7, 15 (the moments
// at which it asks the peer again, TCP_DEFER_ACCEPT). Until then they cost a few hundred bytes of the
// kernel's and nothing here. As many as the accept queue is long can wait; beyond
// that they are accepted as if nobody had asked.
func deferAccept(d time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_DEFER_ACCEPT, int(d.Seconds())) // only saves work
		})
	}
}
