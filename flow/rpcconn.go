package flow

import (
	"context"
	"net"
	"sync"

	"github.com/pannier/pannier/spec/fault"
)

// maxRPC is how many connections for gRPC one session may have, whether they are
// connections or byte streams; more are refused as Overloaded. One carries all calls;
// another comes when that one is told to go away and ends its calls first.
const maxRPC = 8

// RPCConn is a connection that a session's dialler has made for gRPC. It takes a place of the
// session's until it is closed.
type RPCConn struct {
	net.Conn
	s    *Session
	once sync.Once
	kept func() bool // called when the session need not close it any more
}

// newRPCConn is a connection that has a place of the session's.
func newRPCConn(conn net.Conn, s *Session) *RPCConn {
	return &RPCConn{Conn: conn, s: s, kept: context.AfterFunc(s.thrown, func() { conn.Close() })}
}

// Close closes the connection.
func (c *RPCConn) Close() error {
	c.once.Do(func() {
		c.kept()
		c.s.leaveRPC()
	})
	return c.Conn.Close()
}

// takeRPC takes a place; leaveRPC gives it back.
func (s *Session) takeRPC() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.admitRPC()
}

// admitRPC is takeRPC for those who hold mu.
func (s *Session) admitRPC() error {
	if s.leaving {
		return errLeaving
	}
	if s.rpcs >= maxRPC {
		return fault.New("accept rpc connection", fault.Overloaded, "the session has %d; one carries all calls", s.rpcs)
	}
	s.rpcs++
	return nil
}

func (s *Session) leaveRPC() {
	s.mu.Lock()
	s.rpcs--
	s.mu.Unlock()
}
