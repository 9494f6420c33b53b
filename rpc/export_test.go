package rpc

import (
	"context"
	"net"

	"github.com/pannier/pannier/flow"
)

// RememberCalls makes the server remember no more than n calls of a session
// that are over, for tests.
func (s *Server) RememberCalls(n int) { s.recent = newRecent(rememberTime, n) }

// OpenRPC is what gRPC's dialling ends with.
func OpenRPC(ctx context.Context, cc *ClientConn, s *flow.Session) (net.Conn, error) {
	return cc.openRPC(ctx, s)
}

// Uses is how many calls use the connection's session.
func Uses(cc *ClientConn) int {
	cc.link.mu.Lock()
	defer cc.link.mu.Unlock()
	return cc.link.uses.n
}
