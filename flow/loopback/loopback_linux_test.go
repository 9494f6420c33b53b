package loopback

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/pannier/pannier/flow/flowtest"
	"golang.org/x/sys/unix"
)

// systems is the congestion control that sockets have here, which the package is told is one that paces.
func systems(t *testing.T) string {
	t.Helper()
	name, err := flowtest.SystemCongestion()
	if err != nil {
		t.Fatal(err)
	}
	if name == calm {
		t.Skip("this system's congestion control is " + calm)
	}
	before := paces
	paces = func(is string) bool { return is == name }
	t.Cleanup(func() { paces = before })
	return name
}

func congestion(t *testing.T, c net.Conn) string {
	t.Helper()
	name, err := flowtest.Congestion(c)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// meet returns both ends of a connection to l.
func meet(t *testing.T, l net.Listener, multipath bool) (dialed, accepted net.Conn) {
	t.Helper()
	d := net.Dialer{Control: Control}
	d.SetMultipathTCP(multipath)
	dialed, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close() })
	if accepted, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close() })
	return dialed, accepted
}

// TestLoopback: neither end of a connection of the loopback device paces, wherever the listener listens.
func TestLoopback(t *testing.T) {
	systems(t)
	for _, at := range []string{"127.0.0.1:0", ":0", "0.0.0.0:0", "[::]:0"} {
		l, err := Listen(t.Context(), net.ListenConfig{}, "tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for _, multipath := range []bool{false, true} {
			dialed, accepted := meet(t, l, multipath)
			if a, b := congestion(t, dialed), congestion(t, accepted); a != calm || b != calm {
				t.Errorf("%s: %s and %s", at, a, b)
			}
		}
	}
}

// TestElsewhere: whoever comes from another host gets the administrator's congestion control, and what is
// sent arrives.
func TestElsewhere(t *testing.T) {
	chosen := systems(t)
	l, err := Listen(t.Context(), net.ListenConfig{}, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.(*listener).here = func(net.Addr) bool { return false }
	for _, multipath := range []bool{true, false} {
		_, accepted := meet(t, l, multipath)
		if got := congestion(t, accepted); got != chosen {
			t.Errorf("accepted: %s, want %s", got, chosen)
		}
	}
	dialed, accepted := meet(t, l, false)
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		_, _ = accepted.Write(want)
		accepted.Close()
	}()
	if got, err := io.ReadAll(dialed); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
	}
}

// TestLeftAlone: a system that does not pace is left as it is, and so is a dialer that leads to another host.
func TestLeftAlone(t *testing.T) {
	chosen := systems(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	name := func() (s string) {
		_ = raw.Control(func(fd uintptr) { s, _ = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION) })
		return s
	}
	if err := Control("tcp4", "192.0.2.1:80", raw); err != nil || name() != chosen {
		t.Errorf("another host's: %s, %v", name(), err)
	}
	paces = func(string) bool { return false }
	if err := Control("tcp4", "127.0.0.1:80", raw); err != nil || name() != chosen {
		t.Errorf("a system that does not pace: %s, %v", name(), err)
	}
	l, err := Listen(context.Background(), net.ListenConfig{}, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, is := l.(*listener); is {
		t.Error("its listener is not package net's")
	}
}

// TestHere: which addresses are the loopback device's, of dialers and listeners and of who is accepted.
func TestHere(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "[::ffff:127.0.0.1]:1": true, ":1": true, "0.0.0.0:1": true, "[::]:1": true,
		"192.0.2.1:1": false, "[fe80::1%lo]:1": false, "[::ffff:192.0.2.1]:1": false, "/run/socket": false, "": false, "@abstract": false,
	} {
		if got := leadsHere(address); got != want {
			t.Errorf("%q leads here: %v", address, got)
		}
	}
	for address, want := range map[string]bool{"127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true, "192.0.2.1": false, "::ffff:192.0.2.1": false, "fe80::1": false} {
		if got := isHere(&net.TCPAddr{IP: net.ParseIP(address)}); got != want {
			t.Errorf("%s is here: %v", address, got)
		}
	}
	if isHere(&net.UnixAddr{Name: "s"}) || isHere(nil) {
		t.Error("no TCP, and here")
	}
}

// TestRouteDecides: who comes from elsewhere keeps what is not the listener's.
func TestRouteDecides(t *testing.T) {
	chosen := systems(t)
	l, err := Listen(t.Context(), net.ListenConfig{}, "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, accepted := meet(t, l, false)
	raw, err := accepted.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	available, err := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(available)) {
		want := name
		if name == calm {
			want = chosen
		}
		may := false
		if err := raw.Control(func(fd uintptr) { may = set(fd, name) }); err != nil || !may {
			continue // it is root's
		}
		_ = raw.Control(repace)
		if got := congestion(t, accepted); got != want {
			t.Errorf("%s became %s", name, got)
		}
	}
}
