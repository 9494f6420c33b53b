package rpc_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// tap is a wire that is listened to: it passes on every connection between a
// client and a server on tcp, and keeps what crosses it.
type tap struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu    sync.Mutex
	heard []byte // both ways, in pieces as they came
	conns []net.Conn
}

// newTap puts a wire between p's server and the clients that p dials from now on.
func newTap(t testing.TB, p *pair) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &tap{listener: l, target: p.address[len("tcp://"):]}
	p.address = "tcp://" + l.Addr().String()
	w.wg.Go(w.serve)
	t.Cleanup(func() {
		l.Close()
		w.cut()
		w.wg.Wait()
	})
	return w
}

func (w *tap) serve() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.target)
		if err != nil {
			near.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, near, far)
		w.mu.Unlock()
		w.wg.Go(func() { w.pass(near, far) })
		w.wg.Go(func() { w.pass(far, near) })
	}
}

func (w *tap) pass(to, from net.Conn) {
	_, _ = io.Copy(io.MultiWriter(to, w), from)
	to.(*net.TCPConn).CloseWrite()
}

// Write keeps p.
func (w *tap) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = append(w.heard, p...)
	return len(p), nil
}

// cut ends all connections there are.
func (w *tap) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

func (w *tap) all() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]byte(nil), w.heard...)
}
