//go:build !linux

package carrier

import (
	"syscall"
	"time"
)

// deferAccept does nothing here.
func deferAccept(time.Duration) func(network, address string, c syscall.RawConn) error { return nil }
