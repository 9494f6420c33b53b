//go:build unix

package relay

import (
	"syscall"
	"testing"
)

// sendUrgent sends a byte as TCP's urgent data.
func sendUrgent(t testing.TB, c syscall.RawConn, b byte) {
	t.Helper()
	var failed error
	if err := c.Write(func(fd uintptr) bool {
		failed = syscall.Sendto(int(fd), []byte{b}, syscall.MSG_OOB, nil)
		return failed != syscall.EAGAIN
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}
