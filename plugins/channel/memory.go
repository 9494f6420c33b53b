package channel

import (
	"net"
	"sync"

	"github.com/pannier/pannier/spec/fault"
)

// memory is the ring, as it is mapped here.
type memory struct {
	mu   sync.Mutex // while bytes are copied, they are not released
	b    []byte     // nil: not yet, or no more
	gone bool       // released
}

// share makes the memory and hands it over, or takes it. It returns false, and no error, if there
// is none: then everything goes over the socket.
func (m *memory) share(conn net.Conn, mode Mode) (bool, error) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return false, fault.New("channel", fault.Unsupported, "memory is handed over on a unix socket, not on %T", conn)
	}
	how := offer
	if mode == Accept {
		how = accept
	}
	b, err := how(c)
	if b == nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone {
		unmap(b)
	} else {
		m.b = b
	}
	return true, err
}

// part is n bytes of the ring.
func (m *memory) part(at, n int) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.b == nil {
		return nil, net.ErrClosed
	}
	return m.b[at : at+n], nil
}

// put copies p to the ring.
func (m *memory) put(at int, p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.b == nil {
		return 0, net.ErrClosed
	}
	return copy(m.b[at:], p), nil
}

// get copies to p from the ring.
func (m *memory) get(p []byte, at int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.b == nil {
		return 0, net.ErrClosed
	}
	return copy(p, m.b[at:]), nil
}

func (m *memory) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.b != nil {
		unmap(m.b)
	}
	m.b, m.gone = nil, true
}
