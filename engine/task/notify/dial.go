package notify

import (
	"context"
	"crypto/tls"
	"net"
)

// dial is a connection that is cut when ctx ends, whatever is waited for.
func dial(ctx context.Context, network, address string, implicit bool, cfg *tls.Config) (net.Conn, error) {
	d := &net.Dialer{}
	var c net.Conn
	var err error
	if implicit {
		c, err = (&tls.Dialer{NetDialer: d, Config: cfg}).DialContext(ctx, network, address)
	} else {
		c, err = d.DialContext(ctx, network, address)
	}
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = c.Close() })
	return c, nil
}
