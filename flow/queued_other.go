//go:build !linux

package flow

import "syscall"

// queued is not known here.
func queued(syscall.RawConn) (int, bool) { return 0, false }
