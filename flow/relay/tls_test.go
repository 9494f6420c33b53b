package relay

import (
	"context"
	"net"
	"sync"
	"testing"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
)

// TestOverTLS: sessions whose ends have proved their keys, relays of both ends at
// once, many connections at a time.
func TestOverTLS(t *testing.T) {
	ours, err := carrier.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := carrier.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	to := echo(t, "tcp", "127.0.0.1:0").Addr().String()
	policy := func(partner string) Config {
		return Config{Policy: []Allow{{Partner: partner, Relay: "*", Dial: []string{"tcp://" + to}}}}
	}
	west, _ := New(policy("east"))
	east, _ := New(policy("west"))
	acceptor, err := flow.NewAcceptor(flow.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := carrier.Listen("tls://127.0.0.1:0", carrier.Options{Identity: theirs, Pins: carrier.Pins{ours.Key()}, Protocols: []string{carrier.ProtocolLane}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { l.Serve(acceptor.Handle, func(c net.Conn) { c.Close() }) })
	d, err := carrier.NewDialer("tls://"+l.Addr().String(), carrier.Options{Identity: ours, Pins: carrier.Pins{theirs.Key()}})
	if err != nil {
		t.Fatal(err)
	}
	near, err := flow.Connect(t.Context(), d, flow.Config{})
	if err != nil {
		t.Fatal(err)
	}
	far, err := acceptor.Accept(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() { west.Serve("east", near) })
	wg.Go(func() { east.Serve("west", far) })
	defer func() {
		west.Close()
		east.Close()
		near.Close()
		acceptor.Close()
		l.Close()
		wg.Wait()
	}()
	if far.Peer().Key != ours.Key() {
		t.Errorf("the acceptor knows the partner as %q", far.Peer().Key)
	}
	var clients sync.WaitGroup
	for hub, partner := range map[*Hub]string{west: "east", east: "west"} {
		if err := hub.Add(Relay{Name: "r", Partner: partner, Accept: mustAccept(t, "tcp://127.0.0.1:0"), To: mustTo(t, "tcp://"+to)}); err != nil {
			t.Fatal(err)
		}
		address := hub.Stats()[0].Bound[0][len("tcp://"):]
		for range 20 {
			clients.Go(func() {
				c, err := net.Dial("tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				roundTrip(t, c, 256<<10)
			})
		}
	}
	clients.Wait()
}
