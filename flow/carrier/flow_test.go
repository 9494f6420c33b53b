package carrier

import (
	"net"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pannier/pannier/flow"
)

// What flow asks of its carriers.
var (
	_ flow.Dialer     = (*Dialer)(nil)
	_ flow.Dialer     = (*Pipe)(nil)
	_ flow.Identified = Conn(nil)
	_ Conn            = (*plainConn)(nil)
	_ Conn            = (*tlsConn)(nil)
	_ Conn            = (*pipeConn)(nil)
)

// TestNetConn: a session finds the socket under each sort of connection, at both ends.
func TestNetConn(t *testing.T) {
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	pins, err := ParsePins(id.Key())
	if err != nil {
		t.Fatal(err)
	}
	for address, o := range map[string]Options{
		"tcp://127.0.0.1:0": {}, "tls://127.0.0.1:0": {Identity: id, Pins: pins}, "unix://" + filepath.Join(t.TempDir(), "s"): {},
	} {
		l := serve(t, address, o)
		c, err := dial(t, l, o)
		if err != nil {
			t.Fatal(err)
		}
		writePreface(t, c)
		for _, end := range []net.Conn{c, <-l.lane} {
			t.Cleanup(func() { end.Close() })
			under := end
			for _, socket := under.(syscall.Conn); !socket; _, socket = under.(syscall.Conn) {
				deeper, ok := under.(interface{ NetConn() net.Conn })
				if !ok {
					t.Fatalf("%s: nothing is known of what is under %T", address, under)
				}
				under = deeper.NetConn()
			}
		}
	}
}
