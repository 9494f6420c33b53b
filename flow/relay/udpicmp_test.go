package relay

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// icmpConn is a socket whose first reads have an error each.
type icmpConn struct {
	net.Conn
	reads atomic.Int64
}

func (c *icmpConn) Read(p []byte) (int, error) {
	if n := int(c.reads.Add(1)); n <= len(earlier) {
		return 0, &net.OpError{Op: "read", Net: "udp", Err: earlier[n-1]}
	}
	return c.Conn.Read(p)
}

// TestUDPEarlierErrors: what a router says of a datagram does not end its source: the destination goes on to see the
// same port.
func TestUDPEarlierErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("udp://10.0.0.5:53"), false)
		defer w.stop()
		w.east.cfg.Network.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := w.eastWorld.dial(ctx, network, address)
			return &icmpConn{Conn: c}, err
		}
		w.udpRelay(nil)
		server, client := w.udpServer("10.0.0.5:53"), w.udpClient(1)
		var first net.Addr
		for range 2 {
			client.WriteTo([]byte("ping"), udpAt)
			synctest.Wait()
			_, from, err := server.ReadFrom(make([]byte, 10))
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = from
			}
			server.WriteTo([]byte("pong"), from)
			if got := waiting(client); from != first || len(got) != 1 {
				t.Errorf("%v, then %v with the answers %q", first, from, got)
			}
		}
		if s := w.east.Stats()[0]; s.Open != 1 || s.Opened != 1 || s.Failed != 0 {
			t.Errorf("%+v", s)
		}
	})
}
