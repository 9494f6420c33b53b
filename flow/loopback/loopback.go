// Package loopback makes TCP connections to 127.0.0.0/8 and ::1 as quick as the host is.
//
// Where the system's congestion control paces what is sent, as BBR does, the kernel sets a timer
// for every few packets, to spare the links on the way. On the loopback device there is no link to spare, and
// in a virtual machine the timers cost more than moving the bytes. So connections there get Reno, which
// every Linux has and which never paces, if the system allows it to this process. All others keep what the administrator has
// chosen. On other systems than Linux the package does what package net does.
package loopback

import (
	"context"
	"net"
	"net/netip"
	"syscall"
)

// Control is for net.Dialer.Control: a connection that has begun with BBR goes on pacing.
func Control(_, address string, c syscall.RawConn) error {
	if leadsHere(address) {
		_ = c.Control(func(fd uintptr) { unpace(fd) }) // only saves work
	}
	return nil
}

// Listen listens as lc does. What is accepted has the listener's congestion control, so whoever
// turns out to come from elsewhere is given the system's.
func Listen(ctx context.Context, lc net.ListenConfig, network, address string) (net.Listener, error) {
	calm, control := false, lc.Control
	lc.Control = func(network, address string, c syscall.RawConn) error {
		if control != nil {
			if err := control(network, address, c); err != nil {
				return err
			}
		}
		if !leadsHere(address) {
			return nil
		}
		return c.Control(func(fd uintptr) { calm = unpace(fd) })
	}
	l, err := lc.Listen(ctx, network, address)
	if err != nil || !calm {
		return l, err
	}
	return &listener{l, isHere}, nil
}

// leadsHere tells it of what package net dials or listens at; 0.0.0.0, [::] and no host at all lead here, too.
func leadsHere(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return err == nil
	}
	a, err := netip.ParseAddr(host)
	return err == nil && (a.IsLoopback() || a.IsUnspecified())
}

// listener's connections have Reno until it is known who they are from.
type listener struct {
	net.Listener
	here func(net.Addr) bool
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil && !l.here(c.RemoteAddr()) {
		if raw, err := c.(syscall.Conn).SyscallConn(); err == nil {
			_ = raw.Control(repace)
		}
	}
	return c, err
}

// Joins reports whether both ends of a connection are on this host, by their addresses. Who forwards a port of this
// host to another one looks so, too.
func Joins(c net.Conn) bool {
	switch remote := c.RemoteAddr().(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		local, ok := c.LocalAddr().(*net.TCPAddr)
		return isHere(remote) || ok && local.IP.Equal(remote.IP)
	}
	return false
}

func isHere(remote net.Addr) bool {
	a, ok := remote.(*net.TCPAddr)
	return ok && a.AddrPort().Addr().IsLoopback()
}
