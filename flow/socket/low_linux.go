package socket

import "syscall"

// setLow has whoever waits for the socket to become readable woken when n bytes have come, or all that can:
// the peer has ended, or the buffer is full.
func setLow(fd uintptr, n int) bool {
	return syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, n) == nil
}
