package flowtest

import (
	"net"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Congestion is the congestion control of a TCP connection, or of the one under it.
func Congestion(c net.Conn) (name string, err error) {
	for {
		over, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = over.NetConn()
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return "", err
	}
	if e := raw.Control(func(fd uintptr) {
		name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	}); e != nil {
		return "", e
	}
	return name, err
}

// SystemCongestion is the one that sockets have here if nobody asks for another.
func SystemCongestion() (string, error) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	return strings.TrimSpace(string(b)), err
}

// LoopbackCongestion is the one that connections of the loopback device are to have here.
func LoopbackCongestion() (string, error) {
	name, err := SystemCongestion()
	if strings.HasPrefix(name, "bbr") {
		name = "reno"
	}
	return name, err
}
