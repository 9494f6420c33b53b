package carrier

import (
	"net"
	"testing"
)

func TestReserve(t *testing.T) {
	if r := reserved(); r < leastReserve {
		t.Errorf("descriptors are kept from %d on", r)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if uses(c, 1<<20) || !uses(c, 1) || uses(c, 0) {
		t.Error("a connection's descriptor is not compared")
	}
	a, b := net.Pipe() // has none
	defer a.Close()
	defer b.Close()
	if uses(a, 1) {
		t.Error("a pipe has no descriptor")
	}
}
