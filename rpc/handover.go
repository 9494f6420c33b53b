package rpc

import (
	"net"
	"sync"
)

// handover is a listener whose connections are pushed.
type handover struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandover() *handover {
	return &handover{conns: make(chan net.Conn, queuedConns), closed: make(chan struct{})}
}

func (h *handover) push(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		c.Close()
	}
	select {
	case <-h.closed: // there may have been room all the same, and nobody accepts it any more
		h.Close()
	default:
	}
}

// Accept implements net.Listener.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Connections nobody has accepted are closed.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.closed) })
	for {
		select {
		case c := <-h.conns:
			c.Close()
		default:
			return nil
		}
	}
}

// Addr implements net.Listener.
func (h *handover) Addr() net.Addr { return carryAddr("sessions") }
