package relay

import (
	"net"
	"net/netip"
	"testing"

	"github.com/pannier/pannier/flow/flowtest"
)

// TestNetworkDoesNotPace: what a relay accepts and dials on this host does not pace what is sent.
func TestNetworkDoesNotPace(t *testing.T) {
	want, err := flowtest.LoopbackCongestion()
	if err != nil {
		t.Fatal(err)
	}
	n := Config{}.withDefaults().Network
	l, err := n.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for what, dial := range map[string]func() (net.Conn, error){
		"Dial": func() (net.Conn, error) { return n.Dial(t.Context(), "tcp", l.Addr().String()) },
		"DialFrom": func() (net.Conn, error) {
			return n.DialFrom(t.Context(), "tcp", netip.MustParseAddr("127.0.0.1"), l.Addr().String())
		},
	} {
		c, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
		for _, c := range []net.Conn{c, accepted} {
			if got, err := flowtest.Congestion(c); got != want || err != nil {
				t.Errorf("%s: %s, %v; want %s", what, got, err, want)
			}
		}
	}
}
