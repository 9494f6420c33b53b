//go:build !linux

package channel

import (
	"net"

	"github.com/pannier/pannier/spec/fault"
)

// Shares says whether this system has memory that can be shared.
const Shares = false

func offer(*net.UnixConn) ([]byte, error) {
	return nil, fault.New("channel", fault.Unsupported, "this system has no sealed memory")
}

func accept(conn *net.UnixConn) ([]byte, error) { return offer(conn) }

func unmap([]byte) {}
