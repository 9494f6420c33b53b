package freeport

import (
	"net"
	"strconv"
	"testing"
)

// TestAddress: no address is given twice, each can be listened at, and none is one that
// an outgoing connection may have.
func TestAddress(t *testing.T) {
	seen := map[string]bool{}
	for range 500 {
		at := For(t, "127.0.0.1")
		if seen[at] {
			t.Errorf("%s twice", at)
		}
		seen[at] = true
		_, text, _ := net.SplitHostPort(at)
		if port, err := strconv.Atoi(text); err != nil || port < lowest || port >= outgoing() {
			t.Errorf("%s is not between %d and %d", at, lowest, outgoing())
		}
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	if at, err := Address("192.0.2.1"); err == nil {
		t.Errorf("%s, which is not of this host", at)
	}
}
