package loopback

import (
	"net"
	"testing"
)

// TestJoins: a unix socket and TCP from an address of this host to itself stay here; what says nothing does not.
func TestJoins(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	pipe, other := net.Pipe()
	defer pipe.Close()
	defer other.Close()
	for _, tc := range []struct {
		name string
		conn net.Conn
		want bool
	}{
		{"a dialled unix socket", a, true},
		{"an accepted unix socket", b, true},
		{"127.0.0.1", between("127.0.0.1", "127.0.0.1"), true},
		{"::1", between("::1", "::1"), true},
		{"an address of its own", between("192.0.2.1", "192.0.2.1"), true},
		{"another host", between("192.0.2.1", "192.0.2.2"), false},
		{"a pipe", pipe, false},
		{"no address", addressed{}, false},
	} {
		if got := Joins(tc.conn); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// addressed is a connection that has addresses and nothing else.
type addressed struct {
	net.Conn
	local, remote net.Addr
}

func (a addressed) LocalAddr() net.Addr  { return a.local }
func (a addressed) RemoteAddr() net.Addr { return a.remote }

func between(local, remote string) net.Conn {
	return addressed{local: &net.TCPAddr{IP: net.ParseIP(local), Port: 1}, remote: &net.TCPAddr{IP: net.ParseIP(remote), Port: 2}}
}
