package carrier

import (
	"context"
	"net"
	"time"

	"github.com/pannier/pannier/flow/loopback"
)

// listenTCP listens on a tcp address. Who says nothing after connecting is not accepted
// before about silent is over, where the system can do that; no matter to those
// who belong here, because in every protocol of a port the dialer speaks first.
func listenTCP(network, address string, silent time.Duration) (net.Listener, error) {
	c := net.ListenConfig{Control: deferAccept(silent), KeepAlive: -1} // lanes and gRPC have signs of life of their own
	return loopback.Listen(context.Background(), c, network, address)
}
