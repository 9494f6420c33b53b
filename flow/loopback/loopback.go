// Package loopback makes TCP connections between two processes of one host as quick as the host is.
//
// Where the system's congestion control paces what is sent, as BBR does, the kernel sets a timer
// for every few packets, to spare the links on the way. On the loopback device there is no link to spare, and
// in a virtual machine the timers cost more than moving the bytes. So connections of that device
// get Reno, which every Linux has and which never paces; all others keep what the administrator has chosen.
// On other systems the package does what package net does.
package loopback

import (
	"context"
	"net"
	"net/netip"
	"syscall"
)

// Control is for net.Dialer.Control: it has to be known before a connection begins.
func Control(_, address string, c syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if to := a.Addr().Unmap(); err == nil && (to.IsLoopback() || to.IsUnspecified()) { // what has no host leads here
		_ = c.Control(func(fd uintptr) { unpace(fd) }) // only saves work
	}
	return nil
}

// Listen listens as lc does. What is accepted has the listener's congestion control, so whoever
// turns out to come from elsewhere is given the administrator's back.
func Listen(ctx context.Context, lc net.ListenConfig, network, address string) (net.Listener, error) {
	chosen, control := "", lc.Control
	lc.Control = func(network, address string, c syscall.RawConn) error {
		if control != nil {
			if err := control(network, address, c); err != nil {
				return err
			}
		}
		return c.Control(func(fd uintptr) { chosen = unpace(fd) })
	}
	l, err := lc.Listen(ctx, network, address)
	if err != nil || chosen == "" {
		return l, err
	}
	return &listener{l, chosen, isHere}, nil
}

// listener's connections have Reno until it is known who they are from.
type listener struct {
	net.Listener
	chosen string // the administrator's congestion control
	here   func(net.Addr) bool
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil && !l.here(c.RemoteAddr()) {
		if raw, err := c.(syscall.Conn).SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { pace(fd, l.chosen) })
		}
	}
	return c, err
}

func isHere(remote net.Addr) bool {
	a, ok := remote.(*net.TCPAddr)
	return ok && a.AddrPort().Addr().Unmap().IsLoopback()
}
