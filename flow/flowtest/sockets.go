package flowtest

import (
	"net"
	"os"
	"path/filepath"
)

// Sockets is a connection of the system, "tcp" or "unix": the end that dialled, and the one that was accepted.
func Sockets(network string) (dialled, accepted net.Conn, err error) {
	address := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "sockets")
		if err != nil {
			return nil, nil, err
		}
		defer os.RemoveAll(dir)
		address = filepath.Join(dir, "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if dialled, err = net.Dial(network, l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if accepted, err = l.Accept(); err != nil {
		dialled.Close()
		return nil, nil, err
	}
	return dialled, accepted, nil
}
